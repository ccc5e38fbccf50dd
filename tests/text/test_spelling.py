"""The bytes of the tokens, one after the other, are the text."""

import random

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from clearhead.core.errors import TokenizerError
from clearhead.text import TOKENIZERS, Tokenizer
from clearhead.text.spelling import spelling


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_bytes_of_tokens_are_the_text(name, trained, lines):
    tokenizer = trained(name)
    if name in ("bpe", "wordpiece"):
        with pytest.raises(TokenizerError, match="tokens without bytes of their own"):
            spelling(tokenizer)
        return
    bytes_of, draw = spelling(tokenizer), random.Random(3)
    assert [index for index, each in enumerate(bytes_of) if each is None] == sorted(tokenizer.special_ids)
    for text in lines[:50]:
        spelled = b"".join(bytes_of[each] for each in tokenizer.encode(text)).decode()
        assert spelled.removeprefix(" ") == text
    for _ in range(50):
        ids = draw.choices([index for index in range(tokenizer.vocab_size) if bytes_of[index]], k=9)
        spelled = b"".join(bytes_of[each] for each in ids).decode(errors="replace")
        assert tokenizer.decode(ids).lstrip() == spelled.lstrip()


def test_bytes_that_fall_back_and_words_that_were_added_are_spelled():
    vocabulary = {"<unk>": 0, "▁a": 1, "b▁": 2, "<0x0A>": 3, "<0xE4>": 4}
    backend = Backend(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_tokens(["▁added"])
    backend.add_special_tokens(["<unk>"])
    assert spelling(Tokenizer(backend)) == [None, b" a", b"b ", b"\n", b"\xe4", "▁added".encode()]
