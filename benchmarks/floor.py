"""What the processor allows: FLOPs of a step over the measured peak of matrix products."""

from collections.abc import Mapping
from typing import Any

import torch

from clearhead.core.devices import cores, matmul_seconds

ROWS, INNER, COLUMNS = 4096, 512, 2048


def training_floor(model: Mapping[str, Any], precision: str) -> float:
    """Target tokens a second if a step were nothing but its matrix products at the peak, all cores busy.

    Args:
        model: its sizes, and `sources`, the source tokens for each target token.
        precision: of the products.
    """
    return peak(precision) / (3 * forward_flops(model))


def peak(precision: str) -> float:
    """FLOP/s of the best of ten large matrix products, all cores."""
    torch.set_num_threads(cores())
    return 2 * ROWS * INNER * COLUMNS / matmul_seconds(getattr(torch, precision), ROWS, INNER, COLUMNS)


def forward_flops(model: Mapping[str, Any]) -> float:
    """FLOPs for one target token and its share of the source.

    Linear maps, and for a text alone the scores and mixtures of attention, half of whose square is seen; those of
    sentences are too short to count.
    """
    width, sources = model["d_model"], model["sources"]
    square, feedforward = 2 * width * width, 4 * width * model["d_ff"]
    encoder = model["encoder_layers"] * (4 * square + feedforward) * sources
    crossing = square * (2 + 2 * sources) if model["encoder_layers"] else 2 * width * model["length"]
    decoder = model["decoder_layers"] * (4 * square + feedforward + crossing)
    return float(encoder + decoder + 2 * width * model["target_vocab"])
