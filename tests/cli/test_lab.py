"""clearhead lab, as its user calls it."""

import json

import pytest


def document(done):
    return json.loads(done.out.strip().splitlines()[-1])


def test_list(call):
    done = call("lab", "list", "--json")
    assert done.status == 0
    listed = document(done)["questions"]
    assert {"id", "topic", "title"} <= listed[0].keys()
    assert listed[0]["id"] in done.out.splitlines()[0]
    attention = document(call("lab", "list", "--topic", "attention", "--json"))["questions"]
    assert 0 < len(attention) <= len(listed)
    assert {each["topic"] for each in attention} == {"attention"}


@pytest.mark.parametrize(("language", "word"), [("en", "Prediction"), ("zh", "预测")])
def test_show(call, language, word):
    done = call("lab", "show", "scale-by-sqrt-dk", "--lang", language)
    assert done.status == 0
    assert word in done.out
    assert "vanishing" in done.out


def test_run_keeps_what_it_measured(call, tmp_path):
    arguments = ("lab", "run", "scale-by-sqrt-dk", "--scale", "quick", "--jobs", "1", "--cache", tmp_path, "--json")
    first = document(call(*arguments))
    assert {"id", "verdicts", "rows", "figure", "seconds", "seeds", "sources"} <= first.keys()
    assert {each["document"][:3] for each in first["sources"]} == {"000", "001", "002", "003", "004"}
    assert first["figure"].endswith(".svg")
    assert document(call(*arguments)) == first


def test_what_is_not_there_is_told_with_the_nearest(call):
    done = call("lab", "run", "scale-by-sqrt")
    assert done.status == 2
    assert "did you mean 'scale-by-sqrt-dk'" in done.err
    assert call("lab", "show", "x").status == 2
    assert call("lab", "run", "all", "--scale", "huge").status == 2


@pytest.mark.parametrize(
    ("language", "words"), [("en", "2 of 2 seed lists give this verdict"), ("zh", "2 组种子中有 2 组得出这一结论")]
)
def test_seed_lists_are_compared(call, tmp_path, language, words):
    options = ("--scale", "quick", "--jobs", "1", "--cache", tmp_path, "--lists", "2", "--lang", language, "--json")
    done = call("lab", "run", "layernorm-assumption", *options)
    assert done.status == 0
    assert words in done.out
    assert [list(each["by_seed_list"]) for each in document(done)["verdicts"]] == [["0", "1"]]
    assert call("lab", "run", "layernorm-assumption", "--lists", "0").status == 2
