"""One work of benchmarks.training: it is prepared, the peers choose their settings, all take turns."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from ctypes.util import find_library
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.report import Row
from benchmarks.training_watch import measured
from benchmarks.training_works import RECIPES, WORKS, Work, as_overrides
from clearhead.core.allocator import JEMALLOC, KNOWN

KERNELS = ("fused", "plain")  # of attention, names that training_peers knows


@dataclass(frozen=True)
class Contestant:
    """Who trains, and how."""

    name: str
    kernel: str = ""  # of a peer's attention
    allocator: str = ""  # of a peer's memory; empty for the C library's

    @property
    def note(self) -> str:
        """What a peer was given."""
        return f" ({self.kernel} attention, {self.allocator or 'system'} memory)" if self.kernel else ""


@dataclass
class Bench:
    """One work in one precision, in a folder of its own."""

    name: str
    precision: str
    scratch: Path
    settings: list[str]  # overrides of the recipe
    lines: tuple[int, int] = (0, 0)  # updates between which is measured
    peers: list[Contestant] = field(default_factory=list)
    runs: int = 0  # so far

    @property
    def work(self) -> Work:
        """What is measured."""
        return WORKS[self.name]

    @property
    def model(self) -> Any:
        """What training_ours tells of the model."""
        return json.loads((self.scratch / "model.json").read_text(encoding="utf-8"))

    def prepare(self, updates: int) -> None:
        """Tokenizer, token files and the batches of all updates, in another process; then the peers' best settings."""
        self.lines = (self.work.warm, self.work.warm + updates)
        count, recipe = max(*self.lines, *self.work.trial), RECIPES / self.work.recipe
        command = [sys.executable, "-m", "benchmarks.training_ours", str(self.scratch), str(count), str(recipe)]
        subprocess.run([*command, *self.settings], check=True)
        self.peers = [self._best(name) for name in self.work.peers]

    def rounds(self, count: int) -> dict[str, list[float]]:
        """What each contestant reached in each round, by its label; who begins changes from round to round."""
        contestants = [*map(Contestant, self.work.ours), *self.peers]
        found: dict[str, list[float]] = {each.name: [] for each in contestants}
        for number in range(count):
            first = number % len(contestants)
            for each in contestants[first:] + contestants[:first]:
                found[each.name].append(self._measure(each, self.lines))
        return found

    def ratios(self, values: dict[str, list[float]]) -> dict[str, float]:
        """How many times as good ours is as each peer and as the best of them, medians of the rounds' own ratios."""
        found: dict[str, float] = {}
        for ours in self.work.ours:
            best = min(self._compared(values[ours], values[peer]) for peer in self.work.peers)
            for peer in () if self.work.memory else self.work.peers:
                found[f"{self.precision}, {peer}"] = self._compared(values[ours], values[peer])
            what = f"peak memory, best peer / {ours}" if self.work.memory else "the best peer"
            found[f"{self.precision}, {what}"] = best
        return found

    def row(self, name: str, value: float) -> Row:
        """A line of the table."""
        note = next((each.note for each in self.peers if each.name == name), "")
        work = self.name if self.work.memory else f"{self.name}, {self.model['parameters'] / 1e6:.1f} M parameters"
        return {
            "work": work,
            "system": name + note,
            "precision": self.precision,
            "value": value,
            "unit": self.work.unit,
        }

    def _compared(self, ours: list[float], theirs: list[float]) -> float:
        """The median over rounds of ours / peer, for memory of peer / ours."""
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        return statistics.median(1 / each if self.work.memory else each for each in ratios)

    def _best(self, name: str) -> Contestant:
        """The settings with which a peer does best."""
        choices = [Contestant(name, *each) for each in product(KERNELS, ("", *_fast_allocator()))]
        found = {each: self._measure(each, self.work.trial) for each in choices}
        return (min if self.work.memory else max)(found, key=found.__getitem__)

    def _measure(self, who: Contestant, lines: tuple[int, int]) -> float:
        """One run of a contestant."""
        self.runs += 1
        out = self.scratch / f"measured-{self.runs}"
        environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        environment |= {"LD_PRELOAD": who.allocator, "MALLOC_CONF": JEMALLOC} if who.allocator else {}
        ours = who.name in self.work.ours
        command, record = self._ours(who.name, out) if ours else self._peer(who, out, lines)
        warm, last = lines
        value = measured(command, record, warm=warm, last=last, memory=self.work.memory, environment=environment)
        told = f"{self.name} {self.precision} {who.name}{who.note}: {value:,.1f} {self.work.unit}"
        print(told, file=sys.stderr, flush=True)
        shutil.rmtree(out)
        return value

    def _ours(self, name: str, out: Path) -> tuple[list[str], Path]:
        """`clearhead train`, going on where the preparation has ended."""
        shutil.copytree(self.scratch / "run", out)
        settings = [*self.settings, *as_overrides(self.work.ours[name])]
        command = [sys.executable, "-m", "clearhead", "train", str(RECIPES / self.work.recipe), *settings]
        return [*command, "--out", str(out), "--resume"], out / "metrics.jsonl"

    def _peer(self, who: Contestant, out: Path, lines: tuple[int, int]) -> tuple[list[str], Path]:
        record = out / "metrics.jsonl"
        given = [who.name, self.precision, who.kernel, str(self.scratch), str(record), *map(str, lines)]
        return [sys.executable, "-m", "benchmarks.training_peers", *given], record


def _fast_allocator() -> list[str]:
    """The allocator that `clearhead train` takes here."""
    found = filter(None, map(find_library, KNOWN))
    return list(found)[:1]
