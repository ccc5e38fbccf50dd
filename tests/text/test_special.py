import re

import pytest

from clearhead.core.errors import TokenizerError
from clearhead.text.special import discover, opening, with_extra


@pytest.mark.parametrize(
    ("known", "roles"),
    [
        (["<pad>", "<unk>", "<bos>", "<eos>"], {"pad": "<pad>", "bos": "<bos>", "eos": "<eos>", "cls": "<bos>"}),
        (["[PAD]", "[CLS]", "[SEP]", "[MASK]"], {"bos": "[CLS]", "eos": "[SEP]", "cls": "[CLS]", "mask": "[MASK]"}),
        (["<s>", "</s>", "<unk>"], {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>"}),
        (["<|endoftext|>"], {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}),
        (["<|begin_of_text|>", "<|end_of_text|>"], {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"}),
    ],
)
def test_common_names_tell_the_roles(known, roles):
    assert roles.items() <= discover(known).items()


def test_a_role_that_no_token_plays_is_absent():
    assert "pad" not in discover(["<|endoftext|>"])


def test_a_given_token_wins_over_the_common_name():
    assert discover(["<eos>", "<|im_end|>"], {"eos": "<|im_end|>"})["eos"] == "<|im_end|>"


def test_an_unknown_role_is_refused():
    with pytest.raises(TokenizerError, match="no role 'end'"):
        discover([], {"end": "x"})


@pytest.mark.parametrize("extra", ["", "x", " <a>"])
def test_a_special_token_that_looks_like_text_is_refused(extra):
    with pytest.raises(TokenizerError, match="cannot be a special token"):
        with_extra(["<pad>"], [extra])


def test_a_special_token_named_twice_is_refused():
    with pytest.raises(TokenizerError, match="named twice"):
        with_extra(["<pad>"], ["<pad>"])


def test_the_opening_of_a_literal_is_where_it_is_cut():
    assert re.split(f"({opening(['<a>', '[b]'])})", "x<a>[b][c]") == ["x", "<", "a>", "[", "b][c]"]
