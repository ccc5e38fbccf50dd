"""How many target tokens a second does a training step learn from: ours and the peers, on the same real batches.

    python -m benchmarks.training FOLDER_OF_MULTI30K [--rounds 5] [--updates 24] [--works d128_4+4 ...]

Every contestant runs in a process of its own, alternating, each with the best settings that it has: ours as
`clearhead train` starts it (worker processes included), the peers in a plain loop with all threads. What is timed is
updates only, the first ones left out; work per update is the same two batches for everyone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.floor import training_floor
from benchmarks.report import Row, publish

WORKS = {
    "d128_4+4": {"d_model": 128, "heads": 4, "d_ff": 256, "encoder_layers": 4, "decoder_layers": 4},
    "d256_3+3": {"d_model": 256, "heads": 8, "d_ff": 512, "encoder_layers": 3, "decoder_layers": 3},
    "d512_6+6": {"d_model": 512, "heads": 8, "d_ff": 2048, "encoder_layers": 6, "decoder_layers": 6},
}
PEERS = ("torch.nn.Transformer", "transformers Marian", "x-transformers")
WARM = 4  # updates that are not timed


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--json", action="store_true", help="kept for uniformity: the last line is always JSON")
    plan = parser.parse_args()
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    for work in plan.works:
        for precision in plan.precisions:
            measured = rounds(work, precision, plan)
            rows += list(rows_of(work, precision, measured))
            speeds = {name: statistics.median(each["speed"] for each in found) for name, found in measured.items()}
            rows.append(row(work, "the processor's limit", precision, training_floor(WORKS[work], precision)))
            ratios[f"{work}, {precision}"] = speeds.pop("clearhead") / max(speeds.values())
    publish("Training speed, translation", f"python -m benchmarks.training {plan.folder.name}", rows, ratios)


def rounds(work: str, precision: str, plan: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Every contestant `rounds` times, in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("clearhead", *PEERS)}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(plan.rounds):
            for name in found:
                measure = ours if name == "clearhead" else peer
                found[name].append(measure(name, work, precision, plan, Path(folder) / str(number)))
                print(f"{work} {precision} {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def overrides(work: str, precision: str, plan: argparse.Namespace) -> list[str]:
    """The recipe multi30k_en_de with another model, for a few updates."""
    model = [f"model.{key}={value}" for key, value in WORKS[work].items()]
    train = {"updates": plan.updates + WARM, "log_every": WARM, "precision": precision, "bleu_sentences": 1}
    train |= {"validate_every": 1_000_000, "checkpoint_every": 1_000_000, "metric": "loss", "accumulate": 2}
    return [f"data.folder={plan.folder.resolve()}", *model, *(f"train.{key}={value}" for key, value in train.items())]


def ours(name: str, work: str, precision: str, plan: argparse.Namespace, out: Path) -> dict[str, float]:
    """Tokens a second between two lines of the run's record, and the largest memory of its processes together, MB."""
    command = [sys.executable, "-m", "benchmarks.training_ours", str(out), *overrides(work, precision, plan)]
    return answer(command)


def peer(name: str, work: str, precision: str, plan: argparse.Namespace, out: Path) -> dict[str, float]:
    """The same of a peer."""
    settings = overrides(work, precision, plan)
    command = [sys.executable, "-m", "benchmarks.training_peers", name, precision, str(out), *settings]
    return answer(command)


def answer(command: list[str]) -> dict[str, float]:
    """The JSON in the last line of a command's output."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def rows_of(work: str, precision: str, measured: dict[str, list[dict[str, float]]]) -> list[Row]:
    """Medians of speed and memory."""
    rows = []
    for name, found in measured.items():
        rows.append(row(work, name, precision, statistics.median(each["speed"] for each in found)))
        memory = statistics.median(each["memory"] for each in found)
        rows.append({**row(work, name, precision, memory), "unit": "MB at most"})
    return rows


def row(work: str, system: str, precision: str, value: float) -> Row:
    return {"work": work, "system": system, "precision": precision, "value": value, "unit": "target tokens/s"}


if __name__ == "__main__":
    main()
