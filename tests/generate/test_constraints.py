"""Whatever a random model would say, its constrained output parses, with tokens of any kind."""

import ast
import json
import re
import sys
from typing import Literal

import pytest
import torch
from pydantic import BaseModel, ConfigDict

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Choice
from clearhead.generate.sampling import CONSTRAINTS, Chooser, SamplingConfig, Spelling
from clearhead.text import TOKENIZERS, Tokenizer, train_tokenizer
from clearhead.text.spelling import spelling

pytest.importorskip("llguidance")
LONGEST = 300  # tokens

JSON = ['{"name": "the old boat", "size": -12, "tags": ["blue", "red"], "inner": {"open": true, "ratio": 0.25}}']
CORPUS = [*JSON * 30, *["the quick brown fox jumps over a lazy dog 0123456789 (1+2)*(3-4)/5 ABC é 老船长"] * 30]
OPTIONS = {"byte_bpe": {"vocab_size": 330}, "unigram": {"vocab_size": 79}}
KINDS = [name for name in TOKENIZERS.names() if name not in ("bpe", "wordpiece")]  # these cannot be spelled


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    open: bool
    ratio: float | None


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    size: int
    color: Literal["red", "blue"]
    inner: Inner


@pytest.fixture(scope="module")
def tokenizer():
    known: dict[str, Tokenizer] = {}

    def make(kind: str) -> Tokenizer:
        if kind not in known:
            known[kind] = train_tokenizer(Choice(kind=kind, options=OPTIONS.get(kind, {})), CORPUS)
        return known[kind]

    return make


@pytest.fixture(scope="module")
def spelled(tokenizer):
    known: dict[str, Spelling] = {}

    def make(kind: str) -> Spelling:
        if kind not in known:
            known[kind] = Spelling(spelling(tokenizer(kind)), encode=tokenizer(kind).encode)
        return known[kind]

    return make


def outputs(tokenizer: Tokenizer, spelled: Spelling, constraint: dict, count: int = 12, **settings) -> list[str]:
    """What random models say: uniform noise, its end of text as likely as any token."""
    texts = []
    for seed in range(count):
        config = SamplingConfig(constraint=constraint, seed=seed, **settings)
        vocab = tokenizer.vocab_size + 5  # padded, as the tables of many models are
        one = Chooser(config, [tokenizer.bos], vocab=vocab, eos=tokenizer.eos, spelling=spelled)
        noise, ids = torch.Generator().manual_seed(seed), []
        while len(ids) < LONGEST:
            ids.append(one.choose(3 * torch.randn(vocab, generator=noise)).token)
            if ids[-1] == tokenizer.eos:
                break
        if ids[-1] == tokenizer.eos:  # what never ended has no whole to judge
            assert tokenizer.eos not in ids[:-1]
            texts.append(tokenizer.decode(ids))
    assert len(texts) > count // 2
    return texts


