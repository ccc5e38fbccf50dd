"""A byte-level BPE tokenizer as metadata of a GGUF file; llama.cpp has no other kind of ours.

It cuts texts by rules of its own, chosen by a name; only a tokenizer that cuts as one of them do can be said.
"""

import json
from dataclasses import dataclass
from typing import Any

from clearhead.text import Tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS = {LLAMA3: "llama-bpe", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}  # expression -> name there
NORMAL, CONTROL, UNUSED = 1, 3, 5  # kinds of tokens there
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, their kinds and merges in the order of their ids and ranks."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    cut: str  # the name of a rule


def obstacle(tokenizer: Tokenizer) -> str | None:
    """Why llama.cpp cannot read with a tokenizer; None if it can."""
    document = json.loads(tokenizer.to_json())
    model = document["model"]
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") or model.get("byte_fallback"):
        return f"its tokenizer is {_kind(model)}, and the file can say byte-level BPE alone"
    if _cut(document["pre_tokenizer"]) is None:
        return "its tokenizer cuts texts in a way that llama.cpp has no name for"
    normalizer = document["normalizer"]
    if normalizer is not None and not (normalizer["type"] == "NFC" and _cut(document["pre_tokenizer"]) == "qwen2"):
        return f"its tokenizer changes texts before it cuts them ({normalizer['type']}), llama.cpp does not"
    return None


def vocabulary(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    """What the file says of a tokenizer; rows of the table without a token are marked as unused."""
    document = json.loads(tokenizer.to_json())
    known = {index: token for token, index in tokenizer.vocabulary().items()}
    kinds = [UNUSED if row not in known else CONTROL if row in tokenizer.special_ids else NORMAL for row in range(rows)]
    tokens = [known.get(row, f"[PAD{row}]") for row in range(rows)]
    merges = [each if isinstance(each, str) else " ".join(each) for each in document["model"]["merges"]]
    return Vocabulary(tokens, kinds, merges, str(_cut(document["pre_tokenizer"])))


def _kind(model: dict[str, Any]) -> str:
    return "BPE over characters" if model.get("type") == "BPE" else str(model.get("type"))


def _cut(cutter: dict[str, Any] | None) -> str | None:
    """llama.cpp's name of the rule that cuts a text into words."""
    if cutter is None:
        return None
    if cutter["type"] == "ByteLevel":
        return "gpt-2" if not cutter["add_prefix_space"] and cutter.get("use_regex", True) else None
    parts = cutter.get("pretokenizers", [])
    if cutter["type"] != "Sequence" or [each["type"] for each in parts] != ["Split", "ByteLevel"]:
        return None
    split, level = parts
    plain = not level["add_prefix_space"] and not level.get("use_regex", True) and split["behavior"] == "Isolated"
    return CUTS.get(split["pattern"].get("Regex")) if plain else None
