"""Run every benchmark that can run here: python -m benchmarks."""

import subprocess
import sys
from pathlib import Path

RUNS = Path("runs")


def main() -> None:
    """Each benchmark in a process of its own, one after another."""
    found = sorted(each.parent for each in RUNS.glob("*/config.json"))
    tatoeba = [str(each) for each in found if each.name.startswith("tatoeba")]
    plans = [["benchmarks.startup"], *([["benchmarks.recipes", *map(str, found)]] if found else [])]
    plans += [["benchmarks.translation_quality", each] for each in tatoeba]
    for plan in plans:
        print(f"python -m {' '.join(plan)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", *plan], check=True)


if __name__ == "__main__":
    main()
