"""Embeddings of BERT, ALBERT and ViT, whole models of the last two: the same numbers as transformers."""

import pytest
import torch
from peer_parts import block, double, fill, shaken

from clearhead.model import ModelConfig, Transformer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

IDS, KINDS = torch.randint(1, 23, (3, 7)), torch.randint(2, (3, 7))
SIZES = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 20, "num_hidden_layers": 3}
WORDS = {"vocab_size": 23, "max_position_embeddings": 16, "type_vocab_size": 2, "pad_token_id": 0}
OURS = {"d_model": 12, "heads": 2, "d_ff": 20, "encoder_layers": 3, "decoder_layers": 0, "dropout": 0.0}
OURS |= {"position": "learned", "scale_embedding": False, "norm": {"kind": "layernorm", "epsilon": 1e-12}}
TEXT = {"source_vocab": 23, "target_vocab": 23, "length": 16, "segments": 2, "embedding_norm": True}
TABLES = {
    "output": "word_embeddings.weight",
    "encoder.embedding_sum.position.table": "position_embeddings.weight",
    "encoder.embedding_sum.segments.table": "token_type_embeddings.weight",
    "encoder.embedding_sum.norm.weight": "LayerNorm.weight",
    "encoder.embedding_sum.norm.bias": "LayerNorm.bias",
}


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_embeddings_of_bert():
    theirs = shaken(transformers.BertModel(transformers.BertConfig(**SIZES, **WORDS)).embeddings)
    model = double(Transformer(ModelConfig(**OURS, **TEXT)))
    stack, state = model.encoder, theirs.state_dict()
    with torch.no_grad():
        for ours, other in TABLES.items():
            model.get_parameter(ours).copy_(state[other])
    found = stack.embedding_sum(stack.embedding(IDS), torch.arange(7)[None], KINDS)
    close(found, theirs(input_ids=IDS, token_type_ids=KINDS))


ALBERT_BLOCK = {
    "attention.projections": ("attention.query", "attention.key", "attention.value"),
    "attention.output": "attention.dense",
    "attention_residual.norm": "attention.LayerNorm",
    "feedforward.inner": "ffn",
    "feedforward.outer": "ffn_output",
    "feedforward_residual.norm": "full_layer_layer_norm",
}


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_albert_is_a_factorised_table_and_shared_layers(groups):
    config = transformers.AlbertConfig(**SIZES, **WORDS, embedding_size=5, num_hidden_groups=groups)
    theirs = shaken(transformers.AlbertModel(config, add_pooling_layer=False))
    embedding = {"kind": "factorised", "width": 5}
    changes = {"embedding": embedding, "feedforward": "gelu_tanh", "layer_groups": groups}
    # one label and no pooler: the smallest head, which this test leaves aside
    head = {"kind": "classify", "labels": 1, "dense": "none", "bias": False}
    model = double(Transformer(ModelConfig(**OURS, **TEXT, **changes, head=head)))
    state = theirs.state_dict()
    weights = {ours: state[f"embeddings.{other}"] for ours, other in TABLES.items() if ours != "output"}
    weights["encoder.embedding.table"] = state["embeddings.word_embeddings.weight"]
    weights |= block(state, "encoder.embedding", {"projection": "encoder.embedding_hidden_mapping_in"})
    for group in range(groups):
        inside = f"encoder.albert_layer_groups.{group}.albert_layers.0."
        named = {key.removeprefix(inside): each for key, each in state.items() if key.startswith(inside)}
        first = next(index for index in range(3) if int(index / (3 / groups)) == group)
        weights |= block(named, f"encoder.blocks.{first}", ALBERT_BLOCK)
    fill(model, weights | {"output": model.output})
    valid = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    expected = theirs(IDS, attention_mask=valid.long(), token_type_ids=KINDS).last_hidden_state
    close(model.encode(IDS, valid, segments=KINDS).hidden[valid], expected[valid])


VIT_BLOCK = {
    "attention.projections": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attention.output": "attention.o_proj",
    "attention_residual.norm": "layernorm_before",
    "feedforward.inner": "mlp.fc1",
    "feedforward.outer": "mlp.fc2",
    "feedforward_residual.norm": "layernorm_after",
}


def test_a_vision_transformer():
    config = transformers.ViTConfig(**SIZES, image_size=8, patch_size=2, num_channels=3, num_labels=5)
    theirs = shaken(transformers.ViTForImageClassification(config))
    changes = {"residual": "pre", "feedforward": "gelu", "length": 17}
    embedding = {"kind": "patches", "image": 8, "size": 2, "channels": 3}
    head = {"kind": "classify", "labels": 5, "dense": "none"}
    model = double(Transformer(ModelConfig(**OURS, **changes, embedding=embedding, head=head)))
    state = {name.removeprefix("vit."): each for name, each in theirs.state_dict().items()}
    weights = {
        "encoder.embedding.first": state["embeddings.cls_token"],
        "encoder.embedding.projection.weight": state["embeddings.patch_embeddings.projection.weight"],
        "encoder.embedding.projection.bias": state["embeddings.patch_embeddings.projection.bias"],
        "encoder.embedding_sum.position.table": state["embeddings.position_embeddings"],
        "encoder.last.weight": state["layernorm.weight"],
        "encoder.last.bias": state["layernorm.bias"],
        "output": state["classifier.weight"],
        "head.bias": state["classifier.bias"],
    }
    for index in range(3):
        named = {key.removeprefix(f"layers.{index}."): each for key, each in state.items()}
        weights |= block(named, f"encoder.blocks.{index}", VIT_BLOCK)
    fill(model, weights)
    pixels = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    close(model.logits(model(pixels, None)), theirs(pixels).logits)
