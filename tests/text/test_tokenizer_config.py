"""The tokenizer section of a recipe: one vocabulary or two, never a mixture."""

import pytest
from pydantic import ValidationError

from clearhead.text import TokenizerConfig, train_tokenizer


@pytest.mark.parametrize("value", [{"joint": "char"}, {"joint": {"kind": "char"}}])
def test_a_joint_vocabulary_serves_both_sides(value):
    source, target = TokenizerConfig.model_validate(value).sides
    assert source is target
    assert source.kind == "char"


def test_separate_vocabularies_may_be_of_different_kinds():
    config = TokenizerConfig.model_validate({"source": "char", "target": {"kind": "byte_bpe", "vocab_size": 300}})
    assert [each.kind for each in config.sides] == ["char", "byte_bpe"]
    assert config.sides[1].options == {"vocab_size": 300}


def test_a_config_comes_back_from_its_own_dump():
    config = TokenizerConfig.model_validate({"source": "char", "target": {"kind": "byte_bpe", "vocab_size": 300}})
    assert TokenizerConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "found neither; expected joint, or source and target"),
        ({"source": "char"}, "found source; expected joint"),
        ({"joint": "char", "source": "char", "target": "char"}, "found joint and source and target"),
        ({"joint": "bpee"}, "no tokenizer of kind 'bpee'.*did you mean 'bpe'"),
        ({"joint": {"kind": "byte_bpe", "vocab_sise": 3}}, "no option 'vocab_sise'.*did you mean 'vocab_size'"),
    ],
)
def test_a_mistake_is_named(value, message):
    with pytest.raises(ValidationError, match=message):
        TokenizerConfig.model_validate(value)


def test_a_name_is_enough_to_train():
    assert train_tokenizer("char", ["ab"]).vocab_size == 7
