"""A small English and Chinese corpus, and one tokenizer of each kind trained on it."""

import random
from pathlib import Path

import pytest

from clearhead.core.registry import Choice
from clearhead.text import TOKENIZERS, Tokenizer

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
WHO = ["the old sailor", "a young painter", "my neighbour", "our teacher", "the quiet child", "another doctor"]
DOES = ["paints", "carries", "remembers", "has broken", "is looking for", "will repair", "never finds"]
WHAT = ["a wooden boat", "the blue window", "seven lanterns", "his winter coat", "an answer", "the longest bridge"]
谁, 做, 什么 = (
    ["老船长", "小姑娘", "我的邻居", "那位医生"],
    ["正在找", "修好了", "忘记了", "画了"],
    ["一条木船", "蓝色的窗户", "七盏灯笼"],
)
SYLLABLES = ["ka", "lo", "min", "tar", "ves", "qu", "pel", "or", "ith", "sun", "dra", "gov", "ney", "ba", "ri"]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,.!?'"
SIZE = 380  # within reach of every kind on this corpus


@pytest.fixture(scope="session")
def lines() -> list[str]:
    """400 sentences, and every character at the beginning, inside and at the end of a word."""
    draw = random.Random(7)
    english = [f"{draw.choice(WHO)} {draw.choice(DOES)} {draw.choice(WHAT)}." for _ in range(200)]
    chinese = [draw.choice(谁) + draw.choice(做) + draw.choice(什么) + "。" for _ in range(100)]
    invented = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(300)]
    puzzling = [" ".join(draw.choices(invented, k=6)) for _ in range(100)]
    characters = sorted({*LETTERS, *"".join(chinese)})
    return [*english, *chinese, *puzzling, *(" ".join(each * 3 for each in characters) for _ in range(2))]


@pytest.fixture(scope="session")
def small():
    """A function from a kind, and options, to its choice in a size that the corpus allows."""

    def choose(kind: str, **options: object) -> Choice:
        size = {"vocab_size": SIZE} if "vocab_size" in TOKENIZERS.options(kind) else {}
        return Choice(kind=kind, options={**size, **options})

    return choose


@pytest.fixture(scope="session")
def trained(lines, small):
    """A function from a kind, and options, to its tokenizer on that corpus; each is trained once."""
    known: dict[tuple[object, ...], Tokenizer] = {}

    def train(kind: str, **options: object) -> Tokenizer:
        key = (kind, *sorted(options.items()))
        if key not in known:
            known[key] = TOKENIZERS.build(small(kind, **options)).train(lines)
        return known[key]

    return train


@pytest.fixture(scope="session")
def sentences():
    """A function from a language to 1000 sentences of real text; the test is skipped where there is none."""

    def read(language: str) -> list[str]:
        path = SHARED / "data" / "tatoeba_zh_en" / "train.tsv"
        if not path.exists():
            pytest.skip("needs the shared data")
        rows = path.read_text(encoding="utf-8").splitlines()[3000:4000]
        return [row.split("\t")[("en", "zh").index(language)] for row in rows]

    return read
