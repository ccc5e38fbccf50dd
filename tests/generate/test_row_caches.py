"""A sample's logits are those of the model without a cache, whoever else is in the batch and whenever they come."""

import pytest
import torch
from engine_parts import EXACT, KINDS, fits, give_blocks, next_logits, part, runner

from clearhead.core.errors import ModelError
from clearhead.generate.caches import CACHES, Tokens
from clearhead.generate.caches.codec import Int8
from clearhead.generate.caches.rows import Rows
from clearhead.model.position import POSITIONS

EACH_CACHE = pytest.mark.parametrize("cache", EXACT)
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


class Served:
    """Samples on a runner; checks every logit against the model without a cache."""

    def __init__(self, model, cache, tolerance=1e-9):
        self.model, self.runner, self.tolerance = model, runner(model, cache), tolerance
        self.samples, self.count, self.checked = [], 0, 0

    def new(self, length, source=None):
        tokens = torch.randint(1, 23, (length,)).tolist()
        if source is None and self.model.config.encoder_layers:
            source = torch.randint(1, 23, (1 + self.count % 5,)).tolist()
        sample = give_blocks(Tokens(tokens, source=tuple(source) if source else None), self.count % 10)
        self.count += 1
        return sample

    @torch.inference_mode()
    def read(self, samples, stop=None):
        parts = [part(each, stop) for each in samples]
        found = list(self.runner.read(parts))
        for each in parts:
            each.sample.computed = each.stop
        for done, logits in found:
            self.check(done, logits)

    @torch.inference_mode()
    def advance(self):
        if self.samples:
            for each in self.samples:
                each.tokens.append(int(torch.randint(1, 23, ())))
            self.check(*self.runner.advance())
            for each in self.samples:
                each.computed += 1

    def check(self, samples, logits):
        for sample, row in zip(samples, logits, strict=True):
            expected = next_logits(self.model, sample.tokens, list(sample.source) if sample.source else None)
            torch.testing.assert_close(row, expected, rtol=0.0, atol=self.tolerance)
            self.checked += 1
            if sample not in self.samples:
                self.samples.append(sample)

    def drop(self, index):
        self.runner.drop(self.samples.pop(index))


