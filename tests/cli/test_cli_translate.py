"""`translate`: lines as soon as they are known, streams, documents, statistics."""

import json
import re

import pytest
import torch

import clearhead
from clearhead.apply import Model
from clearhead.cli.chunks import chunks
from clearhead.cli.translate import in_order
from clearhead.generate import SearchConfig

LINES = ["abc", "", "fed", "abcdef", "a", "   ", "fa"]


def translated(folder, **changes: object) -> list[str]:
    model = clearhead.load(folder)
    return model.translate(LINES, SearchConfig(**{**model.search.model_dump(), **changes}))


def test_a_line_is_printed_as_soon_as_it_and_those_before_are_known(call, finished, monkeypatch):
    """The short lines come first out of the search; nothing waits for a line that stands below it."""
    told: list[str] = []
    plain = Model.translations

    def watched(self, texts, search=None):
        for place, found in plain(self, texts, search):
            told.append(f"found {place}")
            yield place, found

    monkeypatch.setattr(Model, "translations", watched)
    monkeypatch.setattr("builtins.print", lambda text, **how: told.append("printed"))
    call("translate", finished, "fedcba", "a", "abcd", "ab")
    assert sorted(told[:-4]) == ["found 0", "found 1", "found 2", "found 3"]  # the longest is the first line
    told.clear()
    call("translate", finished, "", "a", "ab", "abcdef")
    assert told == [each for place in range(4) for each in (f"found {place}", "printed")]


def test_places_come_in_order_whatever_order_they_are_found_in():
    found = iter([(2, "c"), (0, "a"), (1, "b"), (3, "d")])
    ordered = in_order(found)
    assert next(ordered) == "a"
    assert next(found) == (1, "b")  # not asked for before it was needed
    assert list(in_order([(1, "b"), (0, "a")])) == ["a", "b"]
    assert list(in_order([])) == []


def test_the_first_chunks_are_small():
    sizes = [len(each.texts) for each in chunks([str(each) for each in range(100)], "sentence", most=40)]
    assert sizes == [16, 32, 40, 12]
    assert [each.first for each in chunks(["a"] * 50, "sentence", most=40)] == [1, 17, 49]


def test_a_stream_is_the_greedy_translation(call, finished):
    expected = translated(finished, beams=1, method="greedy")
    done = call("translate", finished, "--stream", stdin="\n".join(LINES).encode())
    assert (done.status, done.err) == (0, "")
    assert done.out.split("\n")[:-1] == expected
    done = call("translate", finished, "abc", "--stream", "--max-tokens", 2, "--stats")
    assert done.out == translated(finished, beams=1, method="greedy", max_tokens=2)[0] + "\n"
    assert "tokens per second: " in done.err


def test_the_pieces_of_a_stream_are_the_translation(finished):
    model = clearhead.load(finished)
    pieces = list(model.stream_translation("abc"))
    assert len(pieces) > 1
    assert "".join(pieces) == translated(finished, beams=1)[0]
    assert list(model.stream_translation("  ")) == []


def test_the_document_holds_scores_and_statistics(call, finished):
    options = ["-n", 2, "--beams", 3, "--json", "--log-probabilities", 2]
    done = call("translate", finished, *options, stdin="\n".join(LINES).encode())
    assert done.out.count("\n") == 1
    document = json.loads(done.out)
    assert [each["sentence"] for each in document["sentences"]] == LINES
    model = clearhead.load(finished)
    search = SearchConfig(**{**model.search.model_dump(), "beams": 3, "n_best": 2})
    for each, found in zip(document["sentences"], model.n_best(LINES, search), strict=True):
        for told, (text, hypothesis) in zip(each["translations"], found, strict=True):
            assert (told["text"], told["tokens"]) == (text, hypothesis.tokens)
            assert told["score"] == pytest.approx(hypothesis.score, abs=1e-5)
            assert len(told["log_probabilities"]) == len(told["tokens"])
            assert all(len(top) == 2 for top in told["top"])
    counts = document["statistics"]
    assert counts["sentences"] == len(LINES)
    assert counts["chosen_tokens"] == sum(len(each["translations"][0]["tokens"]) for each in document["sentences"])
    assert 0 < counts["first_sentence_seconds"] <= counts["seconds"]
    assert counts["tokens_per_second"] > 0


