"""The doorway of the searches: a model and texts in, hypotheses out; in batches, for any number of texts."""

from collections.abc import Callable, Sequence

import torch

from clearhead.core.batching import cut
from clearhead.core.errors import ModelError
from clearhead.generate.searches.base import SEARCHES, Hypothesis, Search
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.writer import Writer, check_model
from clearhead.model import Transformer


@torch.inference_mode()
def search(
    model: Transformer, sources: Sequence[Sequence[int]], config: SearchConfig, *, bos: int | None = None, eos: int
) -> list[list[Hypothesis]]:
    """The best target sequences for each source, or the best continuations of each prompt.

    Args:
        model: an encoder-decoder or a decoder-only model, in eval mode.
        sources: for an encoder-decoder ids of each source, end of sentence included; for a decoder-only model ids of
            each prompt, begin of sentence included. None may be empty.
        config: the method, beams, penalties, limits.
        bos: what an encoder-decoder begins a target with; a decoder-only model needs none.
        eos: what ends a target.

    Returns:
        For each source its n_best hypotheses, best first; fewer only where no more are possible. An encoder-decoder
        never chooses padding, so the probabilities are those of the other tokens.

    Raises:
        ModelError: the model is in training mode, a source is empty or has an unknown token, a prompt is longer than
            the model's positions reach, or the logits are not numbers.
    """
    check_model(model, bos)
    if not sources:
        return []
    writer = Writer(model, sources, bos=bos, eos=eos)
    method = SEARCHES.build(config.chosen, config)
    return method.run(writer, [_limit(model, method, len(each)) for each in sources])


def search_all(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    config: SearchConfig,
    *,
    bos: int | None = None,
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
