"""The compiled step computes what the model computes; parts that it does not know it leaves alone."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from pydantic import ValidationError
from torch_twin import shake as stir

from clearhead.core import compiler
from clearhead.core.registry import Choice
from clearhead.generate import DenseCache, SearchConfig, search
from clearhead.model import OPEN, ModelConfig
from clearhead.model.attention import ATTENTIONS, PROJECTIONS
from clearhead.model.attention.heads import remove_heads
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.norm import NORMS
from clearhead.model.packing import packed
from clearhead.model.packing.library import SOURCE, library, why_not
from clearhead.model.packing.stepping import Stepping, knows
from clearhead.model.position import POSITIONS
from clearhead.model.recorder import recording
from clearhead.model.residual import RESIDUALS

needs_compiler = pytest.mark.skipif(library() is None, reason=f"no compiled step: {why_not()}")
FAMILIES = {
    "position": POSITIONS,
    "attention": ATTENTIONS,
    "projections": PROJECTIONS,
    "norm": NORMS,
    "residual": RESIDUALS,
    "feedforward": FEEDFORWARDS,
}
KINDS = pytest.mark.parametrize("layers", [(2, 2), (0, 3)], ids=str)


def shake(model):
    """The same model, no weight of which is what it began with."""
    stir(model)
    return model


def decodes(part):
    try:
        return bool(ModelConfig(**part))
    except ValidationError:
        return False


def parts():
    for family, registry in FAMILIES.items():
        for name in registry.names():
            alone = family == "attention" and not registry.get(name).crosses
            yield {family: name} | ({"cross_attention": "dot"} if alone else {})


SHAPES = [
    {"kv_heads": 1},
    {"window": 3},
    {"bias": False},
    {"qkv_bias": False},
    {"layer_groups": 1},
    {"attention": {"kind": "dot", "scale": 1.0}},
    {"position": {"kind": "rope", "layout": "pairs"}},
    {"position": {"kind": "rope", "fraction": 0.5}, "d_head": 20},
    {"d_model": 24, "heads": 3, "d_head": 7, "d_ff": 33},
    {"d_model": 128, "heads": 2, "d_ff": 272, "position": "alibi", "residual": "pre"},
    {"position": "t5", "norm": "rmsnorm", "feedforward": "geglu_tanh", "residual": "pre"},
]
EACH = pytest.mark.parametrize("part", [*filter(decodes, parts()), *SHAPES], ids=str)


def written(model, *, rows=6, sources=3, steps=7, padded=True):
    """Logits of every step, (rows, steps, vocab), of rows that are written one token at a time."""
    random = torch.Generator().manual_seed(5)
    vocab, memory = model.config.target_vocab, None
    target = torch.randint(1, vocab, (rows, steps), generator=random)
    if model.config.encoder_layers:
        seen = torch.ones(sources, 9, dtype=torch.bool)
        seen[1, 5:] = False  # as searches pad
        seen[-1, :2] = False  # as the engine does
        memory = model.encode(torch.randint(1, vocab, (sources, 9), generator=random), seen if padded else None)
    cache, found = DenseCache(model.config.decoder_layers), []
    valid = torch.ones(rows, steps, dtype=torch.bool)
    valid[2, :2] = False
    for place in range(steps):
        seen_now = valid[:, : place + 1] if padded and place > 1 else None
        positions = torch.full((rows if padded else 1, 1), place)
        options = {"positions": positions, "mask": OPEN, "cache": cache, "valid": seen_now}
        found.append(model.logits(model.decode(target[:, place : place + 1], memory, **options)))
    return torch.cat(found, dim=1)


@needs_compiler
@EACH
@KINDS
@torch.inference_mode()
def test_a_step_computes_what_the_model_computes(tiny, part, layers):
    model = shake(tiny(encoder_layers=layers[0], decoder_layers=layers[1], **part))
    reader = packed(model)
    for padded in (True, False):
        expected, found = written(model, padded=padded), written(reader, padded=padded)
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


@needs_compiler
@torch.inference_mode()
def test_a_block_between_others_may_have_lost_heads(tiny):
    model = shake(tiny(decoder_layers=3))
    heads = model.config.heads
    remove_heads(model, {"decoder.blocks.1.attention": range(1, heads), "decoder.blocks.2.cross": [0]})
    reader = packed(model)
    assert isinstance(reader.decoder, Stepping)
    torch.testing.assert_close(written(reader), written(model), atol=1e-5, rtol=1e-5)


@needs_compiler
def test_the_usual_parts_are_known_and_the_others_left_alone(tiny):
    known = [part for part in [{}, *SHAPES] if knows(tiny(**part).decoder)]
    assert known == [{}, *SHAPES]
    for part in ({"position": "shaw"}, {"attention": "additive"}, {"residual": "sandwich"}, {"norm": "groupnorm"}):
        assert not isinstance(packed(tiny(**part)).decoder, Stepping)
    assert not knows(tiny().double().decoder)


@needs_compiler
@pytest.mark.parametrize("weights", ["float32", "int8"])
@torch.inference_mode()
def test_a_row_is_the_same_alone_and_in_a_batch_to_the_last_bit(tiny, weights):
    reader = packed(shake(tiny(encoder_layers=0, position="rope", d_model=48)), Choice(kind=weights))
    together = written(reader, rows=7, padded=False)
    target = torch.randint(1, reader.config.target_vocab, (7, 7), generator=torch.Generator().manual_seed(5))
    for row in range(7):
        cache = DenseCache(2)
        for place in range(7):
            options = {"positions": torch.full((1, 1), place), "mask": OPEN, "cache": cache}
            alone = reader.logits(reader.decode(target[row : row + 1, place : place + 1], **options))
            assert torch.equal(alone[0, 0], together[row, place])


@needs_compiler
@torch.inference_mode()
def test_threads_change_no_bit(tiny):
    model = tiny(d_model=256, d_ff=1024, heads=4)
    reader, threads = packed(shake(model)), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(written(reader, rows=9))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_compiler
@torch.inference_mode()
def test_a_recording_sees_a_packed_model_as_any_other(tiny):
    model = shake(tiny())
    with recording(model) as expected:
        written(model)
    reader = packed(model)
    with recording(reader) as found:
        written(reader)
    assert list(found) == list(expected)
    for name, calls in expected.calls.items():
        for mine, theirs in zip(found.calls[name], calls, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@needs_compiler
@torch.inference_mode()
def test_what_is_not_a_number_stays_visible(tiny):
    model = shake(tiny(encoder_layers=0))
    model.decoder.blocks[1].feedforward.outer.weight[0, 0] = torch.nan
    assert written(packed(model), padded=False).isnan().all(dim=-1).any()


@needs_compiler
@pytest.mark.parametrize("beams", [1, 4])
@torch.inference_mode()
def test_searches_find_the_same(tiny, beams):
    model = shake(tiny())
    torch.manual_seed(3)
    sources = [torch.randint(4, 23, (length,)).tolist() for length in (7, 3, 5, 7, 1)]
    config = SearchConfig(beams=beams, max_tokens=9)
    expected, found = (search(each, sources, config, bos=2, eos=3) for each in (model, packed(model)))
    assert [each[0].tokens for each in found] == [each[0].tokens for each in expected]


@needs_compiler
def test_threads_of_python_do_not_disturb_each_other(tiny):
    reader = packed(shake(tiny(d_model=64)))
    jobs = [{"rows": 2 * sources, "sources": sources, "steps": 30} for sources in (2, 3, 5, 2, 3, 5)]

    @torch.inference_mode()
    def job(options):
        return written(reader, **options)

    expected = [job(each) for each in jobs]
    with ThreadPoolExecutor(3) as pool:
        for found, wanted in zip(pool.map(job, jobs * 3), expected * 3, strict=True):
            assert torch.equal(found, wanted)


@needs_compiler
@torch.inference_mode()
def test_a_step_that_was_told_to_stop_being_compiled_goes_on_where_it_was(tiny):
    """A recording in the middle of a search: the cache then holds tokens of both ways, in rows that changed places."""
    model = shake(tiny(encoder_layers=0))
    reader, found = packed(model), []
    for each in (model, reader):
        torch.manual_seed(2)
        cache, steps = DenseCache(2), []
        for place in range(9):
            rows = [6, 6, 6, 6, 4, 4, 4, 3, 3][place]
            options = {"positions": torch.full((1, 1), place), "mask": OPEN, "cache": cache}
            tokens = torch.randint(1, 23, (rows, 1))
            with recording(each) if place in (3, 4, 7) else nullcontext():
                steps.append(each.logits(each.decode(tokens, **options))[:, 0])
            cache.select(torch.randint(0, rows, ([6, 6, 6, 4, 4, 4, 3, 3, 3][place],)))
        found.append(steps)
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_without_a_compiler_a_packed_model_works(tiny, monkeypatch):
    from clearhead.model.packing import compiled
    from clearhead.model.packing import packed as packing

    for module in (compiled, sys.modules[packed.__module__]):
        monkeypatch.setattr(module, "library", lambda: None)
    model = shake(tiny())
    reader = packing(model)
    assert not isinstance(reader.decoder, Stepping)
    assert torch.equal(written(reader), written(model))


@pytest.mark.parametrize(("command", "told"), [("none", "=none"), ("no-such-compiler", "no-such"), ("false", "false")])
def test_why_there_is_no_library(command, told):
    code = "from clearhead.model.packing.library import library, why_not; print(library(), why_not())"
    environment = {"CLEARHEAD_COMPILER": command, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("None ")
    assert told in done.stdout


@needs_compiler
@pytest.mark.skipif(shutil.which("cc") is None, reason="no cc")
def test_the_library_is_compiled_once_and_then_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = compiler.library_file(["cc"], SOURCE)
    assert first.parent == tmp_path / "clearhead"
    monkeypatch.setattr(compiler, "_built", lambda *_: pytest.fail("compiled again"))
    assert compiler.library_file(["cc"], SOURCE) == first
    assert [each.name for each in first.parent.iterdir()] == [first.name]


@needs_compiler
@pytest.mark.skipif(shutil.which("cc") is None, reason="no cc")
def test_a_compiler_with_other_options_makes_another_library(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiler, "_built", lambda _command, _source, folder, name: folder / name)
    assert compiler.library_file(["cc"], SOURCE) != compiler.library_file(["cc", "-g"], SOURCE)


@needs_compiler
def test_the_source_has_no_warnings(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    flags = ["-O2", "-fopenmp", "-Wall", "-Wextra", "-Wno-psabi", "-Werror", "-fsyntax-only"]
    subprocess.run(["gcc", *flags, str(SOURCE)], check=True)
