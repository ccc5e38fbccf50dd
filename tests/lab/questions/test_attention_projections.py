"""Planted errors change the verdicts of the questions on heads, projections and scores; their small parts are right."""

import pytest
import torch
from torch import Tensor

from clearhead.lab import Scale, question
from clearhead.lab.parts.attend import Attend
from clearhead.lab.parts.lookup import enough, knowing, lookup, reader
from clearhead.lab.question import Verdict
from clearhead.lab.questions.attention import multi_head_why, separate_q_k_weights
from clearhead.lab.rows import Rows
from clearhead.lab.statistics import interval
from clearhead.lab.training import build, examples, logits
from clearhead.model import CAUSAL
from clearhead.model.attention import dot
from clearhead.model.attention.dot import Dot
from clearhead.model.attention.multihead import MultiHead
from clearhead.model.attention.projections import Fused, Projections


def verdicts(id: str, part: str | None = None) -> dict[str, str]:
    """The verdicts on the quick scale, of one part of the experiment alone if its name is given."""
    asked = question(id)
    cells = [each for each in asked.cells(Scale("quick")) if part in (None, each.get("part"))]
    rows = Rows({**cell, **row} for cell in cells for row in asked.measure(cell))
    return {key: each.verdict.value for key, each in asked.judge(rows).items()}


def test_scores_that_are_not_divided_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("scale-by-sqrt-dk", "random")["vanishing"] == "supported"
    monkeypatch.setattr(dot, "dot_scale", lambda d_head, scale, exponent: 1.0)
    assert verdicts("scale-by-sqrt-dk", "random")["vanishing"] == "refuted"


def test_scores_divided_by_another_power_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("sqrt-dk-exponent", "random")["variance"] != "refuted"
    monkeypatch.setattr(
        dot, "dot_scale", lambda d_head, scale, exponent: d_head ** -(0.25 if exponent is None else exponent)
    )
    found = verdicts("sqrt-dk-exponent", "random")
    assert found["variance"] == "refuted" or found["flat"] == "refuted"


def test_heads_cut_in_the_wrong_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("multi-head-implementation")["own"] == "supported"

    def split(self: Projections, states: Tensor) -> Tensor:
        batch, length, features = states.shape
        return states.view(batch, length, self.sizes.d_head, features // self.sizes.d_head).permute(0, 3, 1, 2)

    monkeypatch.setattr(Projections, "split", split)
    found = verdicts("multi-head-implementation")
    assert (found["own"], found["definite"]) == ("refuted", "refuted")


def test_a_fused_matrix_in_another_order_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("qkv-partition-logical-physical")["views"] == "supported"
    original = Fused.all

    def swapped(self: Fused, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = original(self, hidden)
        return key, query, value

    monkeypatch.setattr(Fused, "all", swapped)
    assert verdicts("qkv-partition-logical-physical")["views"] == "refuted"


def test_weights_off_their_formula_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("qkv-roles")["jobs"] != "refuted"
    monkeypatch.setattr(Dot, "scores", lambda self, query, key: 1.01 * self.scale * query @ key.transpose(-1, -2))
    assert verdicts("qkv-roles")["jobs"] == "refuted"


def test_an_attention_by_itself_is_the_packages_own() -> None:
    layer, hidden = Attend(14, 2, seed=3), torch.randn(3, 7, 14, generator=torch.Generator().manual_seed(0))
    assert isinstance(layer, MultiHead)
    torch.testing.assert_close(layer(hidden, CAUSAL)[:, :4], layer(hidden[:, :4], CAUSAL))
    torch.testing.assert_close(layer.weights(hidden).sum(dim=-1), torch.ones(3, 2, 7))
    assert torch.equal(Attend(14, 2, seed=3)(hidden), layer(hidden))


def test_the_lookup_asks_at_its_last_token() -> None:
    samples = examples(lookup(), 5, 0)
    assert samples.tokens.shape == (5, 9)
    assert (samples.labels[:, :-1] < 0).all()
    assert logits(build(reader(), 0), samples).shape == (5, 9, lookup().vocab)


def roles(accuracies: list[float], permuted: float) -> str:
    """The verdict on the jobs of Q, K and V for models that end with these accuracies."""
    rows = [{"part": "dictionary", "weight": 0.5, "expected": 0.5}]
    for seed, accuracy in enumerate(accuracies):
        moved = {"weights_moved": 0.0, "output_moved": 0.0, "part": "trained", "seed": seed}
        rows += [
            {"part": "trained", "seed": seed, "change": "nothing", "accuracy": accuracy},
            {**moved, "change": "V of another text", "accuracy": 0.1},
            {**moved, "change": "K and V permuted", "accuracy": accuracy},
            {**moved, "change": "K permuted", "accuracy": min(accuracy, permuted)},
        ]
    return question("qkv-roles").judge(Rows(rows))["jobs"].verdict.value


def test_models_that_do_not_learn_are_counted_and_not_judged() -> None:
    assert roles([1.0, 1.0, 0.99, 1.0, 0.6], 0.2) == "supported"
    assert roles([1.0, 1.0, 0.99, 1.0, 0.6], 0.55) == "inconclusive"
    assert roles([1.0, 1.0, 0.99, 0.4, 0.6], 0.2) == "inconclusive"
    models = Rows([{"seed": 7, "accuracy": 1.0}, {"seed": 8, "accuracy": 0.4}])
    assert knowing(models) == [7]
    assert not enough(models)


@pytest.mark.parametrize(
    ("test", "gap", "verdict"),
    [(-0.1, -0.1, "supported"), (-0.1, 0.0, "depends"), (0.0, 0.0, "refuted"), (-0.01, 0.0, "inconclusive")],
)
def test_what_better_generalisation_takes(test: float, gap: float, verdict: str) -> None:
    """With a spread of 0.02 nats either way, so that 0.01 is in doubt and 0.1 is not."""
    rows = []
    for seed, noise in enumerate((-0.02, 0.02, -0.02, 0.02, 0.0, 0.0)):
        own = {"part": "translation", "seed": seed}
        rows += [{**own, "heads": 1, "test": 1.0, "gap": 0.3}]
        rows += [{**own, "heads": 8, "test": 1.0 + test + noise, "gap": 0.3 + gap + noise}]
    assert multi_head_why._generalises(Rows(rows)).value == verdict


def test_a_harm_must_be_large_enough_and_sure() -> None:
    def said(middle: float) -> Verdict:
        return separate_q_k_weights._generalises(interval([middle - 0.02, middle, middle + 0.02]), least=0.03)

    assert [said(each) for each in (0.2, 0.04, -0.1)] == [Verdict.SUPPORTED, Verdict.INCONCLUSIVE, Verdict.DEPENDS]
