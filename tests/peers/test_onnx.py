"""onnxruntime runs the graphs that we write: the same logits whatever the lengths, a cache between two calls."""

import json

import numpy as np
import pytest
import torch

from clearhead.bundle.exchange.engines import export_to
from clearhead.bundle.exchange.engines import onnx as module
from clearhead.bundle.exchange.engines.onnx_graphs import graphs
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig
from hf_models import BERT, NATIVE, TRANSLATOR, VIT, VOCAB, bundle_of, like

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.peers

ONE = {"encoder_layers": 1, "decoder_layers": 1, "attention": {"kind": "tiled", "block": 3}}
TRANSLATOR_CONFIG = ModelConfig(**{**VOCAB, **TRANSLATOR, **ONE})
LLAMA_CONFIG = ModelConfig(**{**VOCAB, **NATIVE["llama"][0], "decoder_layers": 1, "window": 4})


def session(folder, name):
    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """An exported translator: the bundle, the folder, what was said."""
    bundle, folder = bundle_of(TRANSLATOR_CONFIG), tmp_path_factory.mktemp("onnx") / "out"
    return bundle, folder, export_to(bundle, folder, "onnx")


def test_a_translator_has_the_same_logits(translator):
    _, folder, facts = translator
    assert facts["max_abs_logit_difference"] < 1e-5
    described = json.loads((folder / "config.json").read_text())
    for name, about in described["graphs"].items():
        graph = session(folder, name.removesuffix(".onnx"))
        assert [each.name for each in graph.get_inputs()] == about["inputs"]
        assert [each.name for each in graph.get_outputs()] == about["outputs"]


@pytest.mark.parametrize(("rows", "source", "target"), [(1, 1, 1), (2, 3, 9), (5, 11, 2)])
def test_the_graphs_read_any_number_of_texts_of_any_length(translator, rows, source, target):
    bundle, folder, _ = translator
    random = torch.Generator().manual_seed(rows)
    words = [torch.randint(23, (rows, length), generator=random) for length in (source, target)]
    valid = torch.ones(rows, source, dtype=torch.bool)
    valid[0, source // 2 + 1 :] = False
    read = session(folder, "encoder").run(None, {"source": words[0].numpy(), "source_valid": valid.numpy()})
    nothing = np.zeros((rows, 2, 0, 6), "float32")
    given = {"target": words[1].numpy(), "valid": np.ones((rows, target), bool), "source_valid": valid.numpy()}
    given |= {"cross_key_0": read[0], "cross_value_0": read[1], "past_key_0": nothing, "past_value_0": nothing}
    theirs = torch.from_numpy(session(folder, "decoder").run(["logits"], given)[0])
    with torch.inference_mode():
        ours = bundle.model.logits(bundle.model.decode(words[1], bundle.model.encode(words[0], valid)))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("quantization", ["float32", "float16", "int8"])
def test_a_decoder_with_padding_in_front_goes_on_token_by_token(tmp_path, quantization):
    bundle = bundle_of(LLAMA_CONFIG)
    facts = export_to(bundle, tmp_path / "out", "onnx", quantization=quantization)
    assert facts["max_abs_logit_difference"] < {"float32": 1e-5, "float16": 1e-2, "int8": 0.5}[quantization]
    if quantization != "float32":
        return
    tokens = torch.randint(23, (2, 7), generator=torch.Generator().manual_seed(1))
    valid = torch.arange(7) >= torch.tensor([[0], [3]])
    with torch.inference_mode():
        ours = bundle.model.logits(bundle.model.decode(tokens, valid=valid))
    graph, found = session(tmp_path / "out", "decoder"), []
    past = {f"past_{part}_0": np.zeros((2, 1, 0, 6), "float32") for part in ("key", "value")}
    for place in range(7):
        given = {"target": tokens[:, place : place + 1].numpy(), "valid": valid[:, : place + 1].numpy(), **past}
        logits, *kept = graph.run(None, given)
        past = dict(zip(past, kept, strict=True))
        found.append(torch.from_numpy(logits))
    torch.testing.assert_close(ours[valid], torch.cat(found, dim=1)[valid], atol=1e-5, rtol=0)


READERS = {
    "BertForSequenceClassification": {**BERT, "num_labels": 5, "num_hidden_layers": 1},
    "ViTForImageClassification": {**VIT, "num_hidden_layers": 1},
}


@pytest.mark.parametrize("name", READERS)
def test_a_classifier_has_the_same_scores(tmp_path, name):
    facts = export_to(bundle_of(like(name, READERS[name])), tmp_path / "out", "onnx")
    assert facts["max_abs_logit_difference"] < 1e-5
    assert [each.name for each in session(tmp_path / "out", "encoder").get_outputs()] == ["logits", "hidden"]


def test_what_torch_cannot_write_down_is_refused_and_leaves_nothing(tmp_path, capfd):
    bundle = bundle_of(ModelConfig(**{**VOCAB, **NATIVE["gpt2"][0], "decoder_layers": 1, "attention": "linear"}))
    with pytest.raises(BundleError, match=r"torch cannot write this model as ONNX: one of its parts looks at"):
        export_to(bundle, tmp_path / "out", "onnx")
    assert not any(tmp_path.iterdir())
    assert "def forward" not in capfd.readouterr().err  # torch prints what it traced


def test_one_wrong_weight_is_noticed_and_leaves_nothing(tmp_path, monkeypatch):
    def wrong(model, dtype):
        for graph in graphs(model, dtype):
            with torch.no_grad():
                graph.model.output[3] *= -1
            yield graph

    monkeypatch.setattr(module, "graphs", wrong)
    with pytest.raises(BundleError, match="the engine computes something else"):
        export_to(bundle_of(like("BertForMaskedLM", BERT)), tmp_path / "out", "onnx")
    assert not any(tmp_path.iterdir())
