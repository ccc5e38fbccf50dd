"""A small file for every kind of data source, and stores of given lengths."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clearhead.core.registry import Choice
from clearhead.data.store import Store, write_stores

PAIRS = [("我现在爱你", "I love you now"), ("一 \u2028 二", "one \u2028 two"), ("é", "e\u0301 \x85"), ("猫", "cat")]


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    """Pairs with everything in them that some reader takes for the end of a line."""
    return PAIRS


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """A function that writes a file into the test's folder, gzipped where its name says so."""

    def save(name: str, text: str | bytes) -> Path:
        raw = text.encode() if isinstance(text, str) else text
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
        return path

    return save


@pytest.fixture
def sample(write: Callable[[str, str | bytes], Path]) -> Callable[..., Choice]:
    """A function from the name of a source to a choice of it whose files hold PAIRS (except for the embedded one)."""

    def make(name: str, suffix: str = "", pairs: list[tuple[str, str]] = PAIRS, end: str = "\n") -> Choice:
        if name == "embedded":
            return Choice(kind=name, options={"split": "train", "pairs": 12})
        if name == "parallel":
            write(f"a.zh{suffix}", "".join(source + end for source, _ in pairs))
            write(f"a.en{suffix}", "".join(target + end for _, target in pairs))
            return Choice(kind=name, options={"source": f"a.zh{suffix}", "target": f"a.en{suffix}"})
        if name == "tsv":
            write(f"a.tsv{suffix}", "".join(f"{source}\t{target}{end}" for source, target in pairs))
            return Choice(kind=name, options={"file": f"a.tsv{suffix}"})
        if name == "jsonl":
            records = [{"source": source, "target": target} for source, target in pairs]
            lines = [json.dumps(each, ensure_ascii=False) + end for each in records]
            write(f"a.jsonl{suffix}", "".join(lines))
            return Choice(kind=name, options={"file": f"a.jsonl{suffix}"})
        raise NotImplementedError(f"say in this fixture how the files of the source {name!r} look")

    return make


@pytest.fixture
def stores(tmp_path: Path) -> Callable[[list[tuple[int, int]]], list[Store]]:
    """A function from pairs of lengths to two stores; row N holds the id N % 1000 again and again."""

    def make(lengths: list[tuple[int, int]]) -> list[Store]:
        rows = (([n % 1000] * source, [n % 1000] * target) for n, (source, target) in enumerate(lengths))
        return write_stores(tmp_path / "stores", 2, rows, vocab=1000)

    return make


@pytest.fixture
def captions() -> list[tuple[int, int]]:
    """20,000 pairs of lengths as captions have them: about 14 tokens, a long tail, sides that go together."""
    random = np.random.default_rng(3)
    source = np.clip(random.lognormal(np.log(13), 0.35, 20_000), 3, 60).astype(int)
    target = np.clip(source * random.normal(1.05, 0.15, 20_000) + random.normal(0, 1, 20_000), 2, 70).astype(int)
    return list(zip(source.tolist(), target.tolist(), strict=True))
