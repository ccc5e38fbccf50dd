"""`generate` and `chat`: what they print, where they stop, and what they say to mistakes."""

import json
import os
import re
import signal

import pytest
import torch

import clearhead
from clearhead.apply import Model
from clearhead.bundle import Bundle
from clearhead.generate import SamplingConfig
from clearhead.model import ModelConfig, Transformer
from clearhead.text import train_tokenizer

GREEDY = SamplingConfig(temperature=0.0)


@pytest.fixture(scope="session")
def writer(tmp_path_factory):
    """The folder of an untrained model that goes on with any text."""
    torch.manual_seed(11)
    folder = tmp_path_factory.mktemp("writer")
    tokenizer = train_tokenizer("char", ["abc def user:assistant 0123456789?!"])
    sizes = {"encoder_layers": 0, "decoder_layers": 1, "d_model": 12, "heads": 2, "d_ff": 20, "length": 60}
    vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size}
    model = Transformer(ModelConfig(**sizes, **vocab, pad=tokenizer.need("pad")))
    Bundle(model, tokenizer, tokenizer).save(folder)
    return folder


@pytest.fixture
def expected(writer):
    """A function from a prompt to its answer."""
    model = clearhead.load(writer)
    return lambda text, tokens=9, **changes: model.generate(
        text, max_tokens=tokens, sampling=SamplingConfig(**{"seed": 3, **changes})
    )


def flat(text):
    return " ".join(text.split("\n")).strip()


def test_one_prompt_is_answered_as_it_comes(call, writer, expected):
    done = call("generate", writer, "abc", "--max-tokens", 9, "--seed", 3)
    assert (done.status, done.out, done.err) == (0, expected("abc") + "\n", "")


def test_line_n_answers_line_n(call, writer, expected):
    lines = ["abc", "", "d e", "abc"]
    done = call("generate", writer, "--max-tokens", 9, "--seed", 3, stdin="\n".join(lines).encode())
    assert done.status == 0
    assert done.out.split("\n") == [*(flat(expected(each)) for each in lines), ""]
    assert call("generate", writer, stdin=b"").out == ""


def test_more_lines_than_fit_in_one_go(call, writer, monkeypatch):
    monkeypatch.setattr("clearhead.cli.generate.CHUNK", 2)
    assert call("generate", writer, "--max-tokens", 2, stdin=b"a\nb\na\nb\na\n").out.count("\n") == 5


def test_answers_stand_in_columns(call, writer):
    done = call("generate", writer, "abc", "-n", 3, "--max-tokens", 6, "--seed", 1)
    assert len(done.out.rstrip("\n").split("\t")) == 3


def test_the_document_holds_tokens_and_statistics(call, writer, expected):
    options = ["-n", 2, "--max-tokens", 9, "--seed", 3, "--log-probabilities", 2, "--json"]
    document = json.loads(call("generate", writer, "abc", "b", *options).out.splitlines()[-1])
    assert [each["prompt"] for each in document["prompts"]] == ["abc", "b"]
    answer = document["prompts"][0]["answers"][0]
    assert answer["text"] == expected("abc")
    assert answer["finish"] in ("stop", "length")
    assert len(answer["tokens"]) == len(answer["log_probabilities"]) == len(answer["top"])
    assert document["statistics"]["answers"] == 4
    assert document["statistics"]["tokens_per_second"] > 0


def test_statistics_go_to_standard_error(call, writer):
    done = call("generate", writer, "abc", "--max-tokens", 5, "--stats")
    assert "tokens per second: " in done.err
    assert "mean first token seconds: " in done.err
    assert "cache bytes: " in done.err


def test_settings_of_sampling_reach_the_model(call, writer, expected):
    cases = {
        ("--temperature", "0"): {"temperature": 0.0, "seed": None},
        ("--top-k", "2"): {"top_k": 2, "seed": 5},
        ("--top-p", "0.5", "--min-p", "0.1"): {"top_p": 0.5, "min_p": 0.1, "seed": 5},
        ("--repetition-penalty", "1.8"): {"repetition_penalty": 1.8, "seed": 5},
        ("--set", "presence_penalty=1.5", "--set", "logit_bias={7: 4}"): {
            "presence_penalty": 1.5,
            "logit_bias": {7: 4.0},
            "seed": 5,
        },
    }
    for options, changes in cases.items():
        seed = () if changes["seed"] is None else ("--seed", 5)
        assert (
            call("generate", writer, "abc", "--max-tokens", 9, *options, *seed).out == expected("abc", **changes) + "\n"
        )


