import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearhead.text.normalization import normalizer, single_spaces

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=20)


def test_nothing_asked_is_no_normalizer():
    assert normalizer("none", lowercase=False) is None


@pytest.mark.parametrize(("kind", "text"), [("nfc", "e\u0301"), ("nfkc", "ﬁ ＡＢ①")])
def test_composition_is_that_of_unicode(kind, text):
    assert normalizer(kind, lowercase=False).normalize_str(text) == unicodedata.normalize(kind.upper(), text)


@given(text=TEXT)
def test_bert_normalisation_done_twice_changes_only_blanks(text):
    once = normalizer("bert", lowercase=False).normalize_str(text)
    assert normalizer("bert", lowercase=False).normalize_str(once).split() == once.split()


@pytest.mark.parametrize(
    ("text", "clean"),
    [("ÀB", "ab"), ("a\u200bb", "ab"), ("a\tb\u00a0c", "a b c"), ("x船y", "x 船 y"), ("a\0\ufffdb", "ab")],
)
def test_bert_normalisation_by_example(text, clean):
    assert normalizer("bert", lowercase=True).normalize_str(text) == clean


def test_single_spaces_remain():
    chain = normalizer("none", lowercase=False, then=single_spaces())
    assert chain.normalize_str("  a \n\u3000 b ") == "a b"
