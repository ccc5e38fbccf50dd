"""Beam search over an encoder-decoder, batched, with caches; one beam is greedy search.

The parts, in the order of a step: `_branch` (the best one-token continuations of each source), `_finish` (those that
end enter the pool of results), `_continue` (the others become the new beams), `_unfinished` and `_keep` (sources that
are done leave the batch). Source: Sutskever et al., 2014, section 3.2; length penalty: Wu et al., 2016,
arXiv:1609.08144, section 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clearhead.core.batching import cut
from clearhead.core.errors import ModelError
from clearhead.generate.cache import DenseCache
from clearhead.generate.config import SearchConfig
from clearhead.model import OPEN, Memory, Transformer

PENALTIES: dict[str, Callable[[int, float], float]] = {
    "average": lambda length, alpha: float(length) ** alpha,
    "gnmt": lambda length, alpha: ((5.0 + length) / 6.0) ** alpha,
}


@dataclass(frozen=True)
class Hypothesis:
    """One result of a search."""

    tokens: list[int]  # without begin and end of sentence
    score: float  # log-probability divided by the length penalty; what the search ranks by
    log_probability: float  # nats, of the tokens and of the end of sentence, unless the length limit cut it off


@dataclass
class _Pool:
    """The best hypotheses of one source so far."""

    limit: int  # the most tokens of a hypothesis, end of sentence included
    places: int
    found: list[Hypothesis] = field(default_factory=list)  # best first

    def add(self, hypothesis: Hypothesis) -> None:
        self.found = sorted([*self.found, hypothesis], key=lambda each: -each.score)[: self.places]

    @property
    def bar(self) -> float:
        """The score that a new hypothesis must beat."""
        return self.found[-1].score if len(self.found) == self.places else -torch.inf


@dataclass
class _State:
    """B sources with K beams each; T tokens so far, the begin of sentence included."""

    pools: list[_Pool]  # B
    memory: Memory
    cache: DenseCache
    tokens: Tensor  # (B, K, T)
    totals: Tensor  # (B, K) log-probability of each beam, nats, best first
    limits: Tensor  # (B,) those of the pools


@torch.inference_mode()
def search(
    model: Transformer, sources: Sequence[Sequence[int]], config: SearchConfig, *, bos: int, eos: int
) -> list[list[Hypothesis]]:
    """The best target sequences for each source.

    A source is done when its pool is full and its best beam, were it to end now, would not enter. That is the
    customary bound and not a proof: with a length penalty a beam may still gain by growing.

    Args:
        model: an encoder-decoder in eval mode.
        sources: ids of each source, end of sentence included; none may be empty.
        config: beams, penalties, limits.
        bos, eos: ids that begin and end a target.

    Returns:
        For each source its n_best hypotheses, best first; fewer only where no more are possible. Padding is never
        chosen, so the probabilities are those of the other tokens.

    Raises:
        ModelError: the model is in training mode, a source is empty, or the logits are not numbers.
    """
    _check(model, sources)
    if not sources:
        return []
    state = _start(model, sources, config, bos)
    pools = state.pools
    while state.pools:
        totals, beams, tokens = _branch(model, state, eos)
        _finish(state, totals, beams, tokens, eos, config)
        rows = _continue(state, totals, beams, tokens, eos)
        _keep(state, rows, _unfinished(state, config))
    return [each.found[: config.n_best] for each in pools]


def search_all(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    config: SearchConfig,
    *,
    bos: int,
    eos: int,
    budget: int = 2_048,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[Hypothesis]]:
    """`search` over any number of sources: in batches of similar length, results in the order of the sources.

    Args:
        budget: padded source tokens times beams in one batch.
        progress: called with the number of sources done.
    """
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    results: list[list[Hypothesis]] = [[] for _ in sources]
    for part in cut([len(sources[index]) * config.beams for index in order], budget):
        batch = order[part]
        found = search(model, [sources[index] for index in batch], config, bos=bos, eos=eos)
        for index, each in zip(batch, found, strict=True):
            results[index] = each
        progress(part.stop)
    return results


def _check(model: Transformer, sources: Sequence[Sequence[int]]) -> None:
    if model.training:
        raise ModelError("a model in training mode drops features at random", remedy="call model.eval() first")
    for index, each in enumerate(sources):
        if not len(each):
            raise ModelError("a source has no tokens", found=f"source {index}", expected="at least an end of sentence")


def _start(model: Transformer, sources: Sequence[Sequence[int]], config: SearchConfig, bos: int) -> _State:
    device, count = model.output.device, len(sources)
    pools = [_Pool(_limit(model, config, len(each)), config.beams) for each in sources]
    precision = torch.promote_types(model.output.dtype, torch.float32)
    totals = torch.full((count, config.beams), -torch.inf, dtype=precision, device=device)
    totals[:, 0] = 0.0  # all beams are the same at the start: only the first may branch
    return _State(
        pools=pools,
        memory=_read(model, sources),
        cache=DenseCache(model.config.decoder_layers),
        tokens=torch.full((count, config.beams, 1), bos, device=device),
        totals=totals,
        limits=torch.tensor([each.limit for each in pools], device=device),
    )


def _limit(model: Transformer, config: SearchConfig, source: int) -> int:
    """The most tokens of a target: what the config allows, and the model's positions reach."""
    allowed, reach = config.limit(source), model.longest_target
    return allowed if reach is None else min(allowed, reach)


