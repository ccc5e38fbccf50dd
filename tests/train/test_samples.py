"""Every validation leaves a few translations to read, of the same pairs each time."""

import json

import pytest

from clearhead.data.sources import Pair
from clearhead.text import train_tokenizer
from clearhead.train.run import run
from clearhead.train.validation import Translations


@pytest.fixture
def pairs():
    tokenizer = train_tokenizer("byte", ["irrelevant"])
    return Translations([Pair(f"s{index}", f"t{index}", "") for index in range(7)], tokenizer, tokenizer)


def test_samples_are_spread_over_what_was_translated(pairs):
    outputs = [f"o{index}" for index in range(6)]
    found = pairs.samples(outputs)
    assert found == [{"source": f"s{index}", "output": f"o{index}", "reference": f"t{index}"} for index in (0, 2, 4)]
    assert [each["source"] for each in pairs.samples(outputs[:2])] == ["s0", "s1"]
    assert pairs.samples([]) == []


def test_a_run_writes_samples_at_each_validation(tiny, tmp_path):
    run(tiny(), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    valid = [each["samples"] for each in lines if each["kind"] == "valid"]
    assert len(valid) == 2
    assert [each["source"] for each in valid[0]] == [each["source"] for each in valid[1]]
    assert all(each["reference"] == each["source"][::-1] for each in valid[0])
