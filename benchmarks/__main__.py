"""Run every benchmark, one after another, each in a process of its own: hours on two cores.

    python -m benchmarks [--data data] [--runs runs] [--tiny]

`clearhead data get multi30k --out data/multi30k` and the same for wikitext2 bring the texts of the training benchmark;
finished runs, `runs/*`, are scored again. What has no text or no run is left out and named; what fails (a peer that is
not installed, say) stops nothing else, and is named at the end with exit status 1.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TOYS = ("inference_forward", "decoding", "serving", "training")  # have toy sizes, only to see that they run


def main() -> None:
    """Each benchmark of the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with multi30k and wikitext2")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of finished runs")
    parser.add_argument("--tiny", action="store_true", help="only those with toy sizes, and these; publishes nothing")
    arguments = parser.parse_args()
    failed = []
    for name, *given in plans(arguments.data, arguments.runs):
        if arguments.tiny and name not in TOYS:
            continue
        command = [f"benchmarks.{name}", *given, *(["--tiny"] if arguments.tiny else [])]
        _tell(f"python -m {' '.join(command)}")
        if subprocess.run([sys.executable, "-m", *command]).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def plans(data: Path, runs: Path) -> Iterator[list[str]]:
    """Name and arguments of each benchmark."""
    yield ["startup"]
    yield from ([name] for name in ("inference_forward", "decoding", "serving", "serving_leak"))
    texts = [str(data / name) for name in ("multi30k", "wikitext2") if (data / name).is_dir()]
    if (data / "multi30k").is_dir():
        yield ["training", *texts]
    else:
        _tell(f"training is left out: there is no {data / 'multi30k'}")
    found = [str(each.parent) for each in sorted(runs.glob("*/config.json"))]
    if found:
        yield ["recipes", *found]
    else:
        _tell(f"recipes is left out: there is no finished run in {runs}")
    yield from (["translation_quality", each] for each in found if Path(each).name.startswith("tatoeba"))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
