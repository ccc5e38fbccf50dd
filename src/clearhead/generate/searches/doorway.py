"""The doorway of the searches: a model and texts in, hypotheses out; in batches, for any number of texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from clearhead.core.batching import cut
from clearhead.core.errors import ModelError
from clearhead.generate.searches.base import SEARCHES, Hypothesis, Search
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.writer import Writer, check_model
from clearhead.model import Transformer


@torch.inference_mode()
def search(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    config: SearchConfig,
    *,
    bos: int | None = None,
    eos: int,
    forced: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """The best target sequences for each source, or the best continuations of each prompt.

    Args:
        model: an encoder-decoder or a decoder-only model, in eval mode.
        sources: for an encoder-decoder ids of each source, end of sentence included; for a decoder-only model ids of
            each prompt, begin of sentence included. None may be empty.
        config: the method, beams, penalties, limits.
        bos: what an encoder-decoder begins a target with; a decoder-only model needs none.
        eos: what ends a target.
        forced: what every target has after bos, such as the token of its language. It counts for lengths and their
            penalty, is certain, and is left out of the hypotheses, as the begin that it is.

    Returns:
        For each source its n_best hypotheses, best first; fewer only where no more are possible. An encoder-decoder
        never chooses padding, so the probabilities are those of the other tokens.

    Raises:
        ModelError: the model is in training mode, a source is empty or has an unknown token, a prompt is longer than
            the model's positions reach, or the logits are not numbers.
    """
    check_model(model, bos, forced)
    if not sources:
        return []
    writer = Writer(model, sources, bos=bos, eos=eos, forced=forced)
    method = SEARCHES.build(config.chosen, config)
    found = method.run(writer, [_limit(model, method, len(each)) for each in sources])
    return [[replace(each, tokens=each.tokens[len(forced) :]) for each in hypotheses] for hypotheses in found]


def search_all(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    config: SearchConfig,
    *,
    bos: int | None = None,
    eos: int,
    forced: Sequence[int] = (),
    budget: int = 2_048,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[Hypothesis]]:
    """`search` over any number of sources: in batches of similar length, results in the order of the sources.

    Args:
        budget: padded source tokens times beams in one batch.
        progress: called with the number of sources done.
    """
    results: list[list[Hypothesis]] = [[] for _ in sources]
    found = search_each(model, sources, config, bos=bos, eos=eos, forced=forced, budget=budget)
    for done, (index, each) in enumerate(found, start=1):
        results[index] = each
        progress(done)
    return results


def search_each(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    config: SearchConfig,
    *,
    bos: int | None = None,
    eos: int,
    forced: Sequence[int] = (),
    budget: int = 2_048,
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """The same as soon as a batch is done: the place of a source, and its hypotheses; early sources come early."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    batches = [order[part] for part in cut([len(sources[index]) * config.beams for index in order], budget)]
    for batch in sorted(batches, key=min):
        found = search(model, [sources[index] for index in batch], config, bos=bos, eos=eos, forced=forced)
        yield from zip(batch, found, strict=True)


def _limit(model: Transformer, method: Search, source: int) -> int:
    """The most tokens that may be written: what the config allows, and the model's positions reach."""
    allowed, reach = method.config.limit(source), model.longest_target
    if reach is None:
        return allowed
    begun = 1 if model.config.encoder_layers else source  # tokens that the decoder has read at first
    room = reach + 1 - begun - method.ahead  # the last token is chosen, and not read
    if room < 1:
        expected = f"at most {reach - method.ahead}"
        raise ModelError("a prompt is longer than the model's positions", found=begun, expected=expected)
    return min(allowed, room)
