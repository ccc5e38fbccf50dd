"""A text's vector is the mean of the last hidden states, whatever else is in the batch."""

import pytest
import torch

from clearhead.apply.embedding import embed, embed_tokens, reading
from clearhead.apply.pieces import Pieces
from clearhead.core.errors import DataError
from clearhead.text import train_tokenizer

KINDS = ["encoder-decoder", "encoder-only", "decoder-only"]
TEXTS = ["abcdef", "g", "hi jkl", "mn"]
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def by_hand(model, row):
    """The mean of one row's hidden states, one feature at a time."""
    transformer, tokens = model.bundle.model, torch.tensor([row])
    decoder = transformer.config.kind == "decoder-only"
    with torch.no_grad():
        hidden = transformer.decode(tokens) if decoder else transformer.encode(tokens).hidden
    mean = [sum(float(hidden[0, place, at]) for place in range(len(row))) / len(row) for at in range(hidden.shape[2])]
    size = sum(each * each for each in mean) ** 0.5
    return torch.tensor([each / size for each in mean])


@EACH_KIND
def test_a_vector_is_the_mean_of_the_hidden_states(make, kind):
    model = make(kind)
    found = embed(model, TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        torch.testing.assert_close(vector, by_hand(model, reading(model.bundle, text)), atol=1e-6, rtol=1e-5)


@EACH_KIND
def test_the_batch_changes_no_vector(make, kind):
    model = make(kind)
    rows = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16]]
    together = embed_tokens(model, rows)
    alone = torch.cat([embed_tokens(model, [each], budget=1) for each in rows])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_an_encoder_reads_a_text_as_in_training(make):
    model = make("encoder-only")
    tokenizer = model.bundle.source
    assert reading(model.bundle, "ab") == [tokenizer.need("cls"), *tokenizer.encode("ab"), tokenizer.need("sep")]
    translator = make("encoder-decoder").bundle
    assert reading(translator, "ab") == [*translator.source.encode("ab"), translator.source.need("eos")]


@pytest.mark.parametrize("rows", [[[]], [[5], []], [[5] * 41], [[99_999]], [[-1]]])
def test_what_cannot_be_read_is_named(make, rows):
    with pytest.raises(DataError, match=f"text {len(rows)}"):
        embed_tokens(make("encoder-only"), rows)


def test_no_text_has_no_vector(make):
    assert embed(make("encoder-only"), []).shape == (0, 12)


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_the_bytes_of_the_tokens_are_those_of_the_text(kind):
    tokenizer = train_tokenizer(kind, ["naïve 你好"])
    pieces, ids = Pieces(tokenizer), tokenizer.encode("naïve 你好")
    assert bytes(byte for each in ids for byte in pieces.octets(each)).decode() == "naïve 你好"
    assert [pieces.text(each) for each in sorted(tokenizer.special_ids)] == tokenizer.tokens(
        sorted(tokenizer.special_ids)
    )
    assert pieces.text(10**6) == "<1000000>"
