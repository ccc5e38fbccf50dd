from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.text import ByteKind
from clearhead.text.alphabet import byte_alphabet


@settings(max_examples=300)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_ids_are_the_bytes_after_the_special_tokens(text):
    tokenizer = ByteKind().train()
    assert tokenizer.encode(text) == [5 + byte for byte in text.encode()]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_half_a_character_decodes_to_the_replacement_character():
    tokenizer = ByteKind().train()
    assert tokenizer.decode(tokenizer.encode("船")[:2]) == "\ufffd"


def test_the_alphabet_has_one_printable_character_for_each_byte():
    alphabet = byte_alphabet()
    assert len(set(alphabet)) == 256
    assert all(each.isprintable() for each in alphabet)
    assert alphabet[ord("A")] == "A"
    assert alphabet[ord(" ")] == "Ġ"
    assert alphabet[ord("\n")] == "Ċ"
