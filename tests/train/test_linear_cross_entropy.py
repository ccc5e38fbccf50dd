"""The fused loss against torch's own, forward and backward, whatever the chunks."""

import pytest
import torch
import torch.nn.functional as F

from clearhead.train import linear_cross_entropy as module
from clearhead.train.linear_cross_entropy import Teacher, linear_cross_entropy


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(13, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(23, 6, dtype=torch.float64, requires_grad=True)
    return hidden, weight, torch.randint(23, (13,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize(("block", "strip"), [(1, 1), (100, 30), (200, 1 << 20), (1 << 20, 50)])
def test_equals_torch_cross_entropy_with_gradients(smoothing, block, strip, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "STRIP", strip)
    hidden, weight, labels = problem()
    loss, plain = linear_cross_entropy(hidden, weight, labels, smoothing)
    found = torch.autograd.grad(3.0 * loss, (hidden, weight))
    expected = F.cross_entropy(hidden @ weight.T, labels, label_smoothing=smoothing, reduction="sum")
    gradients = torch.autograd.grad(3.0 * expected, (hidden, weight))
    torch.testing.assert_close(loss, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(plain, F.cross_entropy(hidden @ weight.T, labels, reduction="sum"), atol=1e-10, rtol=0)
    for own, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(own, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("block", "strip"), [(1, 1), (100, 50), (1 << 20, 1 << 20)])
def test_agreement_equals_the_formula_of_the_paper_with_gradients(block, strip, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "STRIP", strip)
    hidden, weight, labels = problem()
    hidden, labels = hidden[:12].detach().requires_grad_(), labels[:6].repeat_interleave(2)
    loss, plain = linear_cross_entropy(hidden, weight, labels, 0.1, 3.0)
    found = torch.autograd.grad(3.0 * loss, (hidden, weight))
    logits = hidden @ weight.T
    p, q = logits.log_softmax(-1).unflatten(0, (-1, 2)).unbind(1)
    apart = (F.kl_div(p, q, reduction="sum", log_target=True) + F.kl_div(q, p, reduction="sum", log_target=True)) / 2
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum") + 3.0 * apart
    gradients = torch.autograd.grad(3.0 * expected, (hidden, weight))
    torch.testing.assert_close(loss, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels, reduction="sum"), atol=1e-10, rtol=0)
    for own, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(own, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize(("block", "strip"), [(1, 1), (100, 50), (1 << 20, 1 << 20)])
def test_a_teacher_is_met_as_soft_labels_are(smoothing, share, block, strip, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "STRIP", strip)
    hidden, weight, labels = problem()
    teacher = Teacher(torch.randn(13, 4, dtype=torch.float64), torch.randn(23, 4, dtype=torch.float64), share)
    loss, plain = linear_cross_entropy(hidden, weight, labels, smoothing, teacher=teacher)
    found = torch.autograd.grad(3.0 * loss, (hidden, weight))
    sharp = (1 - smoothing) * F.one_hot(labels, 23).double() + smoothing / 23
    theirs = (teacher.features @ teacher.matrix.T).softmax(-1)
    expected = F.cross_entropy(hidden @ weight.T, (1 - share) * sharp + share * theirs, reduction="sum")
    gradients = torch.autograd.grad(3.0 * expected, (hidden, weight))
    torch.testing.assert_close(loss, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(plain, F.cross_entropy(hidden @ weight.T, labels, reduction="sum"), atol=1e-10, rtol=0)
    for own, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(own, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_a_teacher_is_met_alike_in_other_formats(dtype, near):
    hidden, weight, labels = problem()
    teacher = Teacher(torch.randn(13, 4, dtype=torch.float64), torch.randn(23, 4, dtype=torch.float64), 0.6)
    exact, _ = linear_cross_entropy(hidden, weight, labels, 0.1, teacher=teacher)
    slopes = torch.autograd.grad(exact, (hidden, weight))
    leaves = [each.detach().float().requires_grad_() for each in (hidden, weight)]
    features = teacher.features.half()  # as they are kept
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        rough, _ = linear_cross_entropy(*leaves, labels, 0.1, teacher=Teacher(features, teacher.matrix.float(), 0.6))
    assert abs((rough - exact).item()) < near * exact.item()
    for own, other in zip(torch.autograd.grad(rough, leaves), slopes, strict=True):
        assert (own - other).norm() < 2 * near * other.norm()


def test_gradcheck_in_double_precision():
    hidden, weight, labels = problem()
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, labels, 0.2)[0], (hidden, weight))


def test_gradient_of_the_logits_is_softmax_minus_target():
    labels = torch.tensor([2])
    hidden = torch.eye(4, dtype=torch.float64)[:1].requires_grad_()
    weight = torch.randn(4, 4, dtype=torch.float64)
    loss, _ = linear_cross_entropy(hidden, weight, labels)
    (slope,) = torch.autograd.grad(loss, hidden)
    p = (hidden @ weight.T).softmax(-1)
    torch.testing.assert_close(slope, (p - F.one_hot(labels, 4)) @ weight, atol=1e-12, rtol=0)


def test_huge_logits_stay_finite():
    hidden, weight, labels = problem()
    loss, _ = linear_cross_entropy(1e4 * hidden, weight, labels, 0.1)
    loss.backward()
    assert loss.isfinite()
    assert hidden.grad.isfinite().all()


def test_no_tokens_give_zero():
    _, weight, _ = problem()
    loss, plain = linear_cross_entropy(torch.empty(0, 6, dtype=torch.float64), weight, torch.empty(0, dtype=torch.long))
    assert float(loss) == float(plain) == 0.0


def test_bfloat16_stays_near_float32():
    hidden, weight, labels = (each.float().detach() if each.is_floating_point() else each for each in problem())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = linear_cross_entropy(hidden.requires_grad_(), weight.requires_grad_(), labels, 0.1)
    exact, _ = linear_cross_entropy(hidden, weight, labels, 0.1)
    assert abs((rough - exact).item()) < 0.02 * exact.item()