@pytest.mark.parametrize("kind", KINDS)
def test_output_under_a_schema_is_json_that_validates(tokenizer, spelled, kind):
    schema = Outer.model_json_schema()
    schema["properties"]["name"]["maxLength"] = 12
    found = outputs(tokenizer(kind), spelled(kind), {"kind": "json_schema", "schema": schema})
    for text in found:
        Outer.model_validate_json(text)
    assert len(set(found)) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_that_says_nothing_gives_json(tokenizer, spelled, kind):
    for text in outputs(tokenizer(kind), spelled(kind), {"kind": "json_schema", "schema": {}}):
        json.loads(text)
    spaced = {"kind": "json_schema", "schema": {"type": "array", "items": {"type": "integer"}}, "spaces": True}
    found = outputs(tokenizer(kind), spelled(kind), spaced)
    assert all(all(isinstance(each, int) for each in json.loads(text)) for text in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", ["[0-9]{4}-[01][0-9]", "(ab|ba)+c?", "the [a-z]{2,5}( dog)?", "[^a-z]{3}"])
def test_output_under_an_expression_matches_it_as_a_whole(tokenizer, spelled, kind, pattern):
    found = outputs(tokenizer(kind), spelled(kind), {"kind": "regex", "pattern": pattern})
    if kind == "unigram":  # its decoder takes the blank before the first word away
        found = [each if re.fullmatch(pattern, each) else " " + each for each in found]
    assert all(re.fullmatch(pattern, text, re.DOTALL) for text in found)
    assert len(set(found)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_output_under_a_grammar_is_derived_from_it(tokenizer, spelled, kind):
    rules = 'start: sum\nsum: term (("+" | "-") term)*\nterm: NUMBER | "(" sum ")"\nNUMBER: /[1-9][0-9]{0,3}/'
    found = outputs(tokenizer(kind), spelled(kind), {"kind": "grammar", "rules": rules}, count=20)
    allowed = (ast.Expression, ast.BinOp, ast.Constant, ast.Add, ast.Sub)
    for text in found:
        assert all(isinstance(each, allowed) for each in ast.walk(ast.parse(text, mode="eval")))
    assert any("(" in text for text in found)


def test_a_constraint_works_with_other_steps(tokenizer, spelled):
    words = {"kind": "regex", "pattern": "(the|a) (dog|fox)"}
    taken = tokenizer("byte_bpe"), spelled("byte_bpe")
    greedy = outputs(*taken, words, temperature=0)
    assert {*greedy} <= {"the dog", "the fox", "a dog", "a fox"}
    sampled = outputs(*taken, words, top_k=3, top_p=0.9, repetition_penalty=1.2)
    assert {*sampled} <= {"the dog", "the fox", "a dog", "a fox"}
    letter = tokenizer("char").encode("d")
    banned = outputs(tokenizer("char"), spelled("char"), {"kind": "regex", "pattern": "[df]og"}, bad_words=[letter])
    assert {*banned} == {"fog"}


def test_what_a_constraint_forces_is_cut_as_the_tokenizer_cuts_it(tokenizer):
    taken = tokenizer("byte_bpe")
    text = '{"name": "the old boat"'
    own, alone = Spelling(spelling(taken), encode=taken.encode), Spelling(spelling(taken))
    assert own.cut(text.encode()) == taken.encode(text)
    assert b"".join(alone.tokens[each] for each in alone.cut(text.encode())) == text.encode()
    assert own.cut("é".encode()[:1]) == alone.cut("é".encode()[:1]) != []
    assert Spelling([b"a", b"ab", None]).cut(b"aabz") == [0, 1]


def test_the_end_of_text_comes_only_where_the_text_is_complete(tokenizer, spelled):
    taken, config = tokenizer("char"), SamplingConfig(constraint={"kind": "regex", "pattern": "ab?"})
    one = Chooser(config, [], vocab=taken.vocab_size, eos=taken.eos, spelling=spelled("char"))
    (a,), (b,) = taken.encode("a"), taken.encode("b")
    flat = torch.zeros(taken.vocab_size)
    for token, expected in ((a, {a}), (b, {b, taken.eos}), (None, {taken.eos})):
        fork = one.fork()
        assert set(one.probabilities(flat).nonzero()[:, 0].tolist()) == expected
        assert torch.equal(fork.probabilities(flat), one.probabilities(flat))
        if token is not None:
            one.advance(token)


@pytest.mark.parametrize("name", CONSTRAINTS.names())
def test_nonsense_is_refused_with_the_reason(tokenizer, spelled, name):
    nonsense = {"json_schema": {"schema": {"type": "objct"}}, "regex": {"pattern": "a("}}
    nonsense |= {"grammar": {"rules": "start: b"}}
    with pytest.raises(ConfigError, match="the constraint cannot be followed; found"):
        outputs(tokenizer("char"), spelled("char"), {"kind": name, **nonsense[name]})


@pytest.mark.parametrize("letters", [["{", "a", ":", "1", "}"], ['{"a', '{"b":', "1", "}"], ["a", "b"]], ids=str)
def test_a_vocabulary_that_cannot_write_the_text_is_told_so(letters):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    config = SamplingConfig(constraint={"kind": "json_schema", "schema": schema}, seed=1)
    spelled = Spelling([None, *(each.encode() for each in letters)])

    def write() -> None:
        one = Chooser(config, [], vocab=len(letters) + 1, eos=0, spelling=spelled)
        while one.choose(torch.zeros(len(letters) + 1)).token:
            pass

    with pytest.raises(ModelError, match="this vocabulary cannot write what the constraint demands"):
        write()


def test_what_a_constraint_needs_is_named(tokenizer, spelled, monkeypatch):
    config = SamplingConfig(constraint={"kind": "regex", "pattern": "a"})
    with pytest.raises(ModelError, match="needs the bytes of the tokens"):
        Chooser(config, [], vocab=9, eos=1)
    with pytest.raises(ModelError, match="needs the end of text"):
        Chooser(config, [], vocab=9, eos=None, spelling=Spelling([b"a"]))
    one = Chooser(config, [], vocab=tokenizer("char").vocab_size, eos=3, spelling=spelled("char"))
    with pytest.raises(ModelError, match="this token breaks the constraint; found 6"):
        one.advance(6)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setattr("clearhead.generate.sampling.constraints.guided.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'clearhead\[constraints\]'"):
        Chooser(config, [], vocab=9, eos=1, spelling=Spelling([b"a"]))
