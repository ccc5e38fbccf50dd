"""Watch a training from outside, whoever trains: its record of updates, and the memory of its processes together.

A training writes lines of JSON, {"kind": "train", "update": 8, "tokens": 65536, "seconds": 12.5}, of all updates so
far, as metrics.jsonl of a run. When the last line is there, the training is ended: what would come after is not
measured.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SIZES = re.compile(r"^Rss(\w+):\s*(\d+) kB", re.MULTILINE)  # of /proc/PID/status
PAUSE = 0.25  # seconds between two looks at the record
LOOK = 0.01  # seconds between two looks at the memory; a step takes some seconds
LISTED = 0.5  # seconds after which the processes are listed anew


def measured(
    command: Sequence[str], record: Path, *, warm: int, last: int, memory: bool, environment: Mapping[str, str]
) -> float:
    """Tokens a second between updates `warm` and `last`, or the largest memory of all up to `last` in MB."""
    record.parent.mkdir(parents=True, exist_ok=True)
    log = record.parent / "log.txt"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        peak = _watch(process, record, last, memory=memory)
    except RuntimeError as error:
        raise SystemExit(f"{' '.join(command)}\n{log.read_text(errors='replace')[-3000:]}\n{error}") from None
    finally:
        _end(process)
    return peak if memory else _speed(record, warm, last)


def _watch(process: "subprocess.Popen[bytes]", record: Path, last: int, *, memory: bool) -> float:
    """Wait for the last update; the largest memory on the way, 0.0 if nobody asks for it."""
    peak, listed, family, looked = 0.0, 0.0, [process.pid], 0.0
    while True:
        now = time.monotonic()
        if now - looked > PAUSE:
            looked, ended = now, process.poll() is not None
            if last in _lines(record):
                return peak
            if ended:
                raise RuntimeError(f"ended with status {process.returncode} before update {last}")
        if memory and now - listed > LISTED:
            listed, family = now, _family(process.pid)
        peak = max(peak, _held(family)) if memory else peak
        time.sleep(LOOK if memory else PAUSE)


def _speed(record: Path, warm: int, last: int) -> float:
    begin, end = (_lines(record)[number] for number in (warm, last))
    return float((end["tokens"] - begin["tokens"]) / (end["seconds"] - begin["seconds"]))


def _lines(record: Path) -> dict[int, Any]:
    """The complete lines of a record by update."""
    if not record.exists():
        return {}
    *whole, _ = record.read_text(encoding="utf-8").split("\n")
    return {line["update"]: line for line in map(json.loads, whole) if line["kind"] == "train"}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a training and the processes that it has started; return when they are gone, memory and all."""
    family = _family(process.pid) if process.poll() is None else []
    for each in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    process.wait()
    while _held(family):
        time.sleep(LOOK)


def _family(pid: int) -> list[int]:
    """A process and all that come from it."""
    parents = dict(_parents())
    found = [pid]
    for each in found:  # it grows
        found += [child for child, parent in parents.items() if parent == each]
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), int(path.read_text(errors="replace").rpartition(")")[2].split()[1])


def _held(family: Sequence[int]) -> float:
    """MB in memory of some processes: what each has for itself, and the libraries' files, which they share, once."""
    own, files = 0, 0
    for pid in family:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
            sizes = {name: int(kilobytes) for name, kilobytes in SIZES.findall(status)}
            own += sizes.get("Anon", 0) + sizes.get("Shmem", 0)
            files = max(files, sizes.get("File", 0))
    return (own + files) / 1024
