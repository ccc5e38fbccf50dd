"""How many requests are answered, and how soon: our server, transformers', and that of llama-cpp-python.

    python -m benchmarks.serving [--clients 1 8 32] [--rounds 3] [--requests 4] [--tiny] [--json]

One decoder-only model of 34 M random weights, written for each engine by `clearhead export`, float32. Each client sends
a prompt of 24 words and reads the stream of 32 tokens to its end, then sends the next one; the load is bounded by the
number of requests. All servers are as they come, each in a process of its own; only one is asked at a time, they take
turns in each round, the others are suspended, and a number is the median of the rounds. llama-cpp-python answers one
request at a time. Needs: pip install -e '.[bench]'; who fails is left out.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.report import Row, publish
from benchmarks.serving_load import Load, measure, prompts
from benchmarks.serving_systems import Server, servers

TOKENS, WORDS, PAUSE = 32, 24, 0.5


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=4, help="of each client in a round; at least 8 in all")
    parser.add_argument("--tiny", action="store_true", help="a toy model, only to see that it runs; not published")
    parser.add_argument("--json", action="store_true", help="kept for uniformity: the last line is always JSON")
    plan = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, words = servers(Path(folder), tiny=plan.tiny)
        alive = [each for each in found if _opened(each, words)]
        if found[0] not in alive:
            raise SystemExit("our own server does not start")
        try:
            loads = _loads(alive, words, plan)
            memory = {each.name: each.memory for each in alive}
        finally:
            for each in alive:
                each.close()
    rows = [row for (name, clients), each in loads.items() for row in _rows(name, clients, each)]
    rows += [_row("start to first health", each.name, each.start, "s") for each in alive]
    rows += [_row("memory at the end", name, value, "MiB") for name, value in memory.items()]
    ratios = _ratios(loads, [each.name for each in alive])
    if plan.tiny:
        print(*rows, ratios, sep="\n")
    else:
        clients = " ".join(map(str, plan.clients))
        settings = f"--clients {clients} --rounds {plan.rounds} --requests {plan.requests}"
        publish("Serving", f"python -m benchmarks.serving {settings}", rows, ratios)


def _opened(server: Server, words: list[str]) -> bool:
    """Whether a server starts and answers; one that does not is left out, and says why."""
    try:
        server.open()
        warm = measure(server.address, server.model, prompts(3, words, WORDS, seed=1), clients=1, tokens=TOKENS)
    except (RuntimeError, OSError, asyncio.TimeoutError) as error:
        print(f"{server.name}: {error!r}\n{server.log.read_text(errors='replace')[-2_000:]}", file=sys.stderr)
        server.close()
        return False
    print(f"{server.name}: begins {warm.texts[0][:60]!r}", flush=True)
    server.pause()
    return True


def _loads(alive: list[Server], words: list[str], plan: argparse.Namespace) -> dict[tuple[str, int], list[Load]]:
    """All rounds of each server and number of clients."""
    loads: dict[tuple[str, int], list[Load]] = defaultdict(list)
    for number in range(plan.rounds):
        for clients in plan.clients:
            asked = prompts(max(8, clients * plan.requests), words, WORDS, seed=100 * number + clients)
            for each in alive if number % 2 else reversed(alive):
                each.resume()
                time.sleep(PAUSE)
                load = measure(each.address, each.model, asked, clients=clients, tokens=TOKENS)
                each.pause()
                loads[each.name, clients].append(load)
                said = f"{load.rate:.2f} requests/s, first token {1e3 * load.first_token(50):.0f} ms"
                print(f"{each.name}, {clients} clients: {said}", flush=True)
    return dict(sorted(loads.items(), key=lambda item: (item[0][1], item[0][0])))


def _rows(name: str, clients: int, loads: list[Load]) -> list[Row]:
    work = f"{clients} client{'s' if clients > 1 else ''}"
    rows = [_row(work, name, statistics.median(each.rate for each in loads), "requests/s")]
    for percent in (50, 95):
        value = 1e3 * statistics.median(each.first_token(percent) for each in loads)
        rows.append(_row(f"{work}, first token, p{percent}", name, value, "ms"))
    return rows


def _row(work: str, system: str, value: float, unit: str) -> Row:
    return {"work": work, "system": system, "precision": "float32", "value": value, "unit": unit}


def _ratios(loads: dict[tuple[str, int], list[Load]], names: list[str]) -> dict[str, float]:
    """Requests per second of ours to those of each other, round by round; the median."""
    ours, *others = names
    ratios = {}
    for name, clients in loads:
        if name in others and (ours, clients) in loads:
            pairs = zip(loads[ours, clients], loads[name, clients], strict=True)
            ratios[f"requests/s, {clients} clients, {name}"] = statistics.median(a.rate / b.rate for a, b in pairs)
    return ratios


if __name__ == "__main__":
    main()
