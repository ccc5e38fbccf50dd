"""Formats of other engines without those engines: what is refused, in which words, and that nothing is left behind."""

import json

import pytest
import torch

from clearhead.bundle import Bundle
from clearhead.bundle.exchange.configs import obstacles
from clearhead.bundle.exchange.engines import FORMATS, Format, Verdict, base, export_to, exporting, gguf_witness
from clearhead.bundle.exchange.engines.ctranslate2 import token_names
from clearhead.bundle.exchange.engines.ctranslate2_shape import CTranslate2Shape
from clearhead.bundle.exchange.engines.gguf_shapes import SHAPES
from clearhead.bundle.exchange.engines.gguf_tokenizer import obstacle, vocabulary
from clearhead.bundle.exchange.weights import every_tensor
from clearhead.core.errors import BundleError, StorageError, UsageError
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig, Transformer
from clearhead.text import TOKENIZERS, train_tokenizer
from engine_models import models
from hf_models import NATIVE, ROTARY, TRANSLATOR, VOCAB, bundle_of

EACH = pytest.mark.parametrize("name", FORMATS.names())
LLAMA = {**ROTARY, "position": "rope", "feedforward": "swiglu"}
SPOKEN = {"ctranslate2": [CTranslate2Shape()], "gguf": [SHAPES.get(each)() for each in SHAPES.names()]}


class Liar(Format):
    """Writes a file, and says something else than our model."""

    title, runs_with, quantizations = "a liar", "torch", ("float32", "int8")
    difference = 1.0

    def write(self, bundle, folder, quantization, *, tokenizer):
        (folder / "model").write_text("?")
        return {}

    def run(self, bundle, folder, quantization, *, tokenizer):
        assert (folder / "model").exists()
        return Verdict("max_abs_logit_difference", self.difference, 3.0, {"seen": "all"})


@pytest.fixture
def liar(monkeypatch):
    """The format `liar`, for one test."""
    monkeypatch.setitem(FORMATS._parts, "liar", Liar)
    return Liar


def toy(**changes) -> Bundle:
    return bundle_of(ModelConfig(**{**VOCAB, **LLAMA, **changes}))


@EACH
def test_every_format_says_whom_it_is_for_and_what_it_needs(name):
    form = FORMATS.get(name)()
    assert form.title
    assert form.runs_with
    assert form.quantizations[0] == "float32"


@EACH
def test_a_precision_nobody_has_is_wrong_use(tmp_path, name):
    with pytest.raises(
        UsageError, match=f"{name} has no such precision of weights; found int3; expected one of float32"
    ):
        export_to(toy(), tmp_path / "out", name, quantization="int3")
    assert not any(tmp_path.iterdir())


def test_an_unknown_format_is_wrong_use_with_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match=r"no such format; found onnxx; expected one of .*; did you mean 'onnx'"):
        export_to(toy(), tmp_path / "out", "onnxx")


@EACH
def test_what_is_in_the_place_already_stays(tmp_path, name, monkeypatch):
    monkeypatch.setattr(exporting, "library", lambda each: None)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(StorageError, match="already"):
        export_to(toy(), tmp_path, name)
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", [each for each in FORMATS.names() if FORMATS.get(each).writes_with])
def test_a_missing_library_is_named_with_the_way_to_get_it(tmp_path, name, monkeypatch):
    monkeypatch.setattr(base, "find_spec", lambda each: None)
    with pytest.raises(UsageError, match=r"is not installed; pip install 'clearhead\[export\]'"):
        export_to(toy(), tmp_path / "out", name)
    assert not any(tmp_path.iterdir())


@EACH
def test_weights_that_are_no_numbers_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(exporting, "library", lambda each: None)
    bundle = toy()
    with torch.no_grad():
        bundle.model.decoder.last.weight[0] = torch.nan
    with pytest.raises(BundleError, match="not numbers"):
        export_to(bundle, tmp_path / "out", name)
    assert not any(tmp_path.iterdir())


REFUSED = {
    "ctranslate2": {
        "it has no window": {**TRANSLATOR, "window": 3},
        "it has no removed_heads": {**TRANSLATOR, "removed_heads": {"encoder.blocks.1.attention": (1,)}},
        "position.kind alibi is known in decoder-only": {**TRANSLATOR, "position": "alibi"},
        "kv_heads must be heads": {**TRANSLATOR, "kv_heads": 1},
        "no head for words or labels": {**TRANSLATOR, "decoder_layers": 0},
        "norm.kind cannot be groupnorm": {**TRANSLATOR, "norm": "groupnorm"},
        "position.scaling has no word there": {
            **LLAMA,
            "position": {"kind": "rope", "scaling": {"kind": "ntk", "factor": 2.0}},
        },
    },
    "gguf": {
        "encoder_layers must be 0": TRANSLATOR,
        "it has no window": {**LLAMA, "window": 3},
        "feedforward.kind must be swiglu": {**LLAMA, "feedforward": "geglu"},
        "scale_embedding must be False": {**LLAMA, "scale_embedding": True},
        "position.fraction must be 1": {**LLAMA, "d_head": 4, "position": {"kind": "rope", "fraction": 0.5}},
        "it has no head.bias": {**LLAMA, "head": {"kind": "lm", "bias": True}},
    },
    "onnx": {
        "heads were removed": {**LLAMA, "removed_heads": {"decoder.blocks.0.attention": (1,)}},
        "a decoder of kind lstm": {**LLAMA, "position": "none", "feedforward": "relu", "stack": "lstm"},
    },
}


