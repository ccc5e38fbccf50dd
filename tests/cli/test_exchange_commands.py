"""clearhead import and export: what they print, what they refuse."""

import json

import pytest
import torch
from safetensors.torch import load_file

from clearhead.bundle import Bundle
from clearhead.bundle.weights import weights_of
from clearhead.model import ModelConfig
from hf_models import NATIVE, VOCAB, bundle_of


@pytest.fixture
def halves(finished, tmp_path):
    """The finished run of the command line tests, out of the house."""
    return finished, tmp_path / "theirs"


def test_a_trained_model_goes_out_and_comes_back(call, halves, tmp_path):
    model, theirs = halves
    done = call("export", model, theirs, "--to", "hf", "--no-check", "--json")
    assert (done.status, done.err) == (0, "")
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["architecture"] == "MarianMTModel"
    assert facts["max_abs_logit_difference"] is None
    done = call("import", theirs, tmp_path / "ours", "--no-check", "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out.splitlines()[-1])["tokenizer"] is True
    before, after = Bundle.load(model), Bundle.load(tmp_path / "ours")
    mine, yours = weights_of(before.model), weights_of(after.model)
    assert all(torch.equal(mine[key], yours[key]) for key in mine | yours)
    assert (before.source, before.target, before.search) == (after.source, after.target, after.search)
    assert before.history == after.history
    assert call("translate", model, "abc").out == call("translate", tmp_path / "ours", "abc").out
    for name in ("config.json", "model.safetensors", "source_tokenizer.json", "target_tokenizer.json"):
        assert (model / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()


def test_a_format_nobody_knows_is_wrong_use(call, halves):
    complaint = call("export", *halves, "--to", "onnxx").complaint
    expected = "expected one of ctranslate2, gguf, hf, onnx; did you mean 'onnx'?"
    assert complaint == f"clearhead: no such format; found onnxx; {expected}"


def test_a_model_without_words_there_is_refused_in_one_line(call, tmp_path):
    config = ModelConfig(**{**VOCAB, **NATIVE["the paper's"][0], "window": 3})
    bundle_of(config).save(tmp_path / "model")
    done = call("export", tmp_path / "model", tmp_path / "out")
    assert "nearest is MarianMTModel, but it has no window (found 3)" in done.complaint
    assert done.status == 1
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_tokenizer_is_imported_with_a_word_about_it(call, tmp_path):
    bundle_of(ModelConfig(**{**VOCAB, **NATIVE["gpt2"][0]})).save(tmp_path / "model")
    assert call("export", tmp_path / "model", tmp_path / "out", "--no-check").status == 0
    done = call("import", tmp_path / "out", tmp_path / "ours", "--no-check")
    assert done.status == 0
    assert "imported without a tokenizer" in done.err
    assert "will not work, logits will" in done.err
    assert "came without a tokenizer" in call("translate", tmp_path / "ours", "abc").complaint or "decoder-only" in (
        call("translate", tmp_path / "ours", "abc").complaint
    )


def test_pickles_only_if_allowed(call, tmp_path):
    bundle_of(ModelConfig(**{**VOCAB, **NATIVE["gpt2"][0]})).save(tmp_path / "model")
    call("export", tmp_path / "model", tmp_path / "out", "--no-check")
    weights = tmp_path / "out/model.safetensors"
    torch.save(load_file(weights), tmp_path / "out/pytorch_model.bin")
    weights.unlink()
    assert "--allow-pickle" in call("import", tmp_path / "out", tmp_path / "ours").complaint
    assert not (tmp_path / "ours").exists()
    assert call("import", tmp_path / "out", tmp_path / "ours", "--allow-pickle", "--no-check").status == 0


def test_a_folder_of_theirs_is_not_overwritten(call, halves, tmp_path):
    model, theirs = halves
    call("export", model, theirs, "--no-check")
    before = (theirs / "config.json").read_bytes()
    assert "this folder holds another library's model" in call("import", theirs, theirs).complaint
    assert "already" in call("export", model, theirs).complaint
    assert (theirs / "config.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert "no model of the transformers library here" in call("import", tmp_path / "empty", tmp_path / "x").complaint
    assert "not a Clearhead model" in call("export", theirs, tmp_path / "y").complaint
