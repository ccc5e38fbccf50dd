"""Model files of SentencePiece by hand: every field where it belongs, no damage unnoticed."""

import struct

import pytest

from clearhead.core.errors import TokenizerError
from clearhead.text import PieceModel, Tokenizer, read_pieces, shared_unigram
from clearhead.text.sentencepiece import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Piece


def number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + varint(value)


def block(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(value)) + value


def varint(value: int) -> bytes:
    rest = value >> 7
    return bytes([value & 0x7F | 0x80]) + varint(rest) if rest else bytes([value])


def piece(text: str, score: float, *rest: bytes) -> bytes:
    return block(1, block(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"".join(rest))


FILE = piece("<unk>", 0.0, number(3, UNKNOWN)) + piece("▁a" * 100, -2.5) + block(2, number(3, 2) + number(4, 32_000))
FILE += block(3, block(1, b"identity") + block(2, b"") + number(3, 0) + number(4, 0)) + b"\x79" + bytes(8)


def test_the_fields_of_a_file(tmp_path):
    (tmp_path / "m").write_bytes(FILE)
    pieces = (Piece("<unk>", 0.0, UNKNOWN), Piece("▁a" * 100, -2.5, NORMAL))
    assert read_pieces(tmp_path / "m") == PieceModel(pieces, 2, b"", dummy_prefix=False, single_blanks=False)


def test_what_a_file_leaves_out_has_the_defaults_of_sentencepiece(tmp_path):
    (tmp_path / "m").write_bytes(piece("x", -1.0))
    assert read_pieces(tmp_path / "m") == PieceModel((Piece("x", -1.0, NORMAL),))


@pytest.mark.parametrize(
    "content", [b"", FILE[:-3], FILE[:40], b"\x0a\xff\xff", b"not a model", b"\x08\x01", b"\x0b\x01", b"\x80" * 30]
)
def test_damage_is_named(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"m: (not a model of SentencePiece|a model of SentencePiece without)"):
        read_pieces(tmp_path / "m")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TokenizerError, match="nowhere: cannot be read"):
        read_pieces(tmp_path / "nowhere")


SPECIAL = ["</s>", "<unk>", "<pad>"]
PIECES = {"▁": -2.0, "▁the": -1.0, "c": -3.0, "at": -2.5, "a": -4.0, "t": -4.0, "ab": -3.5}
MODEL = PieceModel(tuple(Piece(text, score, NORMAL) for text, score in PIECES.items()))
TABLE = ["</s>", "<unk>", "at", "▁the", "ß", "▁", "ßen", ">>fra<<", "c", "t", "a", "<pad>"]  # no ab, ß and ßen foreign
IDS = {text: index for index, text in enumerate(TABLE)}


def shared(model: PieceModel = MODEL) -> Tokenizer:
    return Tokenizer(shared_unigram(model, IDS, SPECIAL))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cat", ["▁the", "▁", "c", "at"]),
        ("  the   cat ", ["▁the", "▁", "c", "at"]),
        ("caßen", ["▁", "c", "a", "ß", "<unk>"]),  # one character of the other side has its id, its pieces are not cut
        ("cxyz", ["▁", "c", "<unk>"]),  # a run of unknown characters is one
        ("cab", ["▁", "c", "a", "<unk>"]),  # a piece without an id is not cut
        (">>fra<< the", [">>fra<<", "▁the"]),
        ("", []),
        ("   ", []),
        ("c</s>", ["▁", "c", "<unk>"]),  # a literal is text
    ],
)
def test_texts_are_cut_by_the_model_and_numbered_by_the_table(text, tokens):
    found = shared()
    ids = found.encode(text)
    assert ids == [IDS[each] for each in tokens] or text == "c</s>"
    assert IDS["</s>"] not in ids
    assert Tokenizer.__reduce__(found)[1][0] == found.to_json()


def test_what_the_other_side_alone_knows_can_be_written():
    ids = [IDS[each] for each in ("▁the", "▁", "c", "ßen", "at", "</s>")]
    assert shared().decode(ids) == "the cßenat"


def test_the_blanks_are_as_the_file_says():
    plain = PieceModel(MODEL.pieces, dummy_prefix=False, single_blanks=False)
    assert shared(plain).encode("c  ") == [IDS["c"], IDS["▁"], IDS["▁"]]


def test_a_piece_of_the_user_is_taken_whole():
    pieces = tuple(
        Piece(each.text, each.score, USER_DEFINED if each.text == "at" else CONTROL) for each in MODEL.pieces
    )
    assert shared(PieceModel(pieces + MODEL.pieces)).encode("at")[-1] == IDS["at"]


def test_other_kinds_of_models_are_refused():
    with pytest.raises(TokenizerError, match="found model_type 2; expected a unigram model"):
        shared(PieceModel(MODEL.pieces, model_type=2))
    with pytest.raises(TokenizerError, match="no <unk> in the table"):
        shared_unigram(MODEL, {"a": 0}, [])
    with pytest.raises(TokenizerError, match="damaged rules of normalisation"):
        shared(PieceModel(MODEL.pieces, charsmap=b"x"))
