"""The embedded corpus in three splits, made along combinations so that the test asks for composition.

The rule. Every sentence has a set of *combinations*: each verb with its object, each adjective with its noun, each
construction with its verb or adjective, and the pairs that a rule lists (a verb with its time word, a month with its
day). The SHA-256 of a combination gives it, once and for all, to one of three shares: `TEST_SHARE` of all combinations
belong to test alone, `VALID_SHARE` to valid alone, the rest may occur anywhere. `HELD_OUT` decides a few by hand. Then

    train   has no combination of test or valid
    valid   has at least one combination of valid, and none of test
    test    has at least one combination of test, and none of valid

so every test sentence puts words and constructions together that training never put together, while training has
each of them in other company. Combinations are named by their English words, and constructions that say the same in
English share a family; therefore a test sentence occurs in training on neither side.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal

from clearhead.core.errors import DataError
from clearhead.data.grammar.grammar import Example, Grammar

Split = Literal["train", "valid", "test"]
TEST_SHARE = 0.06
VALID_SHARE = 0.04
HELD_OUT: Mapping[str, Split] = {
    "love + now": "test",  # 我现在爱你 is for the demo to compose
    "play + Chinese chess": "train",  # or these words would hardly be heard in training
    "see + hippo": "train",
    "kill + fly": "train",
    "change + habit": "train",
}
_ATTEMPTS = 200  # to find a new sentence of the split in one construction, before the round goes on without


def embedded_pairs(split: Split, count: int, seed: int = 1) -> list[Example]:
    """The first `count` distinct sentence pairs of a split; a longer list begins with the shorter one.

    Args:
        split: `train`, `valid` or `test`.
        count: how many pairs; no Chinese sentence occurs twice, punctuated or not.
        seed: another seed draws other sentences from the same split.

    Raises:
        DataError: the grammar has not so many different sentences.
    """
    if split not in ("train", "valid", "test"):
        raise DataError("no such split", found=split, expected="train, valid or test")
    stream = distinct(split, random.Random(f"{split} {seed}"))
    return [next(stream) for _ in range(count)]


def distinct(split: Split, rng: random.Random) -> Iterator[Example]:
    """Different sentences of a split, one of each construction in every round, until there seem to be no more."""
    grammar, seen = Grammar.load(), set[str]()
    found = -1
    while len(seen) > found:
        found = len(seen)
        for construction in sorted(grammar.constructions, key=lambda _: rng.random()):
            yield from _new(split, construction, rng, seen)
    raise DataError("the grammar has no more sentences", where=split, found=len(seen), remedy="ask for fewer")


def _new(split: Split, construction: str, rng: random.Random, seen: set[str]) -> Iterator[Example]:
    """One unseen sentence of the construction, or none if many attempts find none."""
    for _ in range(_ATTEMPTS):
        example = Grammar.load().sample(rng, construction)
        bare = example.zh.rstrip("。？！")
        if bare not in seen and split_of(example) == split:
            seen.add(bare)
            yield example
            return


def split_of(example: Example) -> Split | None:
    """Where a sentence belongs; None if it mixes combinations of valid with some of test."""
    owners = {owner(combination) for combination in example.combinations}
    if {"valid", "test"} <= owners:
        return None
    return "test" if "test" in owners else "valid" if "valid" in owners else "train"


@cache
def owner(combination: str) -> Split:
    """The split that a combination is kept for; `train` means that it may occur everywhere."""
    if combination in HELD_OUT:
        return HELD_OUT[combination]
    digest = hashlib.sha256(combination.encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if position < TEST_SHARE else "valid" if position < TEST_SHARE + VALID_SHARE else "train"