@pytest.mark.usefixtures("double")
@EACH_CACHE
@EACH_KIND
@pytest.mark.parametrize("name", POSITIONS.names())
def test_samples_come_and_go_and_none_sees_another(tiny, cache, kind, name):
    encoder, decoder = KINDS[kind]
    model = tiny(encoder_layers=encoder, decoder_layers=decoder, position=name, kv_heads=1, length=64, **fits(cache))
    served = Served(model, cache)
    served.read([served.new(5), served.new(1), served.new(9)])
    served.advance()
    served.drop(0)
    served.advance()
    long = served.new(14)
    served.read([long], stop=5)
    served.advance()
    served.read([long], stop=6)
    served.read([long])
    served.advance()
    served.read([served.new(2), served.new(6)])
    for _ in range(4):
        served.advance()
    served.drop(1)
    served.drop(2)
    child = give_blocks(Tokens(list(served.samples[0].tokens), source=served.samples[0].source), 9)
    served.runner.fork(served.samples[0], child)
    if cache == "paged":
        kept = list(served.samples[0].blocks)
        child.computed = served.samples[0].computed
        for index in range(-(-child.computed // 3)):
            served.runner.copy(child, index, kept[index])
    child.computed = served.samples[0].computed
    served.samples.append(child)
    served.advance()
    served.advance()
    assert served.checked > 25


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("stack", ["convolution", "lstm", "rnn", "gru"])
@EACH_KIND
def test_a_dense_cache_serves_stacks_without_attention(tiny, stack, kind):
    encoder, decoder = KINDS[kind]
    model = tiny(encoder_layers=encoder, decoder_layers=decoder, stack=stack, length=64)
    served = Served(model, "dense")
    served.read([served.new(5), served.new(1), served.new(9)])
    served.advance()
    served.drop(0)
    long = served.new(7)
    served.read([long], stop=3)
    served.advance()
    served.read([long])
    for _ in range(3):
        served.advance()
    assert served.checked > 10


@pytest.mark.usefixtures("double")
@EACH_CACHE
def test_long_texts_outgrow_every_buffer(tiny, cache):
    model = tiny(encoder_layers=0, decoder_layers=1, position="rope", length=64, **fits(cache))
    served = Served(model, cache)
    served.read([served.new(2)])
    for step in range(45):
        served.advance()
        if step == 36:
            served.read([served.new(50)])
        if step == 41:
            served.drop(0)
    assert served.checked > 45


def test_a_source_is_kept_once_and_forgotten_with_its_last_reader(tiny):
    model = tiny(length=64)
    served = Served(model, "dense", tolerance=1e-4)
    served.read([served.new(1, [5, 6, 7]), served.new(2, [5, 6, 7]), served.new(1, [8, 9])])
    assert len(served.runner.sources.rows) == 2
    served.read([served.new(3, [5, 6, 7])])
    served.advance()
    assert len(served.runner.sources.rows) == 2
    for _ in range(3):
        index = next(at for at, each in enumerate(served.samples) if each.source == (5, 6, 7))
        served.drop(index)
        served.advance()
    assert served.runner.sources.rows.order == [(8, 9)]
    served.drop(0)
    assert not served.runner.sources.rows.order


def test_eight_bits_are_close_and_smaller(tiny):
    torch.manual_seed(3)
    model = tiny(encoder_layers=0, decoder_layers=2, position="rope", d_model=64, length=64)
    served = Served(model, "int8", tolerance=0.05)
    exact = Served(model, "dense", tolerance=1e-4)
    for each in (served, exact):
        each.read([each.new(9), each.new(20)])
        for _ in range(6):
            each.advance()
    assert served.runner.bytes < 0.35 * exact.runner.bytes
    states = torch.randn(3, 2, 7, 5)
    back = Int8().decode(Int8().encode(states))
    assert ((back - states).abs() <= states.abs().amax(-1, keepdim=True) / 254 * 1.001).all()
    assert not Int8().decode(Int8().encode(torch.zeros(1, 1, 2, 3))).any()


def test_a_windowed_cache_does_not_grow_with_the_text(tiny):
    model = tiny(encoder_layers=0, decoder_layers=1, position="rope", window=4, length=400)
    sizes = []
    served = Served(model, "windowed", tolerance=1e-4)
    served.read([served.new(10), served.new(3)])
    for _ in range(3):
        for _ in range(60):
            served.advance()
        sizes.append(served.runner.bytes)
    assert sizes[0] == sizes[2]


def test_rows_do_not_move_in_most_steps():
    rows, moves = Rows(), 0
    rows.join(["a"], [1], {0: torch.zeros(1, 1, 1)})
    for _ in range(500):
        before = rows.tracks[0]
        end = rows._end
        rows.step()
        rows.write(0, torch.zeros(1, 1, 1))
        moves += rows.tracks[0] is not before or rows._end != end + 1
    assert moves < 10


@pytest.mark.parametrize("cache", ["paged", "int8", "windowed"])
def test_a_cache_that_cannot_serve_a_model_says_so(tiny, cache):
    model = tiny(encoder_layers=0, stack="lstm")
    with pytest.raises(ModelError, match=r"use (the dense|another) cache"):
        CACHES.get(cache)(model.config, 10, 4)


def test_nothing_of_an_earlier_sample_is_left_in_a_row():
    """What is masked has weight 0, but 0 times NaN is NaN."""
    rows = Rows()
    wide, narrow = torch.zeros(1, 5, 1), torch.zeros(1, 2, 1)
    rows.join(["a", "b", "c"], [5, 5, 5], {0: torch.stack([wide[0], wide[0] * torch.nan, wide[0] * torch.nan])})
    rows.leave("b")
    rows.leave("c")
    assert rows.view(0).isfinite().all()
    rows.join(["d"], [2], {0: narrow})
    assert rows.view(0).isfinite().all()
    assert rows.order == ["a", "d"]


@pytest.mark.usefixtures("double")
def test_what_is_masked_in_a_pool_is_nobodys(tiny):
    model = tiny(encoder_layers=0, length=64)
    served = Served(model, "paged")
    served.new(1)  # sample 0 would hold block 0
    served.read([served.new(3), served.new(30)])
    with torch.inference_mode():
        for both in served.runner.cache.pools:
            for pool in both:
                pool.states[1:4] = torch.nan  # of block 0, which belongs to nobody here
    assert 0 not in served.samples[0].blocks[:1] + served.samples[1].blocks[:11]
    served.advance()
