"""CTranslate2 computes what we compute, from our exports alone: scores, logits, greedy translations."""

import json

import pytest
import torch

from clearhead.bundle.exchange.configs import obstacles
from clearhead.bundle.exchange.engines import ctranslate2 as module
from clearhead.bundle.exchange.engines import export_to
from clearhead.bundle.exchange.engines.ctranslate2_shape import CTranslate2Shape
from clearhead.bundle.weights import weights_of
from clearhead.cli.main import run
from clearhead.core.errors import BundleError
from clearhead.generate import SearchConfig, search
from clearhead.model import ModelConfig
from clearhead.text import train_tokenizer
from engine_models import models
from hf_models import NATIVE, TRANSLATOR, VOCAB, bundle_of

ctranslate2 = pytest.importorskip("ctranslate2")
pytestmark = pytest.mark.peers

KNOWN = {special: config for special, config in models() if not obstacles(CTranslate2Shape(), config)}
DIFFERENCES = {"encoder-decoder": "max_abs_log_probability_difference", "decoder-only": "max_abs_logit_difference"}
TEXTS = ["the cat sat", "a cat", "hat the mat"]


@pytest.mark.parametrize("special", KNOWN)
def test_every_model_that_it_knows_has_the_same_scores(tmp_path, special):
    facts = export_to(bundle_of(KNOWN[special]), tmp_path / "out", "ctranslate2")
    assert facts[DIFFERENCES[facts["kind"]]] < 1e-5
    same, _, asked = str(facts.get("same_greedy_translations") or facts["same_best_tokens"]).partition(" of ")
    assert same == asked


@pytest.mark.parametrize("native", ["the paper's", "llama"])
@pytest.mark.parametrize("quantization", ["float16", "int8"])
def test_smaller_weights_make_smaller_files_and_leave_our_model_alone(tmp_path, native, quantization):
    bundle = bundle_of(ModelConfig(**{**VOCAB, **NATIVE[native][0]}))
    before = {name: each.clone() for name, each in weights_of(bundle.model).items()}
    whole = export_to(bundle, tmp_path / "whole", "ctranslate2")
    small = export_to(bundle, tmp_path / "small", "ctranslate2", quantization=quantization)
    assert (tmp_path / "small/model.bin").stat().st_size < (tmp_path / "whole/model.bin").stat().st_size
    assert small["bytes"] < whole["bytes"]
    assert small[DIFFERENCES[small["kind"]]] < 0.2
    assert all(torch.equal(before[name], each) for name, each in weights_of(bundle.model).items())


@pytest.mark.parametrize("name", ["encoder/layer_1/ffn/linear_0/weight", "decoder/position_encodings/encodings"])
def test_one_wrong_tensor_is_noticed_and_leaves_nothing(tmp_path, monkeypatch, name):
    told = module.every_tensor
    monkeypatch.setattr(module, "every_tensor", lambda *given: {**told(*given), name: -told(*given)[name]})
    with pytest.raises(BundleError, match="the engine computes something else"):
        export_to(bundle_of(ModelConfig(**{**VOCAB, **TRANSLATOR})), tmp_path / "out", "ctranslate2")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("joint", [True, False])
def test_a_text_is_translated_as_we_translate_it(tmp_path, joint):
    target = train_tokenizer("char", TEXTS)
    source = target if joint else train_tokenizer("char", [*TEXTS, "xyz"])
    sizes = {"source_vocab": source.vocab_size, "target_vocab": target.vocab_size, "pad": target.need("pad")}
    bundle = bundle_of(ModelConfig(**{**TRANSLATOR, **sizes, "tie": "all" if joint else "output"}))
    bundle.source, bundle.target = source, target
    export_to(bundle, tmp_path / "out", "ctranslate2")
    assert json.loads((tmp_path / "out/config.json").read_text())["add_source_eos"] is True
    engine = ctranslate2.Translator(str(tmp_path / "out"), device="cpu")
    never = [[target.tokens([target.need("pad")])[0]]]
    for text in TEXTS:
        found = engine.translate_batch(
            [source.pieces(text)], beam_size=1, max_decoding_length=9, min_decoding_length=0, suppress_sequences=never
        )
        config = SearchConfig(beams=1, length_factor=0, length_extra=9)
        ids = [*source.encode(text), source.need("eos")]
        ours = search(bundle.model, [ids], config, bos=target.need("bos"), eos=target.need("eos"))[0][0].tokens
        assert [target.token_id(each) for each in found[0].hypotheses[0]] == ours


def test_the_command_says_what_it_measured(tmp_path, capsys):
    bundle_of(ModelConfig(**{**VOCAB, **TRANSLATOR})).save(tmp_path / "model")
    asked = ["export", str(tmp_path / "model"), str(tmp_path / "out"), "--to", "ctranslate2", "--json"]
    assert run(asked) == 0
    table, _, document = capsys.readouterr().out.rstrip().rpartition("\n")
    facts = json.loads(document)
    assert facts["max_abs_log_probability_difference"] < 1e-5
    assert facts["engine_tokens_per_second"] > 0
    for line in ("max abs log probability difference", "bytes", "engine tokens per second"):
        assert line in table
    assert run(asked) == 1
    assert "already" in capsys.readouterr().err


def test_a_text_goes_on_as_we_go_on(tmp_path):
    tokenizer = train_tokenizer("char", TEXTS)
    sizes = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size, "pad": tokenizer.need("pad")}
    bundle = bundle_of(ModelConfig(**{**NATIVE["llama"][0], **sizes}))
    bundle.source = bundle.target = tokenizer
    export_to(bundle, tmp_path / "out", "ctranslate2")
    engine = ctranslate2.Generator(str(tmp_path / "out"), device="cpu")
    found = engine.generate_batch(
        [tokenizer.pieces("the cat")], max_length=8, end_token=[], include_prompt_in_result=False
    )
    said = tokenizer.encode("the cat")
    with torch.inference_mode():
        for _ in range(8):
            said.append(int(bundle.model.logits(bundle.model.decode(torch.tensor([said])))[0, -1].argmax()))
    assert found[0].sequences_ids[0] == said[-8:]
