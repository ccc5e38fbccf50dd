"""Beam search over an encoder-decoder, batched, with caches; one beam is greedy search.

The parts, in the order of a step: `_scores` (log-probabilities of every one-token continuation), `_branch` (the
best continuations of each source), `_finish` (those that ended enter the pool of results), `_continue` (the
others become the new beams). Source: Sutskever et al., 2014, section 3.2; length penalty: Wu et al., 2016,
arXiv:1609.08144, section 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clearhead.core.batching import cut
from clearhead.generate.cache import DenseCache
from clearhead.generate.config import SearchConfig
from clearhead.model import AttentionMask, Memory, Transformer

PENALTIES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "average": lambda length, alpha: length**alpha,
    "gnmt": lambda length, alpha: ((5.0 + length) / 6.0) ** alpha,
}


@dataclass(frozen=True)
class Hypothesis:
    """One result of a search."""

    tokens: list[int]  # without begin and end of sentence
    score: float  # log-probability divided by the length penalty; what the search ranks by
    log_probability: float  # nats, of the tokens and the end of sentence


@dataclass
class _State:
    """B sources with K beams each; T tokens so far, the begin of sentence included."""

    sources: Tensor  # (B,) index of each source in the caller's order
    memory: Memory
    cache: DenseCache
    tokens: Tensor  # (B, K, T)
    totals: Tensor  # (B, K) log-probability of each beam, nats
    limits: Tensor  # (B,) most tokens of each result
    pool_tokens: Tensor  # (B, K, longest) results so far, padded
    pool_totals: Tensor  # (B, K)
    pool_scores: Tensor  # (B, K) -inf where there is none yet


@torch.inference_mode()
def search(
    model: Transformer, sources: Sequence[Sequence[int]], config: SearchConfig, *, bos: int, eos: int
) -> list[list[Hypothesis]]:
    """The best target sequences for each source.

    Args:
        model: an encoder-decoder in eval mode.
        sources: ids of each source, end of sentence included; none may be empty.
        config: beams, penalties, limits.
        bos, eos: ids that begin and end a target.

    Returns:
        For each source its n_best hypotheses, best first.
    """
    if not sources:
        return []
    state = _start(model, sources, config, bos)
    results: list[list[Hypothesis]] = [[] for _ in sources]
    while state.sources.numel():
        scores = _scores(model, state)
        totals, beams, tokens = _branch(state, scores)
        _finish(state, totals, beams, tokens, eos, config)
        _continue(state, totals, beams, tokens, eos)
        _collect(state, results, config, eos)
    return results


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


def _start(model: Transformer, sources: Sequence[Sequence[int]], config: SearchConfig, bos: int) -> _State:
    device, count, beams = model.output.device, len(sources), config.beams
    longest = max(len(each) for each in sources)
    ids = torch.full((count, longest), model.config.pad)
    for row, each in enumerate(sources):
        ids[row, : len(each)] = torch.tensor(each)
    lengths = torch.tensor([len(each) for each in sources], device=device)
    valid = torch.arange(longest, device=device) < lengths[:, None]  # (B, source)
    memory = model.encode(ids.to(device), None if bool(valid.all()) else valid)
    limits = torch.tensor([config.limit(len(each)) for each in sources], device=device)
    totals = torch.full((count, beams), -torch.inf, device=device)
    totals[:, 0] = 0.0  # all beams are the same at the start: only the first may branch
    return _State(
        sources=torch.arange(count, device=device),
        memory=memory,
        cache=DenseCache(model.config.decoder_layers),
        tokens=torch.full((count, beams, 1), bos, device=device),
        totals=totals,
        limits=limits,
        pool_tokens=torch.zeros((count, beams, int(limits.max()) + 2), dtype=torch.long, device=device),
        pool_totals=torch.full((count, beams), -torch.inf, device=device),
        pool_scores=torch.full((count, beams), -torch.inf, device=device),
    )


def _scores(model: Transformer, state: _State) -> Tensor:
    """Log-probabilities of the next token, (B, K, vocab) float32, without the padding token."""
    count, beams, length = state.tokens.shape
    newest = state.tokens[:, :, -1].reshape(-1, 1)  # (B * K, 1)
    position = torch.full((1, 1), length - 1, device=newest.device)
    hidden = model.decode(newest, state.memory, positions=position, mask=AttentionMask(), cache=state.cache)
    logits = model.logits(hidden[:, -1]).float()  # (B * K, vocab)
    logits[:, model.config.pad] = -torch.inf
    return logits.log_softmax(dim=-1).view(count, beams, -1)


def _branch(state: _State, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The 2K best continuations of each source: totals, the beam each extends, its token; each (B, 2K)."""
    count, beams, vocab = scores.shape
    everything = (state.totals[:, :, None] + scores).view(count, -1)  # (B, K * vocab)
    totals, index = everything.topk(min(2 * beams, everything.shape[1]), dim=1)
    return totals, index // vocab, index % vocab


