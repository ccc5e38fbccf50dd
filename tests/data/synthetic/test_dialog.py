"""Dialogues: turns read back by a loop, posteriors against enumeration, the best loss against sampling it."""

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic import IGNORED, Dialog
from clearhead.data.synthetic.dialog_words import DOMAINS, NEUTRAL, TEMPLATES, counts, domain_of, lexicon

ANSWERS = pytest.mark.parametrize("ask", ["switch", "domain"])


def draw(task, count=3_000):
    return task.draw(count, torch.Generator().manual_seed(6))


def turns(row):
    """The turns of a row of ids as (speaker, words)."""
    found = []
    for each in row:
        if each in (1, 2):
            found.append((each, []))
        elif each > 3:
            found[-1][1].append(lexicon()[each - 4])
    return found


def test_words_of_domains_are_their_own():
    own = [{word for words in each.values() for word in words.split()} for each in DOMAINS.values()]
    common = {word for texts in (*TEMPLATES.values(), *NEUTRAL.values()) for text in texts for word in text.split()}
    for place, words in enumerate(own):
        assert not words & common
        assert not words & set().union(*own[:place])
        assert {domain_of(word) for word in words} == {place}
    assert {len(texts) for texts in TEMPLATES.values()} == {counts(0)}
    assert {len(texts) for texts in NEUTRAL.values()} == {counts(1)}


def test_turns_alternate_and_are_filled_templates():
    samples = draw(Dialog(), 300)
    said = {"user": set(), "system": set()}
    for row in samples.tokens.tolist():
        found = turns(row)
        assert [speaker for speaker, _ in found] == [1, 2] * 3
        assert row.count(3) == 6
        for speaker, words in found:
            blank = " ".join(word if domain_of(word) < 0 else "_" for word in words)
            said[("user", "system")[speaker - 1]].add(blank)
            assert len({domain_of(word) for word in words} - {-1}) <= 1
    for speaker, texts in said.items():
        every = (*TEMPLATES[speaker], *NEUTRAL[speaker])
        assert texts == {" ".join("_" if word.isupper() else word for word in text.split()) for text in every}


@ANSWERS
def test_labels_stand_at_the_ends_of_turns_and_agree_with_the_words(ask):
    task = Dialog(neutral=0.0, ask=ask)
    samples = draw(task, 300)
    for row, labels in zip(samples.tokens.tolist(), samples.labels.tolist(), strict=True):
        told = [max(domain_of(word) for word in words) for _, words in turns(row)]
        changes = [int(now != before) for now, before in zip(told, [told[0], *told], strict=False)]
        asked = [label for token, label in zip(row, labels, strict=True) if token == 3]
        assert asked == (told if ask == "domain" else changes)
        assert all(label == IGNORED for token, label in zip(row, labels, strict=True) if token != 3)


def test_a_share_of_the_dialogues_changes_once_at_a_turn_of_the_user():
    samples = draw(Dialog(exchanges=4))
    changes = samples.labels[samples.tokens == 3].view(-1, 8)
    assert float(changes.sum(1).double().mean()) == pytest.approx(0.3, abs=0.03)
    assert int(changes.sum(1).max()) == 1
    shares = changes.double().mean(0)
    expected = torch.tensor([0, 0, 0.1, 0, 0.1, 0, 0.1, 0]).double()
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.02)


def test_the_evidence_is_what_each_turn_tells():
    task = Dialog()
    tokens = draw(task, 100).tokens
    told = [[max(map(domain_of, words)) for _, words in turns(row)] for row in tokens.tolist()]
    assert task.evidence(tokens).tolist() == told


@ANSWERS
def test_the_posterior_counts_what_agrees_with_the_past(ask):
    task = Dialog(ask=ask)
    samples = draw(task, 400)
    found = task.answers_of(task.posterior(task.evidence(samples.tokens)))
    every = draw(Dialog(neutral=0.0, ask="domain"), 40_000)
    histories = every.labels[every.tokens == 3].view(-1, 6)  # a sample of courses of domains
    for told, answer in list(zip(task.evidence(samples.tokens), found, strict=True))[:40]:
        for turn in (0, 2, 3):
            agree = ((told[: turn + 1] == histories[:, : turn + 1]) | (told[: turn + 1] < 0)).all(1)
            if int(agree.sum()) > 300:
                mine = histories[agree]
                right = mine[:, turn] if ask == "domain" else (mine[:, turn] != mine[:, max(turn - 1, 0)]).long()
                share = right.bincount(minlength=task.classes) / len(mine)
                torch.testing.assert_close(answer[turn], share.double(), rtol=0, atol=0.1)


@ANSWERS
@pytest.mark.parametrize("options", [{}, {"exchanges": 2, "switches": 0.7, "neutral": 0.6}])
def test_who_knows_the_posterior_reaches_the_best_loss(ask, options):
    task = Dialog(ask=ask, **options)
    samples = draw(task, 8_000)
    answers = task.answers_of(task.posterior(task.evidence(samples.tokens)))
    labels = samples.labels[samples.tokens == 3].view(len(samples), -1)
    nats = -answers.gather(2, labels[:, :, None]).log().squeeze(2).mean(1)
    assert float(nats.mean()) == pytest.approx(task.best, abs=4 * float(nats.std()) / len(nats) ** 0.5)
    assert task.best > 0.01


def test_words_are_asked_for_as_by_a_language_model():
    samples = draw(Dialog(ask="words"), 50)
    for tokens, labels in zip(samples.tokens.tolist(), samples.labels.tolist(), strict=True):
        said = [each for each in tokens if each]
        assert labels == said[1:] + [IGNORED] * (len(tokens) - len(said) + 1)
    assert Dialog(ask="words").best is None


@pytest.mark.parametrize("options", [{"exchanges": 6}, {"exchanges": 1}, {"switches": 1.1}, {"neutral": -0.1}])
def test_impossible_dialogues_are_refused(options):
    with pytest.raises(ConfigError):
        Dialog(**options)
