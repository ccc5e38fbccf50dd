"""Guessing ahead changes how fast a text is written, never what is written."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from plain_searches import BOS, EOS, look

from clearhead.core.errors import ModelError
from clearhead.core.registry import Choice
from clearhead.generate import SamplingConfig, SearchConfig, search
from clearhead.generate.sampling import Chooser, Spelling
from clearhead.generate.speculative import (
    DRAFTERS,
    Lookup,
    Proposal,
    Reader,
    SpeculationConfig,
    SpeculativeText,
    speculate,
    verify,
)
from clearhead.model import Transformer
from clearhead.model.position import POSITIONS

pytestmark = pytest.mark.usefixtures("double")
KINDS = {"encoder-decoder": 2, "decoder-only": 0}  # encoder layers
NEVER = 99  # an end that does not come
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_DRAFTER = pytest.mark.parametrize("name", DRAFTERS.names())


@pytest.fixture
def pair(tiny) -> Callable[..., tuple[Transformer, Transformer]]:
    """A function from a kind to a model and another one that agrees with it now and then."""

    def make(kind: str, vocab: int = 11, *, sharpness: float = 2.0, **changes: object) -> tuple[Transformer, ...]:
        sizes = {"encoder_layers": KINDS[kind], "source_vocab": vocab, "target_vocab": vocab, "length": 40}
        model = tiny(**{**sizes, "tie": "none", **changes})
        draft = deepcopy(model)
        with torch.no_grad():
            for each in draft.parameters():
                each.add_(torch.randn_like(each), alpha=0.1)
        for each in (model, draft):
            each.logits = lambda hidden, plain=each.logits: sharpness * plain(hidden)
        return model, draft

    return make


class Dice:
    """Random decisions that take every way, one after the other, each with its probability."""

    def __init__(self) -> None:
        self.path: list[list[int]] = []  # of each decision: the option taken, the number of options

    def ways(self) -> Iterator[None]:
        """Once for every way."""
        while True:
            self.depth, self.weight = 0, 1.0
            yield
            while self.path and self.path[-1][0] + 1 == self.path[-1][1]:
                self.path.pop()
            if not self.path:
                return
            self.path[-1][0] += 1

    def pick(self, probabilities: list[float]) -> int:
        options = [index for index, each in enumerate(probabilities) if each > 0]
        if self.depth == len(self.path):
            self.path.append([0, len(options)])
        index = options[self.path[self.depth][0]]
        self.depth, self.weight = self.depth + 1, self.weight * probabilities[index]
        return index


@pytest.fixture
def dice(monkeypatch) -> Dice:
    """Choosers decide by these."""
    dice = Dice()
    likely: Callable[[float], float] = lambda value: min(value, 1.0)  # noqa: E731
    monkeypatch.setattr(Chooser, "draw", lambda self, p: dice.pick((p / p.sum()).tolist()))
    monkeypatch.setattr(Chooser, "happens", lambda self, p: bool(dice.pick([1 - likely(p), likely(p)])))
    return dice


@pytest.fixture
def remembered(monkeypatch) -> None:
    """Readers of these models compute each text once."""
    known, read = {}, Reader.read

    def recall(self: Reader, tokens: list[int], last: int) -> torch.Tensor:
        key = (self.model, tuple(tokens), last)
        if key not in known:
            known[key] = read(self, tokens, last)
        return known[key].clone()

    monkeypatch.setattr(Reader, "read", recall)


def plain(model: Transformer, text: list[int], prompt: list[int], sampling: SamplingConfig, length: int) -> dict:
    """The probability of every text of this length, token by token."""
    found = {(): 1.0}
    for _ in range(length):
        longer = {}
        for written, weight in found.items():
            one = Chooser(sampling, prompt, vocab=len(model.output), eos=NEVER)
            for token in written:
                one.advance(token)
            values = torch.tensor(look(model, text, written).values)
            for token, share in enumerate(one.probabilities(values).tolist()):
                if share:
                    longer[(*written, token)] = weight * share
        found = longer
    return found


@EACH_DRAFTER
@EACH_KIND
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "top_k": 2}, {"presence_penalty": 1.5}], ids=str)
@pytest.mark.parametrize("guesses", [1, 2])
def test_every_text_is_as_probable_as_token_by_token(pair, dice, remembered, name, kind, settings, guesses):
    model, draft = pair(kind, vocab=4)
    text, sampling = [3, 1, 2, 3, 1], SamplingConfig(seed=1, **settings)
    prompt = [BOS] if kind == "encoder-decoder" else text
    if name == "draft":
        text, prompt = text[-2:], prompt[-2:]
    expected = plain(model, text, prompt, sampling, 3)
    config = SpeculationConfig(drafter=name, tokens=guesses)
    source = text if kind == "encoder-decoder" else None
    found, accepted = defaultdict(float), 0.0
    for _ in dice.ways():
        each = speculate(
            model,
            prompt,
            sampling,
            config,
            max_tokens=3,
            eos=NEVER,
            draft=draft if name == "draft" else None,
            source=source,
        )
        found[tuple(each.tokens)] += dice.weight
        accepted += dice.weight * each.accepted
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
    for tokens in {*expected, *found}:
        assert found.get(tokens, 0.0) == pytest.approx(expected.get(tokens, 0.0), abs=1e-12)
    if name == "draft":
        assert accepted > 0.2


def test_a_guess_is_kept_as_often_as_the_two_distributions_overlap(dice):
    for seed, guesses in itertools.product(range(3), (1, 3)):
        noise = torch.Generator().manual_seed(seed)
        logits = torch.randn(guesses + 1, 4, generator=noise)
        drafts = torch.randn(guesses, 4, generator=noise).softmax(dim=1)
        kept = 0.0
        for _ in dice.ways():
            one = Chooser(SamplingConfig(seed=0), [], vocab=4, eos=None)
            proposals = [Proposal(one.draw(each), each) for each in drafts]
            accepted = verify(one, proposals, logits, NEVER).accepted
            kept += accepted * dice.weight
        overlap = torch.minimum(logits[:-1].softmax(dim=1), drafts).sum(dim=1)  # of each guess, given those before
        assert kept == pytest.approx(float(overlap.cumprod(dim=0).sum()), abs=1e-12)


@EACH_DRAFTER
@EACH_KIND
@pytest.mark.parametrize("guesses", [1, 3, 7])
def test_greedy_speculation_writes_what_greedy_search_writes(pair, name, kind, guesses):
    passes, ended = [], 0
    for seed in range(5):
        torch.manual_seed(seed)
        model, draft = pair(kind)
        text = torch.randint(3, 11, (9,)).tolist()
        prompt, source = ([BOS], text) if kind == "encoder-decoder" else (text, None)
        ((expected,),) = search(model, [text], SearchConfig(max_tokens=20), bos=BOS, eos=EOS)
        found = speculate(
            model,
            prompt,
            SamplingConfig(temperature=0),
            SpeculationConfig(drafter=name, tokens=guesses),
            max_tokens=20,
            eos=EOS,
            draft=draft if name == "draft" else None,
            source=source,
        )
        assert [each for each in found.tokens if each != EOS] == expected.tokens
        total = sum(each.log_probability for each in found.chosen)
        assert total == pytest.approx(expected.log_probability, abs=1e-10)
        assert found.accepted <= found.proposed <= guesses * found.passes
        assert len(found.tokens) <= found.accepted + found.passes
        passes.append(found.tokens_per_pass)
        ended += found.tokens[-1] == EOS
    assert max(passes) > 1.0


@EACH_KIND
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 1.3, "top_p": 0.9, "seed": 4}], ids=str)
def test_a_draft_that_is_the_model_is_always_believed(pair, kind, settings):
    model, _ = pair(kind)
    prompt, source = ([BOS], [5, 6]) if kind == "encoder-decoder" else ([5, 6], None)
    config = SpeculationConfig(drafter="draft", tokens=3)
    found = speculate(
        model, prompt, SamplingConfig(**settings), config, max_tokens=16, eos=NEVER, draft=model, source=source
    )
    assert found.acceptance_rate == 1.0
    assert (found.passes, found.tokens_per_pass) == (4, 4.0)


@EACH_KIND
@pytest.mark.parametrize("position", POSITIONS.names())
@pytest.mark.parametrize("more", [{}, {"window": 3, "kv_heads": 1}], ids=str)
def test_a_reader_that_goes_back_says_what_the_whole_model_says(pair, kind, position, more):
    model, _ = pair(kind, position=position, **more)
    reads = kind == "encoder-decoder"
    reader, draw = Reader(model, [4, 5, 6] if reads else None, EOS), torch.Generator().manual_seed(1)
    text = [BOS, 7]
    for keep, new, last in [(2, 4, 3), (5, 3, 1), (6, 1, 1), (6, 1, 2), (2, 9, 4), (1, 1, 1), (1, 1, 1)]:
        text = [*text[:keep], *torch.randint(3, 11, (new,), generator=draw).tolist()]
        with torch.inference_mode():
            memory = model.encode(torch.tensor([[4, 5, 6]])) if reads else None
            whole = model.logits(model.decode(torch.tensor([text]), memory))[0, -last:]
            found = reader.read(text, last)
        found = found.clone()
        if reads:
            assert (found[:, 0] == -math.inf).all()
            found[:, 0] = whole[:, 0]
        torch.testing.assert_close(found, whole, rtol=0.0, atol=1e-10)


def test_the_newest_place_of_the_longest_run_is_copied(pair):
    model, _ = pair("decoder-only")
    one = Chooser(SamplingConfig(), [], vocab=11, eos=EOS)

    def copied(text: list[int], count: int = 4, longest: int = 3, source: list[int] | None = None) -> list[int]:
        drafter = DRAFTERS.build(Choice(kind="lookup", options={"longest": longest}), model, None, source)
        return [each.token for each in drafter.propose(text, one, count, EOS)]

    assert copied([5, 6, 7, 8, 9, 5, 6]) == [7, 8, 9, 5]
    assert copied([5, 6, 7, 5, 6, 8, 5, 6]) == [8, 5, 6]  # the newest place
    assert copied([4, 5, 6, 7, 3, 6, 9, 4, 5, 6], count=2) == [7, 3]  # the longest run
    assert copied([4, 5, 6, 7, 3, 6, 9, 4, 5, 6], count=2, longest=1) == [9, 4]
    assert copied([5, 6, EOS, 7, 5, 6]) == [6 - 4]  # nothing after the end
    assert copied([3, 4, 5]) == copied([3]) == []
    assert isinstance(DRAFTERS.build(Choice(kind="lookup"), model, None, None), Lookup)


def test_a_source_of_the_same_vocabulary_may_be_copied(pair):
    model, _ = pair("encoder-decoder", tie="all")
    one = Chooser(SamplingConfig(), [], vocab=11, eos=EOS)
    drafter = DRAFTERS.build(Choice(kind="lookup"), model, None, [7, 8, 9])
    assert [each.token for each in drafter.propose([BOS, 7], one, 5, NEVER)] == [8, 9, BOS, 7]
    apart, _ = pair("encoder-decoder", tie="none")
    assert DRAFTERS.build(Choice(kind="lookup"), apart, None, [7, 8, 9]).propose([BOS, 7], one, 5, EOS) == []


@EACH_DRAFTER
def test_it_stops_at_the_end_at_the_limit_and_at_the_last_position(pair, name):
    model, draft = pair("decoder-only", position="learned", length=12)
    config, draft = SpeculationConfig(drafter=name, tokens=4), draft if name == "draft" else None
    for most, prompt, expected in ((1, [5], 1), (3, [5, 5, 5], 3), (50, [5] * 9, 4), (50, [5] * 12, 1)):
        found = speculate(model, prompt, SamplingConfig(seed=2), config, max_tokens=most, eos=NEVER, draft=draft)
        assert len(found.tokens) == expected
    lengths = set()
    for seed in range(20):
        eager = SamplingConfig(seed=seed, logit_bias={EOS: 2.0})
        found = speculate(model, [5, EOS, 5], eager, config, max_tokens=9, eos=EOS, draft=draft)
        assert EOS not in found.tokens[:-1]
        lengths.add(len(found.tokens))
    assert len(lengths) > 3


@EACH_KIND
def test_a_draft_of_shorter_reach_shortens_nothing(pair, kind):
    model, _ = pair(kind, position="learned")
    draft, _ = pair(kind, position="learned", length=6)
    prompt, source = ([BOS], [5, 6]) if kind == "encoder-decoder" else ([5, 6], None)
    config, greedy = SpeculationConfig(drafter="draft", tokens=4), SamplingConfig(temperature=0)
    found = speculate(model, prompt, greedy, config, max_tokens=20, eos=NEVER, draft=draft, source=source)
    ((expected,),) = search(model, [source or prompt], SearchConfig(max_tokens=20), bos=BOS, eos=NEVER)
    assert found.tokens == expected.tokens
    assert len(found.tokens) == 20


@EACH_KIND
@EACH_DRAFTER
def test_a_step_tells_tokens_and_the_logits_before_each(pair, name, kind):
    model, draft = pair(kind)
    prompt, source = ([BOS], [5, 6, 5]) if kind == "encoder-decoder" else ([5, 6, 5], None)
    config, draft = SpeculationConfig(drafter=name, tokens=3), draft if name == "draft" else None
    text = SpeculativeText(
        model, prompt, SamplingConfig(seed=2), config, max_tokens=9, eos=None, draft=draft, source=source
    )
    while not text.done:
        before = len(text.found.chosen)
        chosen, logits = text.step()
        assert logits.shape == (len(chosen), 11)
        for place, (each, row) in enumerate(zip(chosen, logits, strict=True), start=before):
            values = torch.tensor(look(model, source or prompt, text.found.tokens[:place]).values)
            torch.testing.assert_close(row.log_softmax(dim=0).clone(), values, rtol=0.0, atol=1e-10)
            assert each.log_probability == pytest.approx(float(values[each.token]), abs=1e-10)
    assert len(text.found.tokens) == 9  # without an end there is only the limit


@EACH_DRAFTER
def test_a_constraint_is_kept(pair, name):
    pytest.importorskip("llguidance")
    model, draft = pair("decoder-only")
    letters = Spelling([None, None, None, *(bytes([97 + index]) for index in range(8))])
    for seed in range(5):
        sampling = SamplingConfig(seed=seed, constraint={"kind": "regex", "pattern": "(ab|ba|c){2}"})
        found = speculate(
            model,
            [3, 4, 3, 5, 3],
            sampling,
            SpeculationConfig(drafter=name, tokens=3),
            max_tokens=9,
            eos=EOS,
            draft=draft if name == "draft" else None,
            spelling=letters,
        )
        text = b"".join(letters.tokens[each] for each in found.tokens[:-1]).decode()
        assert text in {"".join(each) for each in itertools.product(["ab", "ba", "c"], repeat=2)}
        assert found.tokens[-1] == EOS


def test_mistakes_are_told_in_one_line(pair, tiny):
    (model, draft), sampling = pair("decoder-only"), SamplingConfig()
    by_model, lookup = SpeculationConfig(drafter="draft"), SpeculationConfig()
    with pytest.raises(ModelError, match="there is no model to draft with; give one"):
        speculate(model, [3], sampling, by_model, max_tokens=3, eos=EOS)
    with pytest.raises(ModelError, match="another vocabulary; found 23 tokens; expected 11 tokens"):
        speculate(model, [3], sampling, by_model, max_tokens=3, eos=EOS, draft=tiny(encoder_layers=0))
    with pytest.raises(ModelError, match="an encoder-only model writes nothing; found the draft model"):
        speculate(model, [3], sampling, by_model, max_tokens=3, eos=EOS, draft=tiny(decoder_layers=0))
    with pytest.raises(ModelError, match="the draft model reads a source, and this model has none"):
        speculate(model, [3], sampling, by_model, max_tokens=3, eos=EOS, draft=pair("encoder-decoder")[1])
    with pytest.raises(ModelError, match="lookup has no use of a draft model; leave it out"):
        speculate(model, [3], sampling, lookup, max_tokens=3, eos=EOS, draft=draft)
    with pytest.raises(ModelError, match="nothing to begin with"):
        speculate(model, [], sampling, lookup, max_tokens=3, eos=EOS)
    with pytest.raises(ModelError, match="nothing may be written; found max_tokens 0"):
        speculate(model, [3], sampling, lookup, max_tokens=0, eos=EOS)
    with pytest.raises(ModelError, match="the prompt names an unknown token; found 11"):
        speculate(model, [11], sampling, lookup, max_tokens=3, eos=EOS)
    with pytest.raises(ModelError, match=r"positions; found 41; expected at most 40"):
        speculate(pair("decoder-only", position="learned")[0], [3] * 41, sampling, lookup, max_tokens=3, eos=EOS)
    with pytest.raises(ModelError, match="cannot go back in a text; found stack gru"):
        speculate(pair("decoder-only", stack="gru")[0], [3], sampling, lookup, max_tokens=3, eos=EOS)
    with pytest.raises(ModelError, match="an encoder-decoder reads a source"):
        speculate(pair("encoder-decoder")[0], [3], sampling, lookup, max_tokens=3, eos=EOS)
    with pytest.raises(ModelError, match="training mode"):
        speculate(draft.train(), [3], sampling, lookup, max_tokens=3, eos=EOS)
