"""One timed training of a peer for benchmarks.training: the last line is JSON with speed and memory."""

import json
import resource
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.torch_translator import TorchTranslator, loss_of
from benchmarks.training import WARM
from benchmarks.training_ours import RECIPE
from clearhead.core.devices import autocast, set_threads
from clearhead.core.recipe import read_recipe
from clearhead.data.batches import TranslationBatch
from clearhead.data.buckets import Place
from clearhead.model import ModelConfig
from clearhead.train import Recipe
from clearhead.train.materials import build_model, gather
from clearhead.train.stream import batch_stream

Loss = Callable[[TranslationBatch], Tensor]


def torch_transformer(config: ModelConfig, smoothing: float) -> tuple[nn.Module, Loss]:
    """torch.nn.Transformer with embeddings and a tied output."""
    model = TorchTranslator(config)
    return model, lambda batch: loss_of(model, batch, smoothing)


def marian(config: ModelConfig, smoothing: float) -> tuple[nn.Module, Loss]:
    """MarianMTModel of transformers."""
    from transformers import MarianConfig, MarianMTModel

    sizes = MarianConfig(
        vocab_size=config.target_vocab,
        d_model=config.d_model,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.heads,
        decoder_attention_heads=config.heads,
        encoder_ffn_dim=config.d_ff,
        decoder_ffn_dim=config.d_ff,
        dropout=config.dropout,
        activation_function="relu",
        pad_token_id=config.pad,
        decoder_start_token_id=config.pad,
        forced_eos_token_id=None,
        scale_embedding=True,
    )
    model = MarianMTModel(sizes)

    def loss(batch: TranslationBatch) -> Tensor:
        logits = model(
            input_ids=batch.source, attention_mask=batch.source_valid, decoder_input_ids=batch.target, use_cache=False
        ).logits
        return smoothed(logits, batch, smoothing)

    return model, loss


def x_transformers(config: ModelConfig, smoothing: float) -> tuple[nn.Module, Loss]:
    """Encoder and decoder of x-transformers."""
    from x_transformers import Decoder, Encoder, TransformerWrapper

    def side(layers: type, depth: int, **more: Any) -> nn.Module:
        stack = layers(
            dim=config.d_model, depth=depth, heads=config.heads, ff_mult=config.d_ff / config.d_model, **more
        )
        wrapper: nn.Module = TransformerWrapper(
            num_tokens=config.target_vocab, max_seq_len=512, attn_layers=stack, emb_dropout=config.dropout
        )
        return wrapper

    options = {"attn_dim_head": config.d_model // config.heads, "ff_dropout": config.dropout, "attn_flash": True}
    encoder = side(Encoder, config.encoder_layers, **options)
    decoder = side(Decoder, config.decoder_layers, cross_attend=True, **options)
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})

    def loss(batch: TranslationBatch) -> Tensor:
        memory = encoder(batch.source, mask=batch.source_valid, return_embeddings=True)
        logits = decoder(batch.target, context=memory, context_mask=batch.source_valid)
        return smoothed(logits, batch, smoothing)

    return model, loss


def smoothed(logits: Tensor, batch: TranslationBatch, smoothing: float) -> Tensor:
    """Mean label-smoothed cross-entropy over the tokens that count."""
    labels = batch.labels.masked_fill(~batch.counted, -100)
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=smoothing)


PEERS = {
    "torch.nn.Transformer": torch_transformer,
    "transformers Marian": marian,
    "x-transformers": x_transformers,
}


def main() -> None:
    """Arguments: peer, precision, run folder, overrides."""
    name, precision, out, *settings = sys.argv[1:]
    recipe = read_recipe(RECIPE, settings, Recipe)
    set_threads(0)
    materials = gather(recipe, Path(out))
    config = build_model(recipe, materials.source, materials.target).config
    model, loss = PEERS[name](config, 0.1)
    updates = batch_stream(recipe, materials.stores, (materials.source, materials.target), Place())
    batches = [batch for batch, _ in islice(updates, recipe.train.updates)]
    dtype = getattr(torch, precision)
    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    speed = max(timed(model, loss, batches, dtype, backend) for backend in backends)
    print(json.dumps({"speed": speed, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def timed(
    model: nn.Module, loss: Loss, updates: list[list[TranslationBatch]], dtype: torch.dtype, backend: SDPBackend
) -> float:
    """Target tokens a second over all updates but the first ones, with one attention back end."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)
    model.train()
    tokens, start = 0, 0.0
    with sdpa_kernel([backend, SDPBackend.MATH], set_priority=True):
        for number, batches in enumerate(updates):
            if number == WARM:
                tokens, start = 0, time.perf_counter()
            for batch in batches:
                with autocast(torch.device("cpu"), dtype):
                    value = loss(batch)
                (value / len(batches)).backward()
                tokens += batch.tokens
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return tokens / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