def test_a_stop_string_ends_an_answer(call, writer, expected):
    free = expected("abc")
    done = call("generate", writer, "abc", "--max-tokens", 9, "--seed", 3, "--stop", free[4:6], "--stop", "never")
    assert done.out == free[: free.find(free[4:6])] + "\n"


@pytest.mark.parametrize("cache", ["dense", "paged"])
def test_every_cache_gives_the_same_answer(call, writer, expected, cache):
    assert (
        call("generate", writer, "abc", "--max-tokens", 9, "--seed", 3, "--cache", cache).out == expected("abc") + "\n"
    )


def test_a_translator_generates_too(call, finished):
    done = call("generate", finished, "abc", "fed", "--temperature", 0)
    assert (done.status, done.out.count("\n")) == (0, 2)
    assert call("translate", finished, "abc", "fed", "--beams", 1).out == done.out


@pytest.mark.parametrize("how", [["lookup"], ["draft", "--draft", "WRITER"]], ids=["lookup", "draft"])
def test_guessing_ahead_gives_the_same_answers_and_tells_what_it_was_worth(call, writer, expected, how):
    options = [
        "--max-tokens",
        9,
        "--temperature",
        0,
        "--speculate",
        *(writer if each == "WRITER" else each for each in how),
    ]
    greedy = {"temperature": 0.0, "seed": None}
    done = call("generate", writer, "abc", *options, "--stats")
    assert (done.status, done.out) == (0, expected("abc", **greedy) + "\n")
    assert "acceptance rate: " in done.err
    assert "tokens per pass: " in done.err
    lines = call("generate", writer, *options, "--guesses", 2, stdin=b"abc\nd e\n").out.split("\n")
    assert lines == [*(flat(expected(each, **greedy)) for each in ("abc", "d e")), ""]
    document = json.loads(call("generate", writer, "abc", *options, "--json", "--log-probabilities", 1).out)
    (answer,) = document["prompts"][0]["answers"]
    assert answer["text"] == expected("abc", **greedy)
    assert len(answer["log_probabilities"]) == len(answer["top"]) == len(answer["tokens"])
    assert document["statistics"]["tokens_per_pass"] > 1
    assert 0 <= document["statistics"]["acceptance_rate"] <= 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--speculate", "lokup"], "--speculate: no drafter of kind 'lokup'.*did you mean 'lookup'"),
        (["--speculate", "draft"], "no model to draft with; add --draft MODEL"),
        (["--speculate", "lookup", "--draft", "runs/small"], "--draft: lookup has no use of a draft model"),
        (["--speculate", "draft", "--draft", "nowhere"], "nowhere: no such folder"),
        (["--speculate", "lookup", "-n", 2], "one answer at a time; found n 2"),
        (["--speculate", "lookup", "--cache", "paged"], "a cache of its own; leave one of the two out"),
        (["--draft", "runs/small"], "--draft: this has no use without guessing ahead; add --speculate draft"),
        (["--guesses", 3], "--guesses: this has no use without guessing ahead; add --speculate lookup"),
        (["--log-probabilities", 3], "in the JSON document only; add --json"),
    ],
)
def test_options_that_do_not_go_together(call, writer, options, complaint):
    done = call("generate", writer, "abc", *options)
    assert done.status in (1, 2)
    assert re.search(complaint, done.complaint), done.complaint


