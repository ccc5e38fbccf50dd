"""What holds for every synthetic task, generated from the registry."""

import itertools
import typing

import pytest
import torch

from clearhead.core.errors import ConfigError, DataError
from clearhead.core.registry import Choice
from clearhead.data.synthetic import IGNORED, TASKS

EACH = pytest.mark.parametrize("name", TASKS.names())


def task(name, **options):
    try:
        return TASKS.build(Choice(kind=name, options=options))
    except DataError as error:  # the package that it needs is not installed
        pytest.skip(str(error))


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def variants():
    """Every task with every combination of those options that are a choice among names."""
    for name in TASKS.names():
        hints = typing.get_type_hints(TASKS.get(name).__init__)
        choices = {
            key: typing.get_args(hints[key])
            for key in TASKS.options(name)
            if typing.get_origin(hints[key]) is typing.Literal
        }
        for values in itertools.product(*choices.values()):
            yield pytest.param(name, dict(zip(choices, values, strict=True)), id="-".join([name, *map(str, values)]))


EACH_VARIANT = pytest.mark.parametrize(("name", "options"), list(variants()))


def parts(samples):
    return {
        key: value
        for key in ("tokens", "labels", "valid", "source", "source_valid")
        if (value := getattr(samples, key)) is not None
    }


def same(left, right):
    left, right = parts(left), parts(right)
    assert left.keys() == right.keys()
    for key in left:
        torch.testing.assert_close(left[key], right[key], rtol=0, atol=0)


@EACH_VARIANT
def test_shapes_and_types_are_those_of_the_doorway(name, options):
    made = task(name, **options)
    samples = made.draw(13, generator())
    assert len(samples) == 13
    assert samples.labels.dtype == torch.int64
    if made.classes is None:
        assert samples.labels.shape == samples.tokens.shape[:2]
    else:
        assert samples.labels.shape in {(13,), samples.tokens.shape[:2]}
    assert samples.tokens.dtype == (torch.int64 if samples.tokens.dim() == 2 else torch.get_default_dtype())
    for ids, valid in ((samples.tokens, samples.valid), (samples.source, samples.source_valid)):
        if valid is not None:
            assert valid.shape == ids.shape
            assert valid.dtype == torch.bool
            assert bool(valid[:, 0].all()), "padding stands on the right"
            assert bool((valid[:, 1:] <= valid[:, :-1]).all()), "padding stands on the right"
            assert bool((ids[~valid] == 0).all())


@EACH_VARIANT
def test_ids_and_labels_stay_in_range(name, options):
    made = task(name, **options)
    samples = made.draw(200, generator())
    for ids in (samples.tokens, samples.source):
        if ids is not None and ids.dtype == torch.int64:
            assert int(ids.min()) >= 0
            assert int(ids.max()) < made.vocab
    asked = samples.labels[samples.labels != IGNORED]
    assert len(asked) > 0
    assert int(asked.min()) >= 0
    assert int(asked.max()) < (made.vocab if made.classes is None else made.classes)


@EACH_VARIANT
def test_padding_is_never_asked(name, options):
    samples = task(name, **options).draw(50, generator())
    if samples.valid is not None and samples.labels.dim() == 2:
        assert bool((samples.labels[~samples.valid] == IGNORED).all())


@EACH_VARIANT
def test_the_same_generator_gives_the_same_examples(name, options):
    same(task(name, **options).draw(7, generator()), task(name, **options).draw(7, generator()))
    first, second = (task(name, **options).draw(7, generator(seed)) for seed in (1, 2))
    assert not all(torch.equal(parts(first)[key], parts(second)[key]) for key in ("tokens", "labels"))


@EACH_VARIANT
def test_an_example_does_not_depend_on_how_many_are_drawn(name, options):
    made, stream = task(name, **options), generator()
    whole = made.draw(9, generator())
    pieces = [made.draw(4, stream), made.draw(5, stream)]
    for key, value in parts(whole).items():
        torch.testing.assert_close(torch.cat([parts(each)[key] for each in pieces]), value, rtol=0, atol=0)


@EACH_VARIANT
def test_nothing_is_drawn_from_the_global_stream(name, options):
    before = torch.get_rng_state()
    task(name, **options).draw(3, generator())
    assert torch.equal(torch.get_rng_state(), before)


@EACH_VARIANT
def test_the_best_loss_lies_below_that_of_guessing(name, options):
    made = task(name, **options)
    if made.best is not None:
        choices = made.vocab if made.classes is None else made.classes
        assert 0 <= made.best < torch.log(torch.tensor(float(choices)))


@EACH
def test_no_examples_are_a_batch_too(name):
    assert len(task(name).draw(0, generator())) == 0


@EACH
def test_an_option_too_small_is_refused(name):
    """Every whole number option refuses a negative one, but a seed, which may be anything."""
    hints = typing.get_type_hints(TASKS.get(name).__init__)
    for key in TASKS.options(name):
        if int in (hints[key], *typing.get_args(hints[key])) and key != "seed":
            with pytest.raises(ConfigError, match=key):
                task(name, **{key: -1})
