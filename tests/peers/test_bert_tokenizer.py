"""Our WordPiece with BERT's normalisation against transformers' BertTokenizer, over the same vocabulary."""

import random
from collections.abc import Callable

import pytest

from clearhead.text import wordpiece_tokenizer
from clearhead.text.normalization import normalizer
from clearhead.text.special import BERT

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

PLAIN = "abcdefghijklmnopqrstuvwxyz ABCXYZ 0123456789 .,;:!?'\"-()[]{}<>/\\@#$%^&*_+=~`| \t\n\r"
ODD = "éÉüÜñçøßİıǅﬁΩλжЖאבعم船灯の한①½€£°“”‘’…—–·\u00a0\u3000\u200b\u00ad\ufeff\ufffd\0\x07\u0301\u0308\u2028😀👩‍🚀"
MARKS = dict.fromkeys(map(ord, "\u0301\u0308"))  # combining accents
SENTENCES = "the old sailor paints a blue window seven lanterns Résumé naïve Straße 老船长 修好了 don't e-mail 3.14"
WORDS = SENTENCES.split()
CUTS = "the old sail pain blue win lantern se na res ##or ##ts ##s ##dow ##ven ##ve ##ume ##um ##i ##mail"
PIECES = CUTS.split()


def texts(number: int) -> list[str]:
    """Half of them real words in odd company, half of them mere characters."""
    draw = random.Random(3)
    characters = ["".join(draw.choices(PLAIN * 2 + ODD, k=draw.randint(0, 30))) for _ in range(number // 2)]
    words = [
        draw.choice(" -.\u3000").join(draw.choices([*WORDS, *ODD], k=draw.randint(0, 9))) for _ in range(number // 2)
    ]
    return characters + words


def vocabulary() -> list[str]:
    """Every character of the texts, lower-cased and without accents too, in both forms, except a few; and pieces."""
    characters = {*PLAIN, *ODD, *"".join(WORDS), *(PLAIN + ODD + "".join(WORDS)).lower(), *"eunacois"}
    single = sorted(each for each in characters - set("qzΩ한") if not each.isspace())
    return list(dict.fromkeys([*BERT, *single, *("##" + each for each in single), *PIECES]))


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("generation", ["fast", "slow"])
def test_five_thousand_strings_have_the_ids_of_bert(lowercase, generation, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    peer = (fast if generation == "fast" else slow)(str(path), lowercase)
    ours = wordpiece_tokenizer(vocabulary(), list(BERT), normalizer("bert", lowercase=lowercase))
    # The slow one composes accents, which neither the fast one nor the code published with the paper does.
    without = MARKS if (generation, lowercase) == ("slow", False) else {}
    strings = [text.translate(without) for text in texts(5_000)]
    different = [text for text in strings if ours.encode(text) != peer(text)]
    assert different == []


def fast(path: str, lowercase: bool) -> Callable[[str], list[int]]:
    peer = transformers.BertTokenizer(vocab=path, do_lower_case=lowercase)
    return lambda text: peer.encode(text, add_special_tokens=False)


def slow(path: str, lowercase: bool) -> Callable[[str], list[int]]:
    """The original in Python, which shares no code with the one above."""
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
    peer = legacy.BertTokenizerLegacy(path, do_lower_case=lowercase)
    return lambda text: peer.convert_tokens_to_ids(peer.tokenize(text))