@pytest.mark.parametrize(("name", "reason"), [(name, each) for name in REFUSED for each in REFUSED[name]])
def test_what_an_engine_cannot_say_is_refused_with_reason_and_remedy(tmp_path, name, reason):
    bundle = bundle_of(ModelConfig(**{**VOCAB, **REFUSED[name][reason]}))
    with pytest.raises(BundleError, match=reason) as refusal:
        export_to(bundle, tmp_path / "out", name)
    assert refusal.value.remedy
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("engine", SPOKEN)
def test_a_model_without_obstacles_has_a_name_for_each_of_its_tensors(engine):
    told = []
    for special, config in models():
        for shape in SPOKEN[engine]:
            if obstacles(shape, config):
                continue
            with torch.device("meta"):
                model = Transformer(config)
            every_tensor(shape, model)  # raises where one has no name
            told.append(special)
    assert len(told) > 12


def test_a_wrong_export_leaves_nothing(tmp_path, liar):
    with pytest.raises(BundleError, match=r"the engine computes something else: max abs logit difference; found 1.0"):
        export_to(toy(), tmp_path / "out", "liar")
    assert not any(tmp_path.iterdir())


def test_nobody_is_asked_if_the_user_does_not_want_it(tmp_path, liar):
    facts = export_to(toy(), tmp_path / "out", "liar", check=False)
    assert facts["max_abs_logit_difference"] is None
    assert (tmp_path / "out/model").read_text() == "?"


def test_rounding_to_int8_is_told_and_not_judged_but_no_number_is_no_answer(tmp_path, liar, monkeypatch):
    facts = export_to(toy(), tmp_path / "out", "liar", quantization="int8")
    assert (facts["max_abs_logit_difference"], facts["bytes"], facts["seen"]) == (1.0, 1, "all")
    json.dumps(facts)
    monkeypatch.setattr(liar, "difference", float("nan"))
    with pytest.raises(BundleError, match="found nan"):
        export_to(toy(), tmp_path / "again", "liar", quantization="int8")


def test_every_row_of_a_table_has_a_name_of_its_own():
    tokenizer = train_tokenizer("char", ["abc <row 0>"])
    names = token_names(tokenizer, tokenizer.vocab_size + 3)
    assert len(set(names)) == len(names)
    assert names[: tokenizer.vocab_size] == tokenizer.tokens(range(tokenizer.vocab_size))


SIZES = {"byte_bpe": 265, "bpe": 30, "unigram": 20, "wordpiece": 30}
CORPUS = ["the cat sat on a mat", "a cat in the hat", "the mat is the cat's"] * 3


@pytest.mark.parametrize("kind", TOKENIZERS.names())
def test_llama_cpp_reads_byte_level_bpe_alone_and_the_others_are_refused(tmp_path, kind):
    options = {"vocab_size": SIZES[kind]} if kind in SIZES else {}
    tokenizer = train_tokenizer(Choice(kind=kind, options=options), CORPUS)
    if kind == "byte_bpe":
        words = vocabulary(tokenizer, 280)
        assert (obstacle(tokenizer), words.cut, len(words.tokens), words.kinds[-1]) == (None, "gpt-2", 280, 5)
        return
    bundle = toy(source_vocab=tokenizer.vocab_size, target_vocab=tokenizer.vocab_size, pad=tokenizer.pad or 0)
    bundle.source = bundle.target = tokenizer
    with pytest.raises(BundleError, match=r"cannot read texts as this model does: .*; leave the tokenizer out"):
        export_to(bundle, tmp_path / "out", "gguf")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"lowercase": True}, {"prefix_space": True}, {"normalization": "nfkc"}])
def test_a_tokenizer_that_changes_texts_is_refused_by_llama_cpp(options):
    choice = Choice(kind="byte_bpe", options={"vocab_size": 265, **options})
    assert "changes texts" in str(obstacle(train_tokenizer(choice, CORPUS)))


DEATHS = {
    "import os; os.abort()": "llama.cpp cannot read this file; found exit status -6",
    "raise SystemExit('bad magic')": "llama.cpp cannot read this file; found bad magic",
}


@pytest.mark.parametrize("program", DEATHS)
def test_the_death_of_llama_cpp_is_told_and_not_shared(tmp_path, monkeypatch, program):
    monkeypatch.setattr(gguf_witness, "getsource", lambda module: program)
    with pytest.raises(BundleError, match=DEATHS[program]):
        gguf_witness.verdict(toy(), tmp_path / "model.gguf", words=False)


def test_our_own_models_are_known_where_they_should_be():
    known = {
        name: [native for native in NATIVE if not all(obstacles(each, _config(native)) for each in shapes)]
        for name, shapes in SPOKEN.items()
    }
    assert set(NATIVE) - set(known["ctranslate2"]) == {"mistral"}  # its window
    assert set(known["gguf"]) == {each for each in NATIVE if each.startswith(("llama", "qwen2", "gpt2"))}


def _config(native: str) -> ModelConfig:
    return ModelConfig(**{**VOCAB, **NATIVE[native][0]})