def _finish(
    state: _State, totals: Tensor, beams: Tensor, tokens: Tensor, eos: int, config: SearchConfig
) -> None:
    """Let continuations that end now, and rank among the first K, compete for the K places of the pool.

    At a source's length limit its best continuations enter as they are, so that every source has results.
    """
    places, length = config.beams, state.tokens.shape[2]  # `length` tokens are chosen once this step is done
    rank = torch.arange(totals.shape[1], device=totals.device)
    last = (state.limits <= length)[:, None]  # (B, 1)
    ends = ((tokens == eos) | last) & (rank < places) & totals.isfinite()
    size = torch.full_like(totals, float(length))
    scores = totals / PENALTIES[config.penalty](size, config.length_penalty)
    scores = scores.masked_fill(~ends, -torch.inf)
    history = _take(state.tokens, beams)  # (B, 2K, T)
    padding = state.pool_tokens.shape[2] - length - 1
    candidates = torch.nn.functional.pad(torch.cat([history, tokens[:, :, None]], dim=2), (0, padding))
    all_scores = torch.cat([state.pool_scores, scores], dim=1)  # (B, 3K)
    state.pool_scores, best = all_scores.topk(places, dim=1)
    state.pool_totals = torch.cat([state.pool_totals, totals], dim=1).gather(1, best)
    state.pool_tokens = _take(torch.cat([state.pool_tokens, candidates], dim=1), best)


def _continue(state: _State, totals: Tensor, beams: Tensor, tokens: Tensor, eos: int) -> None:
    """The K best continuations that did not end become the beams of the next step."""
    count, places, _ = state.tokens.shape
    state.totals, best = totals.masked_fill(tokens == eos, -torch.inf).topk(places, dim=1)
    beams, tokens = beams.gather(1, best), tokens.gather(1, best)  # (B, K)
    state.tokens = torch.cat([_take(state.tokens, beams), tokens[:, :, None]], dim=2)
    if places > 1:
        rows = beams + places * torch.arange(count, device=beams.device)[:, None]
        state.cache.select(rows.flatten())


def _collect(state: _State, results: list[list[Hypothesis]], config: SearchConfig, eos: int) -> None:
    """Hand out the results of sources that are done and drop them from the batch."""
    length = state.tokens.shape[2] - 1  # tokens chosen so far
    size = torch.full_like(state.totals[:, 0], float(length))
    attainable = state.totals[:, 0] / PENALTIES[config.penalty](size, config.length_penalty)
    done = (state.pool_scores[:, -1] >= attainable) | (state.limits <= length) | ~state.totals[:, 0].isfinite()
    if not bool(done.any()):
        return
    for row in done.nonzero()[:, 0].tolist():
        results[int(state.sources[row])] = _hypotheses(state, row, config, eos)
    keep = (~done).nonzero()[:, 0]
    places = state.tokens.shape[1]
    rows = (keep[:, None] * places + torch.arange(places, device=keep.device)).flatten()
    state.cache.select(rows)
    state.cache.select_sources(keep)
    valid = None if state.memory.valid is None else state.memory.valid[keep]
    state.memory = Memory(state.memory.hidden[keep], valid)
    for name in ("sources", "tokens", "totals", "limits", "pool_tokens", "pool_totals", "pool_scores"):
        setattr(state, name, getattr(state, name)[keep])


def _hypotheses(state: _State, row: int, config: SearchConfig, eos: int) -> list[Hypothesis]:
    found = []
    for place in range(config.n_best):
        score = float(state.pool_scores[row, place])
        if score == -torch.inf:
            break
        tokens = state.pool_tokens[row, place].tolist()[1:]
        limit = int(state.limits[row])
        end = tokens.index(eos) if eos in tokens[:limit] else limit
        found.append(Hypothesis(tokens[:end], score, float(state.pool_totals[row, place])))
    return found


def _take(states: Tensor, index: Tensor) -> Tensor:
    """Rows of (B, n, T) by index (B, m) -> (B, m, T)."""
    return states.gather(1, index[:, :, None].expand(-1, -1, states.shape[2]))