def _read(model: Transformer, sources: Sequence[Sequence[int]]) -> Memory:
    """Pad the sources on the right and encode them."""
    lengths = torch.tensor([len(each) for each in sources])
    valid = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, source)
    ids = torch.full(valid.shape, model.config.pad)
    ids[valid] = torch.tensor([token for each in sources for token in each])
    device = model.output.device
    return model.encode(ids.to(device), None if bool(valid.all()) else valid.to(device))


def _branch(model: Transformer, state: _State, eos: int) -> tuple[Tensor, Tensor, Tensor]:
    """The 2K best continuations of each source: totals, the beam each extends, its token; each (B, 2K)."""
    count, beams, _ = state.tokens.shape
    logits = _logits(model, state, eos)  # (B * K, vocab)
    width = min(beams + 1, logits.shape[1])
    best, tokens = logits.topk(width, dim=1)  # (B * K, K + 1): of a beam K go on at most, and one ends
    peak = best[:, :1].clone()
    best = best - peak - logits.sub_(peak).exp_().sum(dim=1, keepdim=True).log()  # log-softmax, in place
    totals = (state.totals[:, :, None] + best.view(count, beams, width)).flatten(1)  # (B, K * (K + 1))
    totals, index = totals.topk(min(2 * beams, totals.shape[1]), dim=1)
    return totals, index // width, tokens.view(count, -1).gather(1, index)


def _logits(model: Transformer, state: _State, eos: int) -> Tensor:
    """Logits of the next token of every beam, (B * K, vocab), at least float32; padding is never chosen."""
    newest = state.tokens[:, :, -1].reshape(-1, 1)  # (B * K, 1)
    position = torch.full((1, 1), state.tokens.shape[2] - 1, device=newest.device)
    hidden = model.decode(newest, state.memory, positions=position, mask=OPEN, cache=state.cache)
    logits = model.logits(hidden[:, -1]).to(state.totals.dtype)  # (B * K, vocab)
    if model.config.pad != eos:
        logits[:, model.config.pad] = -torch.inf
    return logits


def _finish(state: _State, totals: Tensor, beams: Tensor, tokens: Tensor, eos: int, config: SearchConfig) -> None:
    """Let continuations that end now, and rank among the first K, compete for the K places of their pool.

    At a source's length limit its best continuations enter as they are, so that every source has results.
    """
    length = state.tokens.shape[2]  # tokens chosen once this step is done
    ends = (tokens == eos) | (state.limits <= length)[:, None]
    ends[:, config.beams :] = False
    sources, ranks = (ends & totals.isfinite()).nonzero(as_tuple=True)  # each (ended,)
    history = state.tokens[sources, beams[sources, ranks], 1:]  # (ended, length - 1)
    chosen = torch.cat([history, tokens[sources, ranks, None]], dim=1).tolist()
    penalty = PENALTIES[config.penalty](length, config.length_penalty)
    for source, ids, total in zip(sources.tolist(), chosen, totals[sources, ranks].tolist(), strict=True):
        kept = ids[:-1] if ids[-1] == eos else ids
        state.pools[source].add(Hypothesis(kept, total / penalty, total))


def _continue(state: _State, totals: Tensor, beams: Tensor, tokens: Tensor, eos: int) -> Tensor:
    """The K best continuations that did not end become the beams of the next step.

    Returns:
        (B, K), which row of the cache each new beam continues.
    """
    count, places, length = state.tokens.shape
    state.totals, best = totals.masked_fill(tokens == eos, -torch.inf).topk(places, dim=1)
    beams, tokens = beams.gather(1, best), tokens.gather(1, best)  # (B, K)
    history = state.tokens.gather(1, beams[:, :, None].expand(-1, -1, length))
    state.tokens = torch.cat([history, tokens[:, :, None]], dim=2)  # (B, K, T + 1)
    return beams + places * torch.arange(count, device=beams.device)[:, None]


def _unfinished(state: _State, config: SearchConfig) -> Tensor:
    """Which sources need another step, (B,) bool."""
    length = state.tokens.shape[2] - 1  # tokens chosen so far
    best = state.totals[:, 0]
    bars = torch.tensor([each.bar for each in state.pools], dtype=best.dtype, device=best.device)
    attainable = best / PENALTIES[config.penalty](length, config.length_penalty)
    unfinished = best.isfinite() & (state.limits > length) & (attainable > bars)
    for index in (~unfinished).nonzero()[:, 0].tolist():
        if not state.pools[index].found:
            raise ModelError("the model's logits are not numbers", remedy="look where training diverged")
    return unfinished


def _keep(state: _State, rows: Tensor, unfinished: Tensor) -> None:
    """Drop the sources that are done, and bring the cache in the order of the new beams; rows: (B, K)."""
    if not bool(unfinished.all()):
        keep = unfinished.nonzero()[:, 0]
        state.pools = [state.pools[index] for index in keep.tolist()]
        state.tokens, state.totals, state.limits = state.tokens[keep], state.totals[keep], state.limits[keep]
        valid = None if state.memory.valid is None else state.memory.valid[keep]
        state.memory = Memory(state.memory.hidden[keep], valid)
        state.cache.select_sources(keep)
        state.cache.select(rows[keep].flatten())
    elif rows.shape[1] > 1:
        state.cache.select(rows.flatten())