def test_log_probabilities_of_tokens_add_up_to_that_of_the_search(finished):
    model = clearhead.load(finished)
    model.bundle.model.double()
    target = model.bundle.target
    for found in model.n_best(["abc", "fedab"], SearchConfig(beams=3, n_best=3, max_tokens=4)):
        for text, hypothesis in found:
            ended = len(hypothesis.tokens) < 4
            tokens = [*hypothesis.tokens, target.eos] if ended else hypothesis.tokens
            source = (
                "abc" if found[0][0] == model.translate(["abc"], SearchConfig(beams=3, max_tokens=4))[0] else "fedab"
            )
            scores = model.token_scores(source, tokens, top=1)
            assert sum(scores.log_probabilities) == pytest.approx(hypothesis.log_probability, abs=1e-9), text
            assert all(top[0][1] >= own for top, own in zip(scores.top, scores.log_probabilities, strict=True))
    assert model.token_scores("abc", []).log_probabilities == []


def test_statistics_go_to_standard_error(call, finished):
    done = call("translate", finished, "abc", "fed", "--stats")
    assert done.out == call("translate", finished, "abc", "fed").out
    for name in ("sentences: 2", "chosen tokens: ", "first sentence seconds: ", "tokens per second: "):
        assert name in done.err
    assert "sentences: 0" in call("translate", finished, "--stats").err


def test_a_translation_begins_with_what_is_asked_for(call, finished):
    model = clearhead.load(finished)
    model.begin_with("c")
    for way in (["--beams", 1], ["--stream"]):
        done = call("translate", finished, *LINES[:3], *way, "--begin", "c")
        assert done.out.splitlines() == model.translate(LINES[:3], SearchConfig(beams=1, length_extra=5))
        assert done.out != call("translate", finished, *LINES[:3], *way).out
    assert "no token 'de_DE' in this vocabulary" in call("translate", finished, "a", "--begin", "de_DE").complaint


def test_a_limit_of_tokens_is_kept(call, finished):
    done = call("translate", finished, "abcdef", "--max-tokens", 2, "--json")
    (best,) = json.loads(done.out)["sentences"][0]["translations"]
    assert len(best["tokens"]) <= 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--stream", "--beams", 2], "--beams: a stream is one translation by greedy search"),
        (["--stream", "-n", 2], "--n-best: a stream is one translation"),
        (["--stream", "--json"], "--json: a stream is one translation"),
        (["--stream", "--length-penalty", 0.5], "--length-penalty: a stream is one translation"),
        (["--log-probabilities", 1], "in the JSON document only; add --json"),
        (["--beams", 2, "-n", 3], "n_best must not exceed beams; found n_best 3, beams 2; set beams to 3 or more"),
        (["--max-tokens", 0], "--max-tokens"),
        (["--length-penalty", "nan"], "--length-penalty: input should be a .*number; found nan"),
    ],
)
def test_options_that_make_no_sense_are_told_in_one_line(call, finished, options, complaint):
    done = call("translate", finished, "abc", *options)
    assert done.status == 2
    assert re.search(complaint, done.complaint), done.complaint


def test_a_stream_names_the_line_that_is_too_long(call, finished):
    done = call("translate", finished, "--stream", stdin=f"abc\n{'abc' * 999}\n".encode())
    assert "standard input, line 2: this sentence is longer" in done.complaint
    assert done.out.count("\n") == 1
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_weights_of_either_kind_translate(call, finished, weights):
    done = call("translate", finished, "--weights", weights, "abc", "fed")
    assert done.status == 0, done
    assert len(done.out.splitlines()) == 2


def test_unknown_weights_are_refused_with_the_nearest_name(call, finished):
    assert "int8" in call("translate", finished, "--weights", "int9", "abc").complaint
