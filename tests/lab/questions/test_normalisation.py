"""Planted errors change the verdicts of the shelf on normalisation, and its small parts compute what they say."""

import pytest
import torch
from torch import nn

from clearhead.lab import Scale, run
from clearhead.lab.parts.batch_norm_lstm import PlainLSTM, StepwiseBatchNormLSTM
from clearhead.lab.parts.detached_norm import DetachedNorm
from clearhead.lab.parts.digits import pictures
from clearhead.lab.parts.readout import readout
from clearhead.lab.parts.replacing import replace_parts
from clearhead.lab.parts.sentence_norm import SentenceNorm
from clearhead.lab.parts.whole_source import WholeSource
from clearhead.lab.rows import Rows
from clearhead.lab.runner import measure
from clearhead.lab.training import build, encoder_decoder, task
from clearhead.model.norm import BatchNorm, LayerNorm
from clearhead.model.residual import PostNorm


class Trial:
    """A question measured once; `again` measures one part of it anew, with whatever was broken in between."""

    def __init__(self, id: str) -> None:
        (self.result,) = run([id], Scale("quick"), jobs=1)

    def again(self, part: str) -> dict[str, str]:
        asked = self.result.question
        cells = [each for each in asked.cells(Scale("quick")) if each["part"] == part]
        kept = [each for each in self.result.rows if each["part"] != part]
        found = asked.judge(Rows([*(row for each in cells for row in measure(self.result.id, each).rows), *kept]))
        return {key: each.verdict.value for key, each in found.items()}

    @property
    def first(self) -> dict[str, str]:
        return {key: each.verdict.value for key, each in self.result.judgements.items()}


def test_a_layer_norm_over_the_sentence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, original = Trial("layernorm-axis"), LayerNorm.forward
    assert trial.first["sentence"] == "refuted"

    def wrong(self: LayerNorm, hidden: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        return SentenceNorm.forward(self, hidden, valid) if hidden.dim() == 3 else original(self, hidden, valid)  # type: ignore[arg-type]

    monkeypatch.setattr(LayerNorm, "forward", wrong)
    found = trial.again("exact")
    assert (found["sentence"], found["all-features"]) == ("supported", "refuted")


def test_a_post_norm_that_norms_first_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial("prenorm-vs-postnorm")
    assert trial.first["after"] == "depends"
    monkeypatch.setattr(
        PostNorm, "forward", lambda self, hidden, sublayer, valid=None: hidden + sublayer(self.norm(hidden))
    )
    assert trial.again("torch")["after"] == "refuted"


def test_a_batch_norm_with_the_unbiased_variance_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, original = Trial("batchnorm-mechanics"), BatchNorm.measure
    assert trial.first["axis"] == "supported"

    def unbiased(self: BatchNorm, tokens: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, variance = original(self, tokens, row)
        return mean, variance * len(tokens) / (len(tokens) - 1)

    monkeypatch.setattr(BatchNorm, "measure", unbiased)
    assert trial.again("exact")["axis"] == "refuted"


def test_a_layer_norm_without_centring_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial("layernorm-assumption")
    assert trial.first["assumption"] == "supported"

    def uncentred(self: LayerNorm, hidden: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        return nn.functional.rms_norm(hidden, self.weight.shape, self.weight, self.epsilon)

    monkeypatch.setattr(LayerNorm, "forward", uncentred)
    assert trial.again("exact")["assumption"] == "refuted"


def test_a_sentence_norm_standardises_the_words_that_are_no_padding() -> None:
    hidden = torch.randn(3, 7, 5, dtype=torch.float64) + 2
    valid = torch.arange(7) < torch.tensor([[7], [2], [5]])
    found = SentenceNorm(5, epsilon=0.0).double()(hidden, valid)
    for row, mask in zip(found, valid, strict=True):
        words = row[mask].flatten()
        torch.testing.assert_close(words.mean(), words.new_zeros(()), atol=1e-12, rtol=0)
        torch.testing.assert_close(words.var(unbiased=False), words.new_ones(()))


def test_a_detached_norm_differs_in_its_gradient_alone() -> None:
    hidden = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    ours, theirs = DetachedNorm(5).double()(hidden), LayerNorm(5).double()(hidden)
    torch.testing.assert_close(ours, theirs)
    above = torch.randn_like(ours)
    (kept,), (whole,) = (torch.autograd.grad(each, hidden, above) for each in (ours, theirs))
    variance = hidden.var(dim=-1, unbiased=False, keepdim=True)
    torch.testing.assert_close(kept, above / (variance + 1e-5).sqrt())
    assert not torch.allclose(kept, whole)


def test_parts_of_exactly_a_kind_are_replaced() -> None:
    model = build(encoder_decoder(23), 0)
    before = sum(type(each) is LayerNorm for each in model.modules())
    replace_parts(model, LayerNorm, lambda part: BatchNorm(len(part.weight)))
    assert sum(type(each) is BatchNorm for each in model.modules()) == before > 0
    assert not any(type(each) is LayerNorm for each in model.modules())


def test_a_pair_task_is_read_whole() -> None:
    pairs = task("reverse", {"length": 7, "shortest": 3, "form": "encoder_decoder"})
    samples = WholeSource(pairs).draw(3, torch.Generator().manual_seed(0))
    assert samples.source is None
    assert samples.valid is not None
    for tokens, labels, valid in zip(samples.tokens, samples.labels, samples.valid, strict=True):
        assert labels[valid].tolist() == tokens[valid].tolist()[::-1]


def test_a_readout_reads_what_is_there_and_nothing_else() -> None:
    vectors = torch.randn(800, 5, generator=torch.Generator().manual_seed(0))
    assert readout(vectors, (vectors[:, 0] > 0).long(), 0) > 0.95
    assert readout(vectors, torch.randint(2, (800,), generator=torch.Generator().manual_seed(1)), 0) < 0.6


def test_digits_are_split_without_overlap() -> None:
    parts = pictures(0)
    assert [len(each.labels) for each in parts] == [1147, 200, 450]
    assert not torch.equal(parts[0].labels, pictures(1)[0].labels)


def test_the_recurrent_cell_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = PlainLSTM(11, 6, 7).double(), nn.LSTM(6, 6, batch_first=True).double()
    with torch.no_grad():
        for target, source in ((theirs.weight_ih_l0, ours.inward.weight), (theirs.weight_hh_l0, ours.across.weight)):
            opened, forgotten, shown, proposed = source.chunk(4)
            target.copy_(torch.cat((opened, forgotten, proposed, shown)))  # torch: input, forget, cell, output
        theirs.bias_ih_l0.copy_(ours.inward.bias[[*range(12), *range(18, 24), *range(12, 18)]])
        theirs.bias_hh_l0.zero_()
        theirs.bias_hh_l0[6:12] = 1.0  # our forget gate starts open
    tokens = torch.randint(11, (3, 7))
    torch.testing.assert_close(ours(tokens), ours.head(theirs(ours.embedding(tokens))[0]))


def test_each_step_has_its_own_statistics() -> None:
    torch.manual_seed(0)
    network = StepwiseBatchNormLSTM(11, 6, 7)
    network(torch.randint(11, (5, 7)))
    means = [each.mean for each in network.norms if isinstance(each, BatchNorm)]
    assert len(means) == 14
    assert not any(torch.equal(means[0], each) for each in means[2::2])
