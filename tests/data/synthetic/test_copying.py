"""Tasks that move tokens, against loops over lists."""

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic import IGNORED, Copy, Delay, Offset, Retrieve, Reverse

RULES = [
    (Copy, {}, lambda source: source),
    (Reverse, {}, lambda source: source[::-1]),
    (Offset, {"offset": 3}, lambda source: source[3 % len(source) :] + source[: 3 % len(source)]),
    (Offset, {"offset": 0}, lambda source: source),
]
EACH_RULE = pytest.mark.parametrize(("kind", "options", "rule"), RULES)


def generator():
    return torch.Generator().manual_seed(5)


@EACH_RULE
@pytest.mark.parametrize("shortest", [None, 1, 2])
def test_in_one_sequence_the_target_is_asked_behind_the_separator(kind, options, rule, shortest):
    samples = kind(length=7, shortest=shortest, symbols=5, **options).draw(200, generator())
    assert samples.tokens.shape == (200, 14)
    seen = set()
    for row, (tokens, labels) in enumerate(zip(samples.tokens.tolist(), samples.labels.tolist(), strict=True)):
        count = tokens.index(1)
        seen.add(count)
        source = tokens[:count]
        target = rule(source)
        assert all(2 <= each <= 6 for each in source)
        assert tokens == source + [1] + target[:-1] + [0] * (14 - 2 * count)
        assert labels == [IGNORED] * count + target + [IGNORED] * (14 - 2 * count)
        if samples.valid is not None:
            assert samples.valid[row].tolist() == [place < 2 * count for place in range(14)]
    assert seen == set(range(shortest or 7, 8))
    assert (samples.valid is None) == (shortest is None)


@EACH_RULE
@pytest.mark.parametrize("shortest", [None, 2])
def test_with_an_encoder_the_source_stands_alone(kind, options, rule, shortest):
    made = kind(length=7, shortest=shortest, symbols=5, form="encoder_decoder", **options)
    samples = made.draw(200, generator())
    triples = zip(samples.source.tolist(), samples.tokens.tolist(), samples.labels.tolist(), strict=True)
    for row, (padded, tokens, labels) in enumerate(triples):
        source = [each for each in padded if each]
        target, rest = rule(source), 7 - len(source)
        assert padded == source + [0] * rest
        assert tokens == [1] + target[:-1] + [0] * rest
        assert labels == target + [IGNORED] * rest
        if samples.valid is not None:
            assert samples.valid[row].tolist() == samples.source_valid[row].tolist() == [e != 0 for e in padded]


@pytest.mark.parametrize("delay", [0, 1, 3, 6])
def test_a_delay_asks_for_the_token_that_far_back(delay):
    samples = Delay(delay=delay, length=7, symbols=5).draw(50, generator())
    for tokens, labels in zip(samples.tokens.tolist(), samples.labels.tolist(), strict=True):
        assert labels == [IGNORED] * delay + [tokens[place - delay] for place in range(delay, 7)]


@pytest.mark.parametrize("distance", [None, 1, 7])
@pytest.mark.parametrize("form", ["decoder", "encoder_decoder"])
def test_retrieval_counts_from_the_end(distance, form):
    samples = Retrieve(length=7, symbols=5, distance=distance, form=form).draw(300, generator())
    sources = samples.tokens[:, :7] if form == "decoder" else samples.source
    back = samples.tokens[:, -1] - 6  # symbols are 2 to 6, distances 7 to 13
    for source, far, label in zip(sources.tolist(), back.tolist(), samples.labels[:, -1].tolist(), strict=True):
        assert distance in (None, far)
        assert label == source[-far]
    assert bool((samples.labels[:, :-1] == IGNORED).all())
    assert set(back.tolist()) == (set(range(1, 8)) if distance is None else {distance})


@pytest.mark.parametrize(
    ("kind", "options"), [(Copy, {"shortest": 9}), (Delay, {"delay": 32}), (Retrieve, {"distance": 17})]
)
def test_what_does_not_fit_into_the_length_is_refused(kind, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        kind(**options)
