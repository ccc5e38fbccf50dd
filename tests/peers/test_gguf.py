"""GGUF files: read back by the library of that format, opened by transformers, run by llama.cpp where it is there."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from clearhead.bundle.exchange.configs import obstacles
from clearhead.bundle.exchange.engines import export_to
from clearhead.bundle.exchange.engines import gguf as module
from clearhead.bundle.exchange.engines.gguf_shapes import SHAPES
from clearhead.bundle.exchange.weights import every_tensor
from clearhead.core.errors import BundleError
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig
from clearhead.text import train_tokenizer
from engine_models import OPTIONS, models
from hf_models import MODELS, NATIVE, VOCAB, bundle_of, like

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.peers

NEEDS_ENGINE = pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
NEAREST = {special: (module.nearest_shape(config), config) for special, config in models()}
KNOWN = {special: config for special, (name, config) in NEAREST.items() if not obstacles(SHAPES.get(name)(), config)}
DIFFERENT = [each for each in KNOWN if each.split(", ")[1] in OPTIONS] + ["llama, norm rmsnorm", "gpt2, norm layernorm"]
STRETCHED = [each for each in MODELS["LlamaForCausalLM"] if each in ("linear", "llama3", "yarn")]
CORPUS = ["the cat sat on a mat, don't 123", "a cat in  the hat\nand 你好", "the mat is the cat's"] * 3


@pytest.mark.parametrize("native", ["llama", "gpt2"])
@pytest.mark.parametrize("quantization", ["float32", "float16", "int8"])
def test_the_file_holds_every_tensor_and_what_the_model_is(tmp_path, native, quantization):
    bundle = bundle_of(ModelConfig(**{**VOCAB, **NATIVE[native][0], "d_model": 32, "d_ff": 64}))
    export_to(bundle, tmp_path / "out", "gguf", quantization=quantization, check=False)
    found = gguf.GGUFReader(tmp_path / "out/model.gguf")
    assert found.fields[f"{native}.block_count"].contents() == bundle.model.config.decoder_layers
    assert found.fields[f"{native}.vocab_size"].contents() == 23
    expected = every_tensor(SHAPES.get(native)(), bundle.model)
    stored = {each.name: gguf.quants.dequantize(each.data, each.tensor_type) for each in found.tensors}
    assert stored.keys() == expected.keys()
    within = {"float32": 0.0, "float16": 1e-3, "int8": 1e-2}[quantization]
    for name, each in expected.items():
        values = each.detach().numpy()
        np.testing.assert_allclose(
            stored[name].reshape(values.shape), values, atol=within * np.abs(values).max(), rtol=0
        )


@pytest.mark.parametrize("native", ["llama", "llama, features in pairs", "gpt2"])
def test_transformers_opens_the_file_with_the_same_logits(tmp_path, native):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate", reason="transformers reads GGUF with it")
    tokenizer = train_tokenizer(Choice(kind="byte_bpe", options={"vocab_size": 265}), CORPUS)
    sizes = {"source_vocab": 265, "target_vocab": 265, "pad": tokenizer.need("pad")}
    bundle = bundle_of(ModelConfig(**{**NATIVE[native][0], **sizes}))
    bundle.source = bundle.target = tokenizer
    export_to(bundle, tmp_path / "out", "gguf", check=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model.gguf").eval()
    tokens = torch.randint(265, (3, 7), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        ours, theirs = bundle.model.logits(bundle.model.decode(tokens)), model(tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@NEEDS_ENGINE
@pytest.mark.parametrize("special", DIFFERENT)
def test_llama_cpp_has_the_same_logits(tmp_path, special):
    facts = export_to(bundle_of(KNOWN[special]), tmp_path / "out", "gguf")
    coarse = facts["architecture"] == "gpt2"  # its GELU is a table in float16
    assert facts["max_abs_logit_difference"] < (5e-3 if coarse else 1e-5)


@NEEDS_ENGINE
@pytest.mark.parametrize("special", STRETCHED)
def test_llama_cpp_stretches_rotary_positions_as_we_do(tmp_path, special):
    bundle = bundle_of(like("LlamaForCausalLM", MODELS["LlamaForCausalLM"][special]))
    assert export_to(bundle, tmp_path / "out", "gguf")["max_abs_logit_difference"] < 1e-5


@NEEDS_ENGINE
@pytest.mark.parametrize("native", ["llama", "gpt2"])
@pytest.mark.parametrize("quantization", ["float16", "int8"])
def test_llama_cpp_reads_our_texts_and_smaller_weights(tmp_path, native, quantization):
    tokenizer = train_tokenizer(Choice(kind="byte_bpe", options={"vocab_size": 265}), CORPUS)
    sizes = {"source_vocab": 270, "target_vocab": 270, "pad": tokenizer.need("pad"), "d_model": 64, "d_ff": 96}
    bundle = bundle_of(ModelConfig(**{**NATIVE[native][0], **sizes}))
    bundle.source = bundle.target = tokenizer
    facts = export_to(bundle, tmp_path / "out", "gguf", quantization=quantization)  # compares the ids of some texts
    assert facts["tokenizers"] == 1
    assert facts["max_abs_logit_difference"] < 0.5
    import llama_cpp

    engine = llama_cpp.Llama(str(tmp_path / "out/model.gguf"), vocab_only=True, verbose=False)
    for text in ("the cat's 12345 mats,  and\n\nhats", "naïve 你好!"):
        ids = engine.tokenize(text.encode(), add_bos=False, special=False)
        assert ids == tokenizer.encode(text)
        assert engine.detokenize(ids).decode() == text
    assert (engine.token_bos(), engine.token_eos()) == (tokenizer.bos, tokenizer.eos)


@NEEDS_ENGINE
def test_one_wrong_tensor_is_noticed_and_leaves_nothing(tmp_path, monkeypatch):
    told, name = module.every_tensor, "blk.1.attn_k.weight"
    monkeypatch.setattr(module, "every_tensor", lambda *given: {**told(*given), name: -told(*given)[name]})
    bundle = bundle_of(ModelConfig(**{**VOCAB, **NATIVE["llama"][0]}))
    with pytest.raises(BundleError, match="the engine computes something else"):
        export_to(bundle, tmp_path / "out", "gguf")
    assert not any(tmp_path.iterdir())
