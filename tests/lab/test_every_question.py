"""What every question keeps, generated from the catalogue: a new question is tested without an edit here."""

import importlib
import json
import re

import pytest

from clearhead.lab import Scale, ids, question, run
from clearhead.lab.documents import DOCUMENTS
from clearhead.lab.pictures import svg
from clearhead.lab.question import TOPICS, Text

CHINESE = re.compile(r"[一-鿿]")
NARROW = re.compile(r"[一-鿿] ?[,;:?!]|[,;:?!] ?[一-鿿]")  # punctuation of the wrong width


@pytest.mark.parametrize("id", ids())
def test_runs_and_answers(id: str) -> None:
    (result,) = run([id], Scale("quick"), jobs=1)
    asked = result.question
    answer, figure = asked.answer(result.rows), asked.draw(result.rows)
    for each in (answer.short, answer.imprecise, answer.limits, answer.caption):
        assert_bilingual(each)
    for each in result.judgements.values():
        assert_bilingual(each.evidence)
    assert len(svg(figure)) < 150_000
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel() or axes.get_label() == "<colorbar>", "an axis says nothing"
    document = json.loads(json.dumps(result.document("picture.svg"), allow_nan=False))
    assert {"id", "verdicts", "rows", "figure", "seconds", "seeds", "sources"} <= document.keys()
    assert [each["claim"] for each in document["verdicts"]] == [each.key for each in asked.claims]
    assert document["rows"]


@pytest.mark.parametrize("id", ids())
def test_says_what_it_asks(id: str) -> None:
    asked = question(id)
    assert asked.topic in TOPICS
    assert asked.claims
    assert asked.references
    for each in (asked.title, asked.prediction, asked.criterion, *(claim.text for claim in asked.claims)):
        assert_bilingual(each)
    for each in (*asked.sources, *(claim.source for claim in asked.claims)):
        assert each.document in DOCUMENTS
    assert len({each.key for each in asked.claims}) == len(asked.claims)
    for part in asked.parts:
        module, _, name = part.partition(":")
        assert getattr(importlib.import_module(module), name), part


@pytest.mark.parametrize("id", ids())
def test_scales_and_seed_lists(id: str) -> None:
    asked = question(id)
    for scale in (Scale("quick"), Scale("full")):
        cells = [json.dumps(dict(each), sort_keys=True) for each in asked.cells(scale)]
        assert cells
        assert len(set(cells)) == len(cells), "a cell runs twice"
    seeds = [{cell.get("seed") for cell in asked.cells(Scale("full", number))} - {None} for number in (0, 1)]
    assert not seeds[0] & seeds[1], "two seed lists share a seed"


def assert_bilingual(text: Text) -> None:
    assert text.en.strip()
    assert CHINESE.search(text.zh)
    assert not NARROW.search(text.zh), text.zh
    assert not CHINESE.search(text.en)
    assert not re.search(r"\bnan\b", text.en), text.en  # a number that is none; NaN in prose is meant
