"""Two passes drawn together: against the formula, and as one pass where there is nothing to draw together."""

import pytest
import torch
import torch.nn.functional as F

from clearhead.core.registry import Choice
from clearhead.data.batches import translation_batch
from clearhead.model import ModelConfig, Transformer
from clearhead.train.objectives import OBJECTIVES

SIZES = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 12, "heads": 2, "d_ff": 20}
SIZES |= {"source_vocab": 23, "target_vocab": 23}


def model(**changes):
    torch.manual_seed(5)
    return Transformer(ModelConfig(**SIZES, **changes)).double().train()


def batch():
    return translation_batch([[5, 6, 7], [8], [9, 10]], [[11, 12], [13, 14, 15, 16], [17]], pad=0, bos=1, eos=2)


def r_drop(**options):
    return OBJECTIVES.build(Choice(kind="r_drop", options=options))


def gradients(made, value):
    return torch.autograd.grad(value, list(made.parameters()))


@pytest.mark.parametrize("head", ["lm", {"kind": "lm", "bias": True}])
def test_the_loss_and_its_gradients_are_those_of_the_formula(head):
    made, given = model(dropout=0.4, head=head, tie="none"), batch()
    torch.manual_seed(1)
    loss = r_drop(alpha=3.0, label_smoothing=0.2)(made, given)
    torch.manual_seed(1)
    twice = [torch.cat([each, each]) for each in (given.source, given.target, given.source_valid)]
    first, second = made.logits(made(twice[0], twice[1], source_valid=twice[2])).chunk(2)  # (batch, target, vocab)
    seen = given.counted
    p, q = first[seen].log_softmax(-1), second[seen].log_softmax(-1)
    labels = given.labels[seen]
    both = sum(F.cross_entropy(each, labels, label_smoothing=0.2, reduction="sum") for each in (p, q))
    apart = sum(F.kl_div(a, b, reduction="sum", log_target=True) for a, b in ((p, q), (q, p))) / 2
    expected = (both + 3.0 * apart) / 2
    assert apart > 0.1
    torch.testing.assert_close(loss.value, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        loss.metrics["nll"], sum(F.nll_loss(each, labels, reduction="sum") for each in (p, q)) / 2
    )
    assert loss.count == int(seen.sum())
    for found, wanted in zip(gradients(made, loss.value), gradients(made, expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_without_dropout_it_is_plain_translation():
    made = model(dropout=0.0)
    plain = OBJECTIVES.build(Choice(kind="translation"))(made, batch())
    found = r_drop()(made, batch())
    torch.testing.assert_close(found.value, plain.value, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.metrics["nll"], plain.metrics["nll"], rtol=0, atol=1e-10)
