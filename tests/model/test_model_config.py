"""Configs: a mistake is refused in one line that names what would be right."""

import pytest
import torch
from pydantic import ValidationError

from clearhead.core.errors import ConfigError
from clearhead.model import ModelConfig, Transformer

BASE = {"source_vocab": 23, "target_vocab": 23}
MISTAKES = {
    "a wrong name": ({"position": "rop"}, r"no position of kind 'rop'; .*did you mean 'rope'\?"),
    "a wrong option": ({"position": {"kind": "rope", "bse": 5}}, r"has no option 'bse'; .*did you mean 'base'\?"),
    "a wrong type": ({"norm": {"kind": "rmsnorm", "epsilon": "small"}}, "option rmsnorm.epsilon: .*number"),
    "heads": ({"d_model": 12, "heads": 5}, "d_model 12, heads 5; change one of them or set d_head"),
    "kv_heads": ({"heads": 8, "kv_heads": 3}, "kv_heads 3, heads 8; expected one of 1, 2, 4, 8"),
    "layers": ({"encoder_layers": 0, "decoder_layers": 0}, "at least one layer"),
    "two vocabularies": ({"target_vocab": 11}, "23 and 11 tokens; set tokenizer.joint, or model.tie: output"),
    "an only stack": ({"decoder_layers": 0, "target_vocab": 11}, "23 and 11 tokens; set model.tie: none"),
    "an unknown key": ({"layers": 3}, "layers"),
    "a rate": ({"dropout": 1.0}, "dropout"),
    "a negative size": ({"decoder_layers": -1}, "decoder_layers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_its_remedy(mistake):
    changes, message = MISTAKES[mistake]
    with pytest.raises((ConfigError, ValidationError), match=message):
        ModelConfig(**{**BASE, **changes})


@pytest.mark.parametrize("changes", [{"source_vocab": 0, "target_vocab": 0}, {"pad": 23}])
def test_a_vocabulary_without_padding_is_refused(changes):
    with pytest.raises(ConfigError, match="no row for padding"):
        Transformer(ModelConfig(**{**BASE, **changes, "encoder_layers": 1, "decoder_layers": 1, "d_model": 8}))


def test_the_defaults_are_the_base_model_of_the_paper():
    config = ModelConfig(**BASE)
    sizes = (config.encoder_layers, config.decoder_layers, config.d_model, config.heads, config.d_ff, config.dropout)
    assert sizes == (6, 6, 512, 8, 2048, 0.1)
    assert config.kind == "encoder-decoder"
    assert config.sizes.d_head == 64


def test_a_config_survives_its_json():
    config = ModelConfig(**BASE, position={"kind": "rope", "base": 5e5}, norm="rmsnorm", kv_heads=2)
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_a_config_is_frozen():
    with pytest.raises(ValidationError):
        ModelConfig(**BASE).heads = 4


@pytest.mark.parametrize(
    ("encoder", "decoder", "kind"), [(2, 2, "encoder-decoder"), (2, 0, "encoder-only"), (0, 2, "decoder-only")]
)
def test_the_kind_of_a_model_is_its_layers(encoder, decoder, kind):
    assert ModelConfig(**BASE, encoder_layers=encoder, decoder_layers=decoder).kind == kind


def test_heads_need_not_fill_the_width(tiny):
    model = tiny(d_model=12, heads=3, d_head=8, kv_heads=1)
    assert model(torch.tensor([[1, 2]]), torch.tensor([[3]])).shape == (1, 1, 12)
