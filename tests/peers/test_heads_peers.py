"""Heads of BERT and ELECTRA: the numbers of transformers."""

import pytest
import torch
from peer_parts import fill, shaken
from torch import nn

from clearhead.model import ModelConfig, Transformer
from clearhead.model.head import Head

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

SIZES = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 20, "num_hidden_layers": 1, "vocab_size": 23}
OURS = {"d_model": 12, "heads": 2, "d_ff": 20, "encoder_layers": 1, "decoder_layers": 0, "dropout": 0.0}
OURS |= {"source_vocab": 23, "target_vocab": 23, "norm": {"kind": "layernorm", "epsilon": 1e-12}}
HIDDEN = torch.randn(3, 7, 12, dtype=torch.float64)


def head(kind: str, **changes: object) -> Head:
    options = changes.pop("options", {})
    return Transformer(ModelConfig(**OURS, head={"kind": kind, **options}, **changes)).double().eval().head


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def pairs(**modules: nn.Module) -> dict[str, torch.Tensor]:
    """Name of a module of ours and the module that stands for it -> its parameters by our names."""
    found = {f"{name}.{key}": value for name, each in modules.items() for key, value in each.state_dict().items()}
    return {
        name.replace("matrix.weight", "matrix").replace("matrix.bias", "bias"): each for name, each in found.items()
    }


def test_the_two_heads_of_bert():
    theirs = shaken(transformers.BertForPreTraining(transformers.BertConfig(**SIZES)))
    words, transform = theirs.cls.predictions, theirs.cls.predictions.transform
    ours = head("pretraining")
    parts = {"dense": transform.dense, "norm": transform.LayerNorm, "matrix": words.decoder}
    fill(ours, pairs(**parts, pooler=theirs.bert.pooler.dense, relation=theirs.cls.seq_relationship))
    close(ours(HIDDEN), words(HIDDEN))
    close(ours.pairs(HIDDEN), theirs.cls.seq_relationship(theirs.bert.pooler(HIDDEN)))


def test_bert_classifies_sequences_and_tokens():
    config = transformers.BertConfig(**SIZES, num_labels=5)
    theirs = shaken(transformers.BertForSequenceClassification(config))
    ours = head("classify", options={"labels": 5})
    fill(ours, pairs(**{"dense.1": theirs.bert.pooler.dense, "matrix": theirs.classifier}))
    close(ours(HIDDEN), theirs.classifier(theirs.bert.pooler(HIDDEN)))
    theirs = shaken(transformers.BertForTokenClassification(config))
    ours = head("tokens", options={"labels": 5})
    fill(ours, pairs(matrix=theirs.classifier))
    close(ours(HIDDEN), theirs.classifier(HIDDEN))


def test_generator_and_discriminator_of_electra():
    config = transformers.ElectraConfig(**SIZES, embedding_size=5)
    theirs = shaken(transformers.ElectraForMaskedLM(config))
    dense, norm = theirs.generator_predictions.dense, theirs.generator_predictions.LayerNorm
    ours = head("mlm", embedding={"kind": "factorised", "width": 5})
    fill(ours, pairs(dense=dense, norm=norm, matrix=theirs.generator_lm_head))
    close(ours(HIDDEN), theirs.generator_lm_head(theirs.generator_predictions(HIDDEN)))
    theirs = shaken(transformers.ElectraForPreTraining(config)).discriminator_predictions
    ours = head("tokens", options={"labels": 1, "dense": "gelu"})
    fill(ours, pairs(**{"dense.1": theirs.dense, "matrix": theirs.dense_prediction}))
    close(ours(HIDDEN)[..., 0], theirs(HIDDEN))
