"""The peer: torch.nn.Transformer in a plain loop, as tutorials write it, on the same ids, batches and schedule."""

import contextlib
import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from clearhead.core.devices import autocast
from clearhead.core.progress import track
from clearhead.data.batches import TranslationBatch
from clearhead.model import ModelConfig
from clearhead.model.position.sinusoidal import sinusoidal_table


class TorchTranslator(nn.Module):
    """torch.nn.Transformer with embeddings, sinusoidal positions and a tied output."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source = nn.Embedding(config.source_vocab, config.d_model, padding_idx=config.pad)
        self.target = nn.Embedding(config.target_vocab, config.d_model, padding_idx=config.pad)
        for table in (self.source, self.target):
            nn.init.normal_(table.weight, std=config.d_model**-0.5)
        self.register_buffer("table", sinusoidal_table(1_000, config.d_model))
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = nn.Transformer(
            config.d_model,
            config.heads,
            config.encoder_layers,
            config.decoder_layers,
            config.d_ff,
            config.dropout,
            batch_first=True,
        )

    def embed(self, tokens: Tensor, table: nn.Embedding) -> Tensor:
        scaled = table(tokens) * math.sqrt(self.config.d_model)
        return self.dropout(scaled + self.table[: tokens.shape[1]])

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        padding = source == self.config.pad
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        hidden = self.transformer(
            self.embed(source, self.source),
            self.embed(target, self.target),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return F.linear(hidden, self.target.weight)

    @torch.inference_mode()
    def greedy(self, sources: Sequence[Sequence[int]], bos: int, eos: int) -> list[list[int]]:
        """Greedy translations, 64 sources at a time, the whole prefix anew at each step."""
        results: list[list[int]] = []
        for start in range(0, len(sources), 64):
            batch = [torch.tensor(each) for each in sources[start : start + 64]]
            source = nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=self.config.pad)
            tokens = torch.full((len(batch), 1), bos)
            for _ in range(2 * source.shape[1] + 20):
                logits = self(source, tokens)[:, -1]
                logits[:, self.config.pad] = -torch.inf
                tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
                if bool((tokens == eos).any(dim=1).all()):
                    break
            for row in tokens[:, 1:].tolist():
                results.append(row[: row.index(eos)] if eos in row else row)
        return results


@dataclass(frozen=True)
class Plan:
    """How the plain loop learns."""

    updates: int
    rate: float  # peak
    warmup: int
    smoothing: float
    clip: float


SETTINGS: dict[str, tuple[torch.dtype, SDPBackend | None]] = {  # how a careful user might run the peer
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "bfloat16, plain attention": (torch.bfloat16, SDPBackend.MATH),
}


def train(model: TorchTranslator, batches: Iterator[TranslationBatch], plan: Plan, setting: str) -> float:
    """The plain loop; returns its seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9)
    model.train()
    start = time.perf_counter()
    with track("update", plan.updates) as bar, _attention(SETTINGS[setting][1]):
        for update in range(1, plan.updates + 1):
            done = min(1.0, max(0.0, (update - plan.warmup) / (plan.updates - plan.warmup)))
            rate = plan.rate * min(1.0, update / plan.warmup) * 0.5 * (1 + math.cos(math.pi * done))
            with autocast(torch.device("cpu"), SETTINGS[setting][0]):
                loss = loss_of(model, next(batches), plan.smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            bar(update)
    return time.perf_counter() - start


def loss_of(model: TorchTranslator, batch: TranslationBatch, smoothing: float) -> Tensor:
    """Mean label-smoothed cross-entropy over the tokens that count."""
    labels = batch.labels.masked_fill(~batch.counted, -100)
    logits = model(batch.source, batch.target)
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=smoothing)


def fastest_setting(model: TorchTranslator, batches: Sequence[TranslationBatch], plan: Plan) -> str:
    """The setting under which a few updates on a copy take the least time."""
    trial = replace(plan, updates=len(batches), warmup=1)
    seconds = {}
    for setting in SETTINGS:
        train(copy.deepcopy(model), iter(batches), trial, setting)  # kernels are compiled for new shapes
        seconds[setting] = train(copy.deepcopy(model), iter(batches), trial, setting)
    return min(seconds, key=seconds.__getitem__)


def _attention(backend: SDPBackend | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if backend is None else sdpa_kernel(backend)
