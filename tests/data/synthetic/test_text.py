"""The embedded corpus as characters."""

import pytest
import torch

from clearhead.core.errors import DataError
from clearhead.data.grammar import embedded_pairs
from clearhead.data.synthetic import IGNORED, Text, TextPairs

FEW = 60  # sentences


@pytest.mark.parametrize("language", ["en", "zh"])
def test_windows_are_all_pieces_of_the_text(language):
    task = Text(length=11, language=language, sentences=20)
    text = "".join(getattr(each, language) + "\n" for each in embedded_pairs("train", 20))
    samples = task.draw(15_000, torch.Generator().manual_seed(1))
    assert torch.equal(samples.tokens[:, 1:], samples.labels[:, :-1])
    windows = torch.unique(torch.cat((samples.tokens, samples.labels[:, -1:]), dim=1), dim=0)
    assert {task.text(each) for each in windows} == {text[place : place + 12] for place in range(len(text) - 11)}
    assert task.text(task.whole) == text


def test_an_unknown_character_is_marked():
    train, test = (Text(language="zh", sentences=FEW, split=split) for split in ("train", "test"))
    assert train.characters == test.characters
    assert 3 not in train.whole.tolist()
    assert train.ids("☃a\n")[0] == 3
    assert train.text(torch.tensor([1, 3, 0])) == "\ufffd"


@pytest.mark.parametrize("languages", ["zh-en", "en-zh"])
def test_pairs_are_those_of_the_corpus(languages):
    task = TextPairs(languages=languages, sentences=FEW, longest=40)
    samples = task.all()
    corpus = {(each.zh, each.en)[:: 1 if languages == "zh-en" else -1] for each in embedded_pairs("train", FEW)}
    short = {pair for pair in corpus if max(map(len, pair)) <= 40}
    assert 0 < len(short) < len(corpus)
    assert {(task.text(s), task.text(t)) for s, t in zip(samples.source, samples.tokens, strict=True)} == short
    for tokens, labels, valid in zip(samples.tokens, samples.labels, samples.valid, strict=True):
        assert labels[valid].tolist() == [*tokens[valid][1:].tolist(), 2]
        assert bool((labels[~valid] == IGNORED).all())


def test_in_one_sequence_the_start_stands_between():
    two, one = (TextPairs(sentences=FEW, form=form) for form in ("encoder_decoder", "decoder"))
    for row, (source, target) in enumerate(one.pairs):
        tokens = one.all().tokens[row]
        assert tokens[one.all().valid[row]].tolist() == [*one.ids(source), 1, *one.ids(target)]
    assert two.pairs == one.pairs


def test_too_little_text_is_refused():
    with pytest.raises(DataError, match="shorter than a window"):
        Text(length=500, sentences=2)
    with pytest.raises(DataError, match="short enough"):
        TextPairs(sentences=FEW, longest=1)
