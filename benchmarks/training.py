"""How fast, and in how much memory, a training step learns: ours and the peers, on the same real batches.

    python -m benchmarks.training MULTI30K [WIKITEXT2] [--works d128_4+4 ...] [--rounds 5] [--updates N] [--tiny]

    d128_4+4, d256_3+3, d512_6+6        encoder-decoders on Multi30k: target tokens a second
    decoder_10m                         a decoder of 10 M parameters on WikiText-2, 256 tokens a row: tokens a second
    memory_d256_3+3, memory_d512_6+6    encoder-decoders with 32,000 words on Multi30k: the largest memory, in MB

Each work is a section of RESULTS.md. Every contestant runs in a process of its own, and all take turns. Ours is
`clearhead train` itself with a recipe of recipes/, its reading of data, its worker process and its log lines included;
only positions and optimiser are those of the peers, whatever the recipe has.
A peer is a plain loop with all threads, autocast, fused Adam, and batches that lie ready. It runs with torch's fused
and with its plain attention, with the C library's memory allocator and with the one that `clearhead train` takes, set
as it sets it, once each, and keeps what did best. Dropout is where ours has it, embeddings are tied where ours are. An
update is two batches, which ours shares out to two processes; only updates are timed, without the first ones. Weights
are random, and are not the same: no product takes longer for them.

Memory is what all processes of a training hold together at the worst moment up to the last update: weights, gradients,
the optimiser's states and activations, but also interpreter and libraries; nothing is taken away. What a process has
for itself counts for each, the libraries' files, which processes share, count once. It is read every 10 ms. A second
process doubles all but the files, so ours is also measured with one.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.floor import training_floor
from benchmarks.report import Row, publish
from benchmarks.training_bench import Bench
from benchmarks.training_works import OURS, WORKS


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("multi30k", type=Path, help="folder of `clearhead data get multi30k`")
    parser.add_argument("wikitext2", type=Path, nargs="?", help="folder of `clearhead data get wikitext2`")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, help="that are timed; fewer for larger models if not given")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, only to see that it runs; nothing is published")
    parser.add_argument("--json", action="store_true", help="kept for uniformity: the last line is always JSON")
    plan = parser.parse_args()
    folders = {"Multi30k": plan.multi30k, "WikiText-2": plan.wikitext2}
    for name in plan.works:
        folder = folders[WORKS[name].text]
        if folder is None:
            print(f"{name} is left out: it needs the folder of {WORKS[name].text}", file=sys.stderr, flush=True)
            continue
        _one_work(name, folder, plan)


def _one_work(name: str, folder: Path, plan: argparse.Namespace) -> None:
    """Measure and publish one section."""
    work, rows, ratios, shares = WORKS[name], list[Row](), dict[str, float](), dict[str, float]()
    for precision in plan.precisions:
        with tempfile.TemporaryDirectory(prefix="clearhead-training-") as scratch:
            bench = Bench(name, precision, Path(scratch), work.overrides(precision, folder, tiny=plan.tiny))
            bench.prepare(work.timed(plan.updates))
            values = bench.rounds(plan.rounds)
            rows += [bench.row(each, statistics.median(found)) for each, found in values.items()]
            if not work.memory:
                limit = training_floor(bench.model, precision)
                rows.append(bench.row("the processor's limit", limit))
                shares[f"{precision}, share of the processor's limit"] = statistics.median(values[OURS]) / limit
            (shares if work.memory else ratios).update(bench.ratios(values))
    if plan.tiny:
        print(json.dumps({"rows": rows, "ratios": {**ratios, **shares}}))
        return
    folders = " ".join(each.name for each in (plan.multi30k, plan.wikitext2) if each is not None)
    choices = f"--rounds {plan.rounds} --updates {work.timed(plan.updates)} --precisions {' '.join(plan.precisions)}"
    publish(
        f"Training: {name}", f"python -m benchmarks.training {folders} --works {name} {choices}", rows, ratios, shares
    )


if __name__ == "__main__":
    main()
