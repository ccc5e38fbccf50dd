"""One timed run of `clearhead train` for benchmarks.training: the last line is JSON with speed and memory."""

import json
import resource
import sys
from pathlib import Path

from clearhead.core.recipe import read_recipe
from clearhead.train import Recipe, run
from clearhead.train.metrics import read_lines

RECIPE = Path(__file__).parent.parent / "recipes" / "multi30k_en_de.yaml"


def main() -> None:
    """Arguments: run folder, overrides."""
    out, settings = Path(sys.argv[1]), sys.argv[2:]
    run(read_recipe(RECIPE, settings, Recipe), out)
    lines = [each for each in read_lines(out / "metrics.jsonl") if each["kind"] == "train"]
    (seconds, tokens), (start, warm) = ((each["seconds"], each["tokens"]) for each in (lines[-1], lines[0]))
    usage = [resource.getrusage(each).ru_maxrss for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"speed": (tokens - warm) / (seconds - start), "memory": sum(usage) / 1024}))


if __name__ == "__main__":
    main()
