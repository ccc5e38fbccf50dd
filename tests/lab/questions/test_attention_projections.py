"""Planted errors change the verdicts of the questions on heads, projections and scores; their small parts are right."""

import pytest
import torch
from torch import Tensor

from clearhead.lab import Scale, question
from clearhead.lab.parts.attend import Attend
from clearhead.lab.parts.lookup import lookup, reader
from clearhead.lab.rows import Rows
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
