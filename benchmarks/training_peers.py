"""One training of a peer in a plain loop for benchmarks.training; what is imported here counts as its memory."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from clearhead.core.allocator import keep_free_pages
from clearhead.core.devices import autocast, set_threads

Peer = tuple[nn.Module, Callable[[Any], Tensor]]  # a model, and the logits (batch, length, vocab) of a batch
KERNELS = {"fused": SDPBackend.FLASH_ATTENTION, "plain": SDPBackend.MATH}  # of attention


def torch_transformer(config: Any) -> Peer:
    """torch.nn.Transformer with one table of embeddings, tied to the output."""
    from benchmarks.torch_translator import TorchTranslator

    model = TorchTranslator(config)
    if config.tie == "all":
        model.source = model.target
    _leave_dropout_to_residuals(model)
    return model, lambda batch: model(batch.source, batch.target)


def marian(config: Any) -> Peer:
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
        activation_function=config.activation,
        pad_token_id=config.pad,
        decoder_start_token_id=config.pad,
        forced_eos_token_id=None,
        scale_embedding=True,
    )
    model = MarianMTModel(sizes)

    def logits(batch: Any) -> Any:
        return model(
            input_ids=batch.source, attention_mask=batch.source_valid, decoder_input_ids=batch.target, use_cache=False
        ).logits

    return model, logits


def x_transformers(config: Any) -> Peer:
    """Encoder and decoder of x-transformers with one table of embeddings, tied to the output."""
    from x_transformers import Decoder, Encoder  # type: ignore[import-untyped]

    encoder = _wrapped(Encoder, config.encoder_layers, config)
    decoder = _wrapped(Decoder, config.decoder_layers, config, cross_attend=True)
    if config.tie == "all":
        encoder.token_emb = decoder.token_emb
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})

    def logits(batch: Any) -> Any:
        memory = encoder(batch.source, mask=batch.source_valid, return_embeddings=True)
        return decoder(batch.target, context=memory, context_mask=batch.source_valid)

    return model, logits


def torch_decoder(config: Any) -> Peer:
    """torch.nn.TransformerEncoder with a causal mask, learned positions and a tied output."""
    model = TorchDecoder(config)
    _leave_dropout_to_residuals(model)
    return model, lambda batch: model(batch.ids)


class TorchDecoder(nn.Module):
    """Layers of torch, each of which sees the tokens before its own."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.target_vocab, config.d_model)
        self.positions = nn.Embedding(config.length, config.d_model)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.d_model,
            config.heads,
            config.d_ff,
            config.dropout,
            config.activation,
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(config.d_model)
        self.layers = nn.TransformerEncoder(layer, config.decoder_layers, norm, enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.dropout(self.tokens(ids) + self.positions.weight[: ids.shape[1]])  # (batch, length, d_model)
        causal = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return F.linear(self.layers(hidden, mask=causal, is_causal=True), self.tokens.weight)


def gpt2(config: Any) -> Peer:
    """GPT2LMHeadModel of transformers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = GPT2Config(
        vocab_size=config.target_vocab,
        n_positions=config.length,
        n_embd=config.d_model,
        n_layer=config.decoder_layers,
        n_head=config.heads,
        n_inner=config.d_ff,
        activation_function=config.activation,  # not gelu_new, which is slower
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(sizes)
    return model, lambda batch: model(input_ids=batch.ids, use_cache=False).logits


def x_decoder(config: Any) -> Peer:
    """A decoder of x-transformers, tied to its output."""
    from x_transformers import Decoder

    model = _wrapped(Decoder, config.decoder_layers, config)
    return model, lambda batch: model(batch.ids)


PEERS: dict[str, Callable[[Any], Peer]] = {
    "torch.nn.Transformer": torch_transformer,
    "transformers Marian": marian,
    "x-transformers": x_transformers,
    "torch.nn.TransformerEncoder": torch_decoder,
    "transformers GPT-2": gpt2,
    "x-transformers decoder": x_decoder,
}


def _wrapped(layers: Any, depth: int, config: Any, **more: Any) -> Any:
    """One side of x-transformers."""
    from x_transformers import TransformerWrapper

    stack = layers(
        dim=config.d_model,
        depth=depth,
        heads=config.heads,
        attn_dim_head=config.d_model // config.heads,
        attn_flash=True,
        ff_mult=config.d_ff / config.d_model,
        ff_dropout=config.dropout,
        ff_custom_activation=nn.ReLU() if config.activation == "relu" else None,  # else GELU
        **more,
    )
    return TransformerWrapper(
        num_tokens=config.target_vocab,
        max_seq_len=config.length,
        attn_layers=stack,
        emb_dropout=config.dropout,
        tie_embedding=True,
    )


def _leave_dropout_to_residuals(model: nn.Module) -> None:
    """Take torch's layers the dropout of attention weights and inside the feed-forward network: ours has none there."""
    for each in model.modules():
        if isinstance(each, nn.MultiheadAttention):
            each.dropout = 0.0
        if isinstance(each, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            each.dropout = nn.Identity()  # type: ignore[assignment]


def main() -> None:
    """Arguments: peer, precision, kernel, folder of training_ours, record, the two updates whose lines are written."""
    name, precision, kernel, folder, record, *lines = sys.argv[1:]
    set_threads(0)
    torch.manual_seed(0)
    about = SimpleNamespace(**json.loads((Path(folder) / "model.json").read_text(encoding="utf-8")))
    updates = batches_in(Path(folder) / "batches.safetensors")[: max(map(int, lines))]
    model, logits = PEERS[name](about)
    print(f"{sum(each.numel() for each in model.parameters()):,} parameters; ours: {about.parameters:,}", flush=True)

    def loss(batch: Any) -> Tensor:
        labels = batch.labels.masked_fill(~batch.counted, -100).flatten()
        return F.cross_entropy(logits(batch).flatten(0, 1).float(), labels, label_smoothing=about.smoothing)

    with sdpa_kernel(list({KERNELS[kernel]: 0, SDPBackend.MATH: 1}), set_priority=True):
        train(model, loss, updates, getattr(torch, precision), Path(record), [int(each) for each in lines])


def batches_in(path: Path) -> list[list[Any]]:
    """The batches of each update, as training_ours has written them."""
    found: dict[int, dict[int, dict[str, Tensor | None]]] = {}
    for key, each in load_file(path).items():
        update, number, name = key.split(".")
        found.setdefault(int(update), {}).setdefault(int(number), {"source_valid": None})[name] = each
    return [[SimpleNamespace(**found[update][each]) for each in sorted(found[update])] for update in sorted(found)]


def train(
    model: nn.Module,
    loss: Callable[[Any], Tensor],
    updates: Sequence[Sequence[Any]],
    dtype: torch.dtype,
    record: Path,
    lines: Sequence[int],
) -> None:
    """The plain loop; a line of the record after some updates."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)
    model.train()
    counts = [sum(int(each.counted.sum()) for each in batches) for batches in updates]
    start = time.perf_counter()
    for number, batches in enumerate(updates, start=1):
        for batch in batches:
            with autocast(torch.device("cpu"), dtype):
                value = loss(batch)
            (value / len(batches)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if number in lines:
            line = {"kind": "train", "update": number, "tokens": sum(counts[:number])}
            with open(record, "a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "seconds": time.perf_counter() - start}) + "\n")


if __name__ == "__main__":
    keep_free_pages()  # as ours does, where jemalloc is the one that is tried
    main()
