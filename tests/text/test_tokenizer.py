import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from clearhead.core.errors import TokenizerError
from clearhead.text import Tokenizer


def foreign_unigram() -> Tokenizer:
    """As T5 has it: `</s>` is a piece of the model, which would match its literal in a text."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((each, -3.0) for each in "▁</s>ab")]
    backend = Backend(models.Unigram(pieces, unk_id=2))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return Tokenizer(backend)


def test_a_special_piece_of_a_foreign_model_is_spelled_out():
    tokenizer = foreign_unigram()
    assert tokenizer.eos == 1
    assert tokenizer.pieces("a</s>b") == ["▁", "a", "<", "/", "s", ">", "b"]


def test_a_special_token_after_the_vocabulary_is_found():
    backend = Backend(models.BPE({"a": 0, "b": 1}, []))
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    tokenizer = Tokenizer(backend)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.vocab_size) == (2, 2, None, 3)


def test_a_given_role_is_taken():
    backend = Backend(models.BPE({"a": 0, "<|im_end|>": 1}, []))
    assert Tokenizer(backend, special={"eos": "<|im_end|>"}).encode("a", eos=True) == [0, 1]


def test_a_missing_role_is_refused_by_name():
    tokenizer = Tokenizer(Backend(models.BPE({"a": 0}, [])))
    with pytest.raises(TokenizerError, match=r"no bos token.*special="):
        tokenizer.encode("a", bos=True)


def test_bos_and_eos_surround_the_text(trained):
    tokenizer = trained("char")
    assert tokenizer.encode("ab", bos=True, eos=True) == [2, *tokenizer.encode("ab"), 3]


def test_tokens_and_ids_lead_to_each_other(trained):
    tokenizer = trained("bpe")
    assert all(tokenizer.token_id(token) == index for token, index in tokenizer.vocabulary().items())
    with pytest.raises(TokenizerError, match="no token 'xyzzy'"):
        tokenizer.token_id("xyzzy")


@pytest.mark.parametrize("wrong", [-1, 10**6, 2**40])
def test_an_id_outside_the_vocabulary_is_refused(wrong, trained):
    with pytest.raises(TokenizerError, match=f"found {wrong}; expected 0 to"):
        trained("char").decode([5, wrong])


def test_ids_may_be_an_array(trained):
    tokenizer = trained("char")
    assert tokenizer.decode(np.array(tokenizer.encode("the old"))) == "the old"


def test_surrogates_are_joined_or_replaced(trained):
    tokenizer = trained("byte")
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00 \ud83d \ufeff")) == "😀 \ufffd \ufeff"


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", ["a", "list"]])
def test_only_text_is_encoded(wrong, trained):
    with pytest.raises(TokenizerError, match="only text can be encoded"):
        trained("char").encode(wrong)
    with pytest.raises(TokenizerError, match="only text can be encoded"):
        trained("char").encode_batch(["text", wrong])


def test_one_string_is_not_a_batch(trained):
    with pytest.raises(TokenizerError, match=r"pass \[text\]"):
        trained("char").encode_batch("one string")


def test_a_copy_by_pickle_is_equal_and_as_careful(trained):
    copy = pickle.loads(pickle.dumps(trained("unigram")))
    assert copy == trained("unigram")
    assert copy.eos not in copy.encode("a <eos> b")


def test_padding_and_truncation_of_a_file_are_switched_off(trained, tmp_path):
    trained("char").save(tmp_path / "new" / "tokenizer.json")
    document = json.loads((tmp_path / "new" / "tokenizer.json").read_text(encoding="utf-8"))
    backend = Backend.from_str(json.dumps(document))
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert len(Tokenizer.load(tmp_path).encode("the old")) == 7


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such file"),
        ("", "not JSON, or cut off"),
        ('{"model": {"type": "BPE", "vo', "not JSON, or cut off"),
        ("[1, 2]", "JSON, but not a tokenizer"),
        ('{"model_type": "bert", "hidden_size": 8}', "JSON, but not a tokenizer"),
        ('{"version": "1.0", "model": {"type": "Telepathy"}}', "not a tokenizer that can be opened"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(content, complaint, tmp_path):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TokenizerError, match=complaint) as refusal:
        Tokenizer.load(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_any_truncation_of_a_file_is_refused(trained, tmp_path):
    whole = trained("bpe").to_json()
    for end in range(0, len(whole), len(whole) // 40):
        (tmp_path / "tokenizer.json").write_text(whole[:end], encoding="utf-8")
        with pytest.raises(TokenizerError):
            Tokenizer.load(tmp_path)


def test_the_room_opens_without_torch():
    code = "import sys, clearhead.text; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
