"""Planted errors in position schemes change what the matching questions measure, and with it their verdicts."""

import pytest
import torch
from torch import Tensor

from clearhead.lab import Scale, run
from clearhead.lab.parts.allocation import peak_bytes
from clearhead.lab.questions.positions import position_scheme_comparison, why_position_encoding
from clearhead.lab.questions.positions.rope_relative import EXACT, FORMS, _exact
from clearhead.lab.training import encoder
from clearhead.model.position.alibi import Alibi
from clearhead.model.position.rotary import Rotary
from clearhead.model.position.sinusoidal import waves
from clearhead.model.position.xl import XLLayer


def verdicts(id: str) -> dict[str, str]:
    (result,) = run([id], Scale("quick"), jobs=1)
    return {key: each.verdict.value for key, each in result.judgements.items()}


def test_sines_and_cosines_that_changed_places(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "clearhead.lab.questions.positions.sinusoidal_table"
    monkeypatch.setattr(f"{name}.NOISES", (0.0,))
    assert verdicts("sinusoidal-table")["definition"] == "supported"
    monkeypatch.setattr(f"{name}.waves", swapped)
    assert verdicts("sinusoidal-table")["definition"] == "refuted"


def swapped(at: Tensor, width: int, base: float, layout: str) -> Tensor:
    table = waves(at, width, base, "pairs")
    return table.view(len(table), -1, 2).flip(-1).flatten(1)


def test_a_code_that_is_no_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "clearhead.lab.questions.positions.sinusoidal_relative_shift"
    assert verdicts("sinusoidal-relative-shift")["linear-shift"] == "supported"
    monkeypatch.setattr(f"{name}.waves", lambda *given: waves(*given).abs())
    assert verdicts("sinusoidal-relative-shift")["linear-shift"] == "refuted"


def test_distances_that_are_positions_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("relative-position-transformer-xl")["pairwise"] == "depends"
    relate = XLLayer.relate

    def absolute(self: XLLayer, query: Tensor, key: Tensor, here: Tensor, there: Tensor) -> object:
        return relate(self, query, key, torch.zeros_like(here), there)

    monkeypatch.setattr(XLLayer, "relate", absolute)
    assert verdicts("relative-position-transformer-xl")["pairwise"] == "refuted"


def test_a_rotation_that_leaves_the_partner_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert largest(_exact(3, 0)) < EXACT
    monkeypatch.setattr(Rotary, "_turned", lambda self, states, own, partner: states * own)
    assert largest(_exact(3, 0)) > 0.01


def largest(row: object) -> float:
    assert isinstance(row, dict)
    return max(float(row[each]) for each in FORMS)


def test_a_bias_that_looks_at_one_position(monkeypatch: pytest.MonkeyPatch) -> None:
    assert position_scheme_comparison._shifted("alibi", 0) < position_scheme_comparison.SAME
    monkeypatch.setattr(
        Alibi,
        "bias",
        lambda self, here, there: (
            0.1 * self.slopes[:, None, None] * (here * here)[:, None, None] * there[:, None, None]
        ),
    )
    assert position_scheme_comparison._shifted("alibi", 0) > position_scheme_comparison.MOVED


def test_an_encoder_that_knows_order(monkeypatch: pytest.MonkeyPatch) -> None:
    config = encoder(why_position_encoding.VOCAB, {"position": "none"})
    assert why_position_encoding._change(config, 3, 0, causal=False) < why_position_encoding.BLIND
    monkeypatch.setattr(
        "clearhead.model.position.base.NoPosition.add",
        lambda self, embedded, at: embedded + at[..., None] * torch.eye(1, embedded.shape[-1]),
    )
    assert why_position_encoding._change(config, 3, 0, causal=False) > why_position_encoding.SEES


def test_which_first_tells_the_order() -> None:
    samples = why_position_encoding.WhichFirst().draw(64, torch.Generator().manual_seed(0))
    for tokens, mark in zip(samples.tokens.tolist(), samples.labels.tolist(), strict=True):
        assert (tokens.index(1) < tokens.index(2)) == bool(mark)
        assert tokens.count(1) == tokens.count(2) == 1


def test_bytes_are_counted_until_they_are_given_back() -> None:
    given = torch.zeros(100, dtype=torch.float64)
    assert peak_bytes(lambda: given + 1) == 800
    assert peak_bytes(lambda: (given + 1) + 1) == 1600  # the first sum lives until the second is made
    assert peak_bytes(lambda: ((given + 1) + 1) + 1) == 1600
    assert peak_bytes(lambda: given.view(10, 10)) == 0
    assert peak_bytes(lambda: (given + 1).view(10, 10).mul_(2)) == 800


def test_a_permutation_is_one_that_every_scheme_can_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why_position_encoding, "LENGTH", 3)
    generator = torch.Generator().manual_seed(0)
    drawn = {tuple(why_position_encoding._permutation(generator).tolist()) for _ in range(200)}
    assert len(drawn) == 4
    assert not drawn & {(0, 1, 2), (2, 1, 0)}
