"""The record of a run: metrics.jsonl for machines, TensorBoard for curves, one line for people."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from clearhead.core.errors import CheckpointError
from clearhead.core.files import storage, write_atomic
from clearhead.core.progress import say

Metrics = Mapping[str, Any]


class Record:
    """Appends to metrics.jsonl and TensorBoard; on resume, forgets what came after the checkpoint."""

    def __init__(self, folder: Path, update: int) -> None:
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            kept = [line for line in read_lines(self.path) if line["update"] <= update]
            write_atomic(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=update + 1)

    def write(self, kind: str, update: int, values: Metrics) -> None:
        """One line {"kind", "update", ...}; numbers go to TensorBoard as kind/name."""
        line = {"kind": kind, "update": update, **values}
        with storage(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(f"{kind}/{name}", value, update)

    def tell(self, kind: str, update: int, values: Metrics) -> None:
        """Write, and show the numbers on standard error."""
        self.write(kind, update, values)
        shown = "  ".join(f"{name} {_short(each)}" for name, each in values.items() if isinstance(each, (int, float)))
        say(f"{kind} {update}: {shown}")

    def close(self) -> None:
        """Flush everything."""
        self._board.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; one that was cut off by a kill or a full disk is left out."""
    lines = []
    try:
        texts = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise CheckpointError((error.strerror or str(error)).lower(), where=path) from None
    for text in texts:
        with contextlib.suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict) and isinstance(line.get("update"), int) and "kind" in line:
                lines.append(line)
    return lines


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
