"""A product of few rows by a matrix, by the compiled step."""

from ctypes import byref

import torch
from torch import Tensor

from clearhead.model.packing.library import library
from clearhead.model.packing.structs import Held

ENOUGH = 150_000  # products of a number and a weight that are worth a thread


class Compiled:
    """hidden W^T + bias for a matrix that does not change any more.

    Args:
        weight: (outputs, inputs).
        bias: (outputs,) or None.
        whole: multiply by whole numbers.
        most: rows from which on PyTorch is faster.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, whole: bool, most: int) -> None:
        self.library, self.most = library(), most
        self.ready = self.library is not None and weight.dtype == torch.float32 and weight.device.type == "cpu"
        self.held, self.whole = Held(), whole
        if self.ready:
            self.struct = self.held.matrix(weight, bias, whole=whole)

    def takes(self, hidden: Tensor) -> bool:
        """Whether it can multiply this."""
        few = hidden.numel() <= self.most * hidden.shape[-1]
        return self.ready and few and not torch.is_grad_enabled() and hidden.dtype == torch.float32

    def __call__(self, hidden: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        assert self.library is not None
        hidden, matrix = hidden.contiguous(), self.struct
        rows = hidden.numel() // hidden.shape[-1]
        out = hidden.new_empty(*hidden.shape[:-1], matrix.outputs)
        scratch = hidden.new_empty(rows * (1 + matrix.stride // 4) if self.whole else 0)
        threads = threads_for(rows * matrix.outputs * matrix.inputs)
        self.library.clearhead_multiply(
            byref(matrix), hidden.data_ptr(), rows, out.data_ptr(), scratch.data_ptr(), threads
        )
        return out


def threads_for(products: int) -> int:
    """How many threads are worth while for so many products of two numbers."""
    return max(1, min(torch.get_num_threads(), products // ENOUGH))
