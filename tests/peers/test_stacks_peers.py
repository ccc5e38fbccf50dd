"""FNet: the numbers of transformers."""

import pytest
import torch
from peer_parts import block, double, fill, shaken

from clearhead.model import ModelConfig, Transformer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

BLOCK = {
    "attention_residual.norm": "fourier.output.LayerNorm",
    "feedforward.inner": "intermediate.dense",
    "feedforward.outer": "output.dense",
    "feedforward_residual.norm": "output.LayerNorm",
}


def test_fnet_is_a_fourier_stack():
    sizes = {"vocab_size": 23, "hidden_size": 12, "num_hidden_layers": 2, "intermediate_size": 20}
    config = transformers.FNetConfig(**sizes, max_position_embeddings=16, type_vocab_size=2, pad_token_id=0)
    theirs = shaken(transformers.FNetModel(config, add_pooling_layer=False))
    ours = {"encoder_layers": 2, "decoder_layers": 0, "d_model": 12, "heads": 2, "d_ff": 20, "dropout": 0.0}
    ours |= {"source_vocab": 23, "target_vocab": 23, "length": 16, "position": "learned", "scale_embedding": False}
    ours |= {"segments": 2, "embedding_norm": True, "norm": {"kind": "layernorm", "epsilon": 1e-12}}
    ours |= {"embedding": {"kind": "factorised", "width": 12}, "feedforward": "gelu_tanh", "stack": "fourier"}
    model, state = double(Transformer(ModelConfig(**ours))), theirs.state_dict()
    weights = {
        "output": state["embeddings.word_embeddings.weight"],
        "encoder.embedding_sum.position.table": state["embeddings.position_embeddings.weight"],
        "encoder.embedding_sum.segments.table": state["embeddings.token_type_embeddings.weight"],
        **block(state, "encoder.embedding", {"projection": "embeddings.projection"}),
        **block(state, "encoder.embedding_sum", {"norm": "embeddings.LayerNorm"}),
    }
    for index in range(2):
        named = {key.removeprefix(f"encoder.layer.{index}."): each for key, each in state.items()}
        weights |= block(named, f"encoder.blocks.{index}", BLOCK)
    fill(model, weights)
    ids, kinds = torch.randint(1, 23, (3, 7)), torch.randint(2, (3, 7))
    expected = theirs(ids, token_type_ids=kinds).last_hidden_state
    torch.testing.assert_close(model.encode(ids, segments=kinds).hidden, expected, rtol=0, atol=1e-10)
