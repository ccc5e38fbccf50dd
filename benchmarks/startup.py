"""Does the command line answer at once? Seconds of `clearhead --help`, beside Python alone and an import of torch."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import Row, publish

RUNS = 11


def main() -> None:
    """Alternate the three commands and publish their medians."""
    python = sys.executable
    commands = {
        "clearhead --help": [str(Path(python).with_name("clearhead")), "--help"],
        "python -c pass": [python, "-c", "pass"],
        "python -c 'import torch'": [python, "-c", "import torch"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    rows: list[Row] = [
        {"work": "start", "system": name, "precision": "-", "value": statistics.median(each), "unit": "s"}
        for name, each in seconds.items()
    ]
    publish("Start-up", "python -m benchmarks.startup", rows, {})


if __name__ == "__main__":
    main()
