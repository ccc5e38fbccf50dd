"""What the processor allows: FLOPs of a step over the measured peak of matrix products."""

import torch

from clearhead.core.devices import cores, matmul_seconds

ROWS, INNER, COLUMNS = 4096, 512, 2048
VOCABULARY = 8_000


def training_floor(sizes: dict[str, int], precision: str) -> float:
    """Target tokens a second if a step were nothing but its matrix products at the peak, all cores busy."""
    return peak(precision) / (3 * forward_flops(sizes))


def peak(precision: str) -> float:
    """FLOP/s of the best of ten large matrix products, all cores."""
    torch.set_num_threads(cores())
    return 2 * ROWS * INNER * COLUMNS / matmul_seconds(getattr(torch, precision), ROWS, INNER, COLUMNS)


def forward_flops(sizes: dict[str, int]) -> float:
    """FLOPs of the linear maps for one token on each side; the scores of short texts are left out."""
    width, inner = sizes["d_model"], sizes["d_ff"]
    encoder = 2 * (4 * width * width + 2 * width * inner) * sizes["encoder_layers"]
    decoder = 2 * (8 * width * width + 2 * width * inner) * sizes["decoder_layers"]
    return encoder + decoder + 2 * width * VOCABULARY
