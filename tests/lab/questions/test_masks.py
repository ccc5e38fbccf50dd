"""A planted error is found out: the verdict of the matching question changes."""

import pytest
import torch

from clearhead.lab import Scale, run
from clearhead.model import AttentionMask


def verdicts(id: str) -> dict[str, str]:
    (result,) = run([id], Scale("quick"), jobs=1)
    return {key: each.verdict.value for key, each in result.judgements.items()}


def test_a_causal_mask_that_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("causal-mask-why")["leakage"] == "supported"
    monkeypatch.setattr(AttentionMask, "only_causal", property(lambda self: False))
    monkeypatch.setattr(
        AttentionMask,
        "_near",
        lambda self, rows, columns, first, device: torch.ones(rows.stop - rows.start, len(columns_of(columns))).bool(),
    )
    assert verdicts("causal-mask-why")["leakage"] == "refuted"
    assert verdicts("masking-train-vs-inference")["differs"] == "refuted"


def test_padding_that_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("padding-mask")["negligible"] == "depends"
    monkeypatch.setattr(AttentionMask, "padded", lambda self, valid: self)
    assert verdicts("padding-mask")["negligible"] == "refuted"


def test_scores_that_are_not_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("scale-by-sqrt-dk")["vanishing"] == "supported"
    monkeypatch.setattr("clearhead.model.attention.dot.dot_scale", lambda d_head, scale, exponent: 1.0)
    assert verdicts("scale-by-sqrt-dk")["vanishing"] == "refuted"


def columns_of(columns: slice) -> range:
    return range(columns.start, columns.stop)
