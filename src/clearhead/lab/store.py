"""Measured cells on disk: each is a small file as soon as it is done, so that a run killed half-way goes on."""

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clearhead.core.errors import DataError
from clearhead.core.files import make_folder, read_json, write_atomic
from clearhead.lab.rows import Cell, Row


@dataclass(frozen=True)
class Measured:
    """One cell with what was measured in it."""

    cell: Cell
    rows: list[Row]  # the conditions of the cell included
    seconds: float  # of one core
    made: str  # date and time, UTC


@dataclass(frozen=True)
class Store:
    """A folder of measured cells."""

    folder: Path
    reads: bool = True  # False = only keep, measure all anew

    def get(self, question: str, cell: Cell, code: str) -> Measured | None:
        """What was measured in this cell with this code and these versions; None for nothing, or a damaged file."""
        path = self._path(question, cell, code)
        if not self.reads or not path.is_file():
            return None
        try:
            document = read_json(path, DataError)
            return Measured(**document)
        except (DataError, TypeError):
            return None

    def put(self, question: str, code: str, measured: Measured) -> None:
        """Keep a measured cell."""
        path = self._path(question, measured.cell, code)
        make_folder(path.parent)
        write_atomic(path, json.dumps(vars(measured), ensure_ascii=False))

    def _path(self, question: str, cell: Cell, code: str) -> Path:
        key = json.dumps([code, versions(), dict(cell)], sort_keys=True)
        return self.folder / question / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def versions() -> dict[str, Any]:
    """What besides our own code decides a number."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
