"""Special tokens: their roles, the names the field gives them, and how text can never forge one."""

import re
from collections.abc import Collection, Mapping, Sequence

from clearhead.core.errors import TokenizerError

PLAIN = ("<pad>", "<unk>", "<bos>", "<eos>", "<mask>")  # ids 0 to 4 in every kind but wordpiece
BERT = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
)  # the order of our files; BERT's own puts 99 unused ones between

# For each role the names in use, the most telling first. A sequence starts with BERT's [CLS] and ends with
# its [SEP], and RoBERTa classifies on <s>: so a vocabulary that has only one of the two conventions serves both.
NAMES: Mapping[str, Sequence[str]] = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<pad_id>"),
    "unk": ("<unk>", "[UNK]", "<|unk|>", "<|unknown|>"),
    "bos": (
        "<bos>",
        "<s>",
        "[BOS]",
        "<|bos|>",
        "<|begin_of_text|>",
        "<|startoftext|>",
        "[CLS]",
        "<cls>",
        "<|endoftext|>",
    ),
    "eos": ("<eos>", "</s>", "[EOS]", "<|eos|>", "<|end_of_text|>", "[SEP]", "<sep>", "<|endoftext|>"),
    "mask": ("<mask>", "[MASK]", "<|mask|>"),
    "cls": ("[CLS]", "<cls>", "<s>", "<bos>"),
    "sep": ("[SEP]", "<sep>", "</s>", "<eos>"),
}


def discover(known: Collection[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The token that plays each role, for the roles that have one.

    Args:
        known: the special tokens of a vocabulary.
        given: tokens for some roles, where the common names do not tell; they need not be among `known`.
    """
    found = {role: name for role, names in NAMES.items() for name in reversed(names) if name in known}
    for role in given or {}:
        if role not in NAMES:
            raise TokenizerError(f"no role {role!r} for a special token", expected=f"one of {', '.join(NAMES)}")
    return {**found, **(given or {})}


def with_extra(standard: Sequence[str], extra: Sequence[str]) -> list[str]:
    """The standard special tokens, then the user's own; a TokenizerError for one that is too much like text."""
    for token in extra:
        if len(token) < 2 or token != token.strip():
            raise TokenizerError(
                f"{token!r} cannot be a special token",
                remedy="use two or more characters, such as '<|user|>'",
            )
    tokens = [*standard, *extra]
    if len(set(tokens)) < len(tokens):
        raise TokenizerError("a special token is named twice", found=", ".join(tokens))
    return tokens


def opening(tokens: Sequence[str]) -> str:
    """A regular expression that matches the first character of each literal special token.

    A pre-tokenizer that cuts there keeps `<eos>` in a corpus from being learned, and so from being produced,
    whole.
    """
    return "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in tokens)