def test_a_translator_drafts_for_no_other_model(call, writer, finished):
    done = call("generate", writer, "abc", "--speculate", "draft", "--draft", finished)
    assert "the draft model reads a source, and this model has none" in done.complaint


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_help_lists_each_option_of_a_group_once(call, command):
    shown = call(command, "--help").out
    for option in ("--max-tokens", "--top-p", "--repetition-penalty", "--set", "--speculate", "--draft", "--guesses"):
        assert len(re.findall(rf"^\s+{option}\b", shown, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--max-tokens", 0], "--max-tokens"),
        (["--top-p", 3], "--top-p: input should be less than or equal to 1; found 3"),
        (["--temperature", 0, "--top-k", 3], "greedy search has no use of top_k"),
        (["--temperature", 0, "-n", 2], "greedy search has one answer only"),
        (["--set", "nothing"], "not an option"),
        (["--set", "topk=3"], "--set topk: no such setting; did you mean 'top_k'?"),
        (["--temperature", 0, "--set", "temperature=1"], "--set temperature: this is said twice"),
        (["--set", "bad_words=[[999]]"], "bad_words names an unknown token; found 999; expected 0 to"),
        (["--cache", "pagged"], "no cache of kind 'pagged'.*did you mean 'paged'"),
        (["--cache", "windowed"], "it has no window"),
        (["--stop", ""], "an empty stop string"),
    ],
)
def test_mistakes_are_told_in_one_line(call, writer, options, complaint):
    done = call("generate", writer, "abc", *options)
    assert done.status in (1, 2)
    assert re.search(complaint, done.complaint), done.complaint


def test_a_prompt_that_is_too_long_is_named(call, writer):
    done = call("generate", writer, "--max-tokens", 2, stdin=b"abc\n" + b"a" * 99)
    assert "standard input, line 2: the prompt is longer than the context" in done.complaint


# --- chat ---


def talk(call, writer, *lines, options=()):
    stdin = "".join(f"{each}\n" for each in lines).encode()
    return call("chat", writer, "--max-tokens", 9, "--seed", 3, *options, stdin=stdin)


def answer(writer, *messages):
    roles = ("user", "assistant")
    asked = [{"role": roles[at % 2], "content": each} for at, each in enumerate(messages)]
    pieces = clearhead.load(writer).chat(asked, max_tokens=9, sampling=SamplingConfig(seed=3))
    return "".join(pieces).strip()


def test_a_conversation_goes_on(call, writer):
    first = answer(writer, "ab")
    second = answer(writer, "ab", first, "cd")
    done = talk(call, writer, "ab", "", "cd", "/quit", "never asked")
    assert (done.status, done.err) == (0, "")
    assert done.out.strip() == f"{first}\n{second}".strip()


def test_reset_forgets(call, writer):
    done = talk(call, writer, "ab", "/reset", "ab")
    first = answer(writer, "ab")
    assert done.out.strip() == f"{first}\n{first}".strip()


def test_a_system_message_stands_before_all(call, writer):
    assert talk(call, writer, "ab", options=["--system", "def def"]).out != talk(call, writer, "ab").out


def test_a_conversation_that_outgrows_the_context_says_so_and_can_begin_anew(call, writer):
    done = talk(call, writer, "a" * 55, "/reset", "ab")
    assert done.status == 0
    assert "the prompt is longer than the context" in done.err
    assert "/reset begins anew" in done.err
    assert done.out.strip() == answer(writer, "ab")


def test_an_interruption_stops_the_answer_only(call, writer, monkeypatch):
    plain, stopped, other = Model.chat, answer(writer, "ab"), answer(writer, "cd")

    def interrupted(self, messages, **options):
        for at, piece in enumerate(plain(self, messages, **options)):
            if at == 1 and messages[-1]["content"] == "ab":
                os.kill(os.getpid(), signal.SIGINT)
            yield piece

    monkeypatch.setattr(Model, "chat", interrupted)
    before = signal.getsignal(signal.SIGINT)
    done = talk(call, writer, "ab", "/reset", "cd")
    assert done.status == 0
    assert signal.getsignal(signal.SIGINT) == before
    first, second = done.out.rstrip("\n").split("\n")
    assert len(first) <= 2 < len(stopped)
    assert second.strip() == other


def test_a_conversation_guesses_ahead(call, writer):
    first = clearhead.load(writer).chat([{"role": "user", "content": "ab"}], max_tokens=9, sampling=GREEDY)
    stdin = b"ab\n"
    done = call("chat", writer, "--max-tokens", 9, "--temperature", 0, "--speculate", "lookup", stdin=stdin)
    assert (done.status, done.out.strip()) == (0, "".join(first).strip())


def test_a_translator_does_not_converse(call, finished):
    assert "it does not converse" in call("chat", finished, stdin=b"hello\n").complaint
