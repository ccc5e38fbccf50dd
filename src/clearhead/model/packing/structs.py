"""The structs of step.c, field by field, and how tensors become their addresses."""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor

from clearhead.model.packing.rounding import rounded

PANEL = 16  # outputs of a matrix that lie side by side
FOUR = 4  # inputs of an output that lie side by side where they are whole numbers


class Matrix(Structure):
    _fields_ = [
        ("weight", c_void_p),
        ("whole", c_void_p),
        ("scale", c_void_p),
        ("sums", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_int64),
        ("inputs", c_int64),
        ("stride", c_int64),
    ]


class Norm(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("epsilon", c_float), ("kind", c_int32)]


class Residual(Structure):
    _fields_ = [("norm", Norm), ("alpha", c_float), ("place", c_int32)]


class Attention(Structure):
    _fields_ = [
        ("inputs", Matrix),
        ("output", Matrix),
        ("residual", Residual),
        ("scale", c_float),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("d_head", c_int32),
    ]


class Block(Structure):
    _fields_ = [
        ("self", Attention),
        ("cross", Attention),
        ("gate", Matrix),
        ("inner", Matrix),
        ("outer", Matrix),
        ("residual", Residual),
        ("activation", c_int32),
    ]


class Model(Structure):
    _fields_ = [("blocks", POINTER(Block)), ("last", Norm), ("layers", c_int64), ("d_model", c_int64)]


class Store(Structure):
    _fields_ = [("data", c_void_p), ("row", c_int64), ("head", c_int64), ("column", c_int64)]


class Keys(Structure):
    _fields_ = [
        ("key", Store),
        ("value", Store),
        ("origins", c_void_p),
        ("origins_row", c_int64),
        ("bias", c_void_p),
        ("bias_row", c_int64),
        ("bias_head", c_int64),
        ("bias_column", c_int64),
        ("valid", c_void_p),
        ("valid_row", c_int64),
        ("first", c_int64),
        ("columns", c_int64),
        ("window", c_int64),
        ("readers", c_int64),
    ]


class Embedding(Structure):
    _fields_ = [
        ("table", c_void_p),
        ("positions", c_void_p),
        ("vocab", c_int64),
        ("length", c_int64),
        ("scale", c_float),
    ]


class Call(Structure):
    _fields_ = [
        ("tokens", c_void_p),
        ("positions", c_void_p),
        ("tokens_row", c_int64),
        ("positions_row", c_int64),
        ("hidden", c_void_p),
        ("rows", c_int64),
        ("threads", c_int64),
        ("own", c_void_p),
        ("partner", c_void_p),
        ("turn_row", c_int64),
        ("turned", c_int64),
        ("pairs", c_int64),
        ("self", POINTER(Keys)),
        ("cross", POINTER(Keys)),
        ("work", c_void_p),
    ]


class Search(Structure):
    _fields_ = [
        ("embedding", POINTER(Embedding)),
        ("head", Matrix),
        ("scale", c_float),
        ("beams", c_int64),
        ("eos", c_int64),
        ("forbidden", c_int64),
        ("most", c_int64),
        ("newest", c_void_p),
        ("totals", c_void_p),
        ("written", c_void_p),
        ("origins", c_void_p),
        ("origins_row", c_int64),
        ("logits", c_void_p),
        ("best", c_void_p),
        ("sums", c_void_p),
        ("places", c_void_p),
        ("parents", c_void_p),
        ("candidates", c_void_p),
        ("steps", c_int64),
        ("table", c_int64),
        ("going", c_int64),
    ]


class Held:
    """Makes structs of tensors and keeps the tensors alive."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def address(self, tensor: Tensor | None) -> int | None:
        """Where a tensor without gaps begins."""
        if tensor is None:
            return None
        kept = tensor.detach().contiguous()
        self.tensors.append(kept)
        return kept.data_ptr()

    def matrix(self, weight: Tensor, bias: Tensor | None, *, whole: bool) -> Matrix:
        """A copy of a linear map, (outputs, inputs) float32 and (outputs,), in panels or as whole numbers."""
        outputs, inputs = weight.shape
        sizes = {"bias": self.address(bias), "outputs": outputs, "inputs": inputs}
        if not whole:
            panels = F.pad(weight.detach(), (0, 0, 0, -outputs % PANEL)).view(-1, PANEL, inputs).transpose(1, 2)
            return Matrix(weight=self.address(panels), **sizes)  # (panels, inputs, PANEL)
        numbers, scale = rounded(weight.detach())
        padded = F.pad(numbers, (0, -inputs % FOUR, 0, -outputs % PANEL))
        panels = padded.view(-1, PANEL, padded.shape[1] // FOUR, FOUR).transpose(1, 2)  # (panels, fours, PANEL, FOUR)
        scales, sums = F.pad(scale[:, 0], (0, -outputs % PANEL)), 128 * padded.sum(dim=1, dtype=torch.int32)
        places = {"whole": self.address(panels), "scale": self.address(scales), "sums": self.address(sums)}
        return Matrix(**places, stride=padded.shape[1], **sizes)


def store(states: Tensor) -> Store:
    """Of states (rows, kv_heads, columns, d_head), or (rows, kv_heads, d_head) with one token in each row."""
    if states.dim() == 3:
        row, head, _ = states.stride()
        return Store(states.data_ptr(), row, head, 0)
    row, head, column, _ = states.stride()
    return Store(states.data_ptr(), row, head, column)


class Stores:
    """Keys and values of all blocks as step.c is told of them; those that stay where they were are told once."""

    def __init__(self, layers: int) -> None:
        self.array = (Keys * layers)()
        self._each = [self.array[index] for index in range(layers)]
        self._known: list[tuple[Any, Any]] = [(_nothing, _nothing)] * layers

    def at(self, index: int, key: Tensor, value: Tensor) -> Keys:
        """The struct of a block, whose keys and values are now these."""
        keys, (known_key, known_value) = self._each[index], self._known[index]
        if known_key() is not key or known_value() is not value:
            keys.key, keys.value = store(key), store(value)
            self._known[index] = ref(key), ref(value)
        return keys


def _nothing() -> None:
    """The reference of a block that was never told."""


def array(kind: type[Structure], items: Sequence[Structure]) -> ctypes.Array[Structure]:
    """Structs side by side."""
    return (kind * len(items))(*items)
