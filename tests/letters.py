"""A tiny translation corpus: letter strings and the same backwards, the same every time."""

from pathlib import Path

import numpy as np


def write_letters(folder: Path, *, train: int, valid: int) -> None:
    """Write train.a, train.b, valid.a and valid.b with so many lines."""
    random = np.random.default_rng(7)
    for split, number in (("train", train), ("valid", valid)):
        lines = ["".join(random.choice(list("abcdef"), random.integers(2, 7))) for _ in range(number)]
        (folder / f"{split}.a").write_text("\n".join(lines) + "\n")
        (folder / f"{split}.b").write_text("\n".join(each[::-1] for each in lines) + "\n")
