"""How fast are texts written: ours, CTranslate2, transformers and llama.cpp, with the very same weights.

    python -m benchmarks.decoding [--works d256 d512 decoder streams] [--rounds 5] [--tiny] [--json]

    d256, d512   translations of 20 tokens into 32: greedy and 4 beams, 1 and 32 texts at a time
    decoder      a text goes on by 64 tokens, one text at a time
    streams      32 texts that come at random, 16 at a time at most (continuous batching)

Ours are models as `clearhead.model.packing.packed` makes them, for float32 and for int8 weights. A model is made by
transformers with random weights, imported as `clearhead import` does, and exported as `clearhead export` does. No text
can end early, so all write as many tokens, and where searches are greedy the same ones. Each system runs once with one
thread and once with two, and keeps what was faster. Then all take turns, with a pause between them: threads of one must
not be busy waiting while another one is measured. After its pause each does the work once, and then once more against
the clock, so that none finds the caches full of another one's weights. A ratio is the median of those of neighbours.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import transformers

from benchmarks import decoding_continuations, decoding_streams, decoding_translations
from benchmarks.decoding_floor import read_seconds
from benchmarks.decoding_work import System, Work
from benchmarks.report import Row, publish

GROUPS: dict[str, Callable[..., Iterator[Work]]] = {  # folder, tiny -> the works of a group
    "d256": decoding_translations.small,
    "d512": decoding_translations.large,
    "decoder": decoding_continuations.works,
    "streams": decoding_streams.works,
}
OURS = "clearhead"
THREADS = (1, 2)
PAUSE = 0.3  # seconds: OpenMP of Intel waits busily for 0.2
ALIKE = 0.9  # of greedy texts; float32 sums are rounded in another order, and two tokens may be nearly as probable


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="toy sizes, only to see that it runs; nothing is published")
    parser.add_argument("--json", action="store_true", help="kept for uniformity: the last line is always JSON")
    plan = parser.parse_args()
    threads = (1,) if plan.tiny else THREADS
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for group in plan.works:
        rows: list[Row] = []
        ratios: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            for work in GROUPS[group](Path(folder), tiny=plan.tiny):
                measure(work, plan.rounds, threads, rows, ratios)
        if not plan.tiny:
            command = f"python -m benchmarks.decoding --works {group} --rounds {plan.rounds}"
            publish(f"Decoding: {group}", command, rows, ratios)


def measure(work: Work, rounds: int, choices: Sequence[int], rows: list[Row], ratios: dict[str, float]) -> None:
    """The lines of one work: the speed of each system, the floor, and our ratios to all of them."""
    threads = {system.label: _best_threads(system, choices) for system in work.systems}
    print(f"{work.name}: the same texts as ours: {_compared(work)}", flush=True)
    seconds = alternate(work.systems, rounds)
    ours = {each.precision: each for each in work.systems if each.name == OURS}
    for system in work.systems:
        speed = work.tokens / statistics.median(seconds[system.label])
        threaded = f"{system.name}{system.note}, threads: {threads[system.label]}"
        rows.append(_row(work, threaded, system.precision, speed))
        print(f"{work.name}: {system.precision} {threaded}: {speed:,.1f} tokens/s", flush=True)
    for other in (each for each in work.systems if each.name != OURS):
        own = ours[other.precision]
        pairs = zip(seconds[other.label], seconds[own.label], strict=True)
        ratios[f"{work.name}, {other.label}"] = statistics.median(their / mine for their, mine in pairs)
    floor = read_seconds(work.bytes, work.step)
    rows.append(_row(work, "memory floor: reading weights and cache", "float32", work.tokens / floor))
    share = floor / statistics.median(seconds[ours["float32"].label])
    ratios[f"{work.name}, share of the memory floor"] = share


def alternate(systems: list[System], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run; who begins changes from round to round."""
    seconds: dict[str, list[float]] = {each.label: [] for each in systems}
    for turn in range(rounds):
        first = turn % len(systems)
        for system in systems[first:] + systems[:first]:
            seconds[system.label].append(_timed(system))
    return seconds


def _timed(system: System) -> float:
    time.sleep(PAUSE)
    system.wake()
    system.run()
    start = time.perf_counter()
    system.run()
    seconds = time.perf_counter() - start
    system.rest()
    return seconds


def _best_threads(system: System, choices: Sequence[int]) -> int:
    """The fastest number of threads, each measured once."""
    found: dict[int, float] = {}
    for count in choices:
        system.use(count)
        found[count] = _timed(system)
    best = min(found, key=lambda count: found[count])
    system.use(best)
    system.rest()
    return best


def _compared(work: Work) -> str:
    """How many texts of the others are ours; refuses to time what is not the same."""
    ours, *others = [(each, each.run()) for each in work.systems]
    for each in work.systems:
        each.rest()
    told = []
    for system, texts in others:
        assert sum(map(len, texts)) == work.tokens, f"{system.label} wrote {sum(map(len, texts))} tokens"
        same = sum(own == their for own, their in zip(ours[1], texts, strict=True)) / len(texts)
        told.append(f"{same:.0%} of {system.label}")
        exact = work.exact and system.precision == ours[0].precision
        assert same >= ALIKE or not exact, f"{work.name}: {told[-1]} is the same"
    assert sum(map(len, ours[1])) == work.tokens
    return ", ".join(told)


def _row(work: Work, system: str, precision: str, value: float) -> Row:
    return {"work": work.name, "system": system, "precision": precision, "value": value, "unit": "tokens/s"}


if __name__ == "__main__":
    main()
