"""What happens to the characters of a text before it is cut: nothing, composition, or BERT's cleaning."""

from collections.abc import Sequence
from typing import Literal

from tokenizers import Regex, normalizers
from tokenizers.normalizers import Normalizer

Normalization = Literal["none", "nfc", "nfkc", "bert"]


def normalizer(kind: Normalization, *, lowercase: bool, then: Sequence[Normalizer] = ()) -> Normalizer | None:
    """The chain of normalizers that a recipe asks for; None where a text is to stay as it is.

    Args:
        kind: `none`; `nfc` composes accents (lossless to the eye); `nfkc` also folds full-width letters,
            ligatures and the like; `bert` drops control characters, makes every blank a space and puts spaces
            round CJK characters.
        lowercase: lower-case the text; under `bert` this strips accents too, as uncased BERT does.
        then: normalizers that the tokenizer itself needs afterwards.

    Source: Devlin et al., 2019 (arXiv:1810.04805), `BasicTokenizer` of the code published with it.
    """
    chain = [*_chain(kind, lowercase=lowercase), *then]
    if len(chain) <= 1:
        return chain[0] if chain else None
    return normalizers.Sequence(chain)


def _chain(kind: Normalization, *, lowercase: bool) -> list[Normalizer]:
    if kind == "bert":
        return [normalizers.BertNormalizer(lowercase=lowercase)]
    composed: dict[str, list[Normalizer]] = {
        "none": [],
        "nfc": [normalizers.NFC()],
        "nfkc": [normalizers.NFKC()],
    }
    return composed[kind] + ([normalizers.Lowercase()] if lowercase else [])


def single_spaces() -> list[Normalizer]:
    """Each run of blanks becomes one space, and none is left at the ends."""
    return [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
