"""Does a server keep anything of the requests it has answered? Many of all kinds, a part of them abandoned.

    python -m benchmarks.serving_leak [--requests 10000] [--clients 16]

It tells the server's memory while it goes on, and at the end what is still held. The first tenth is warming up. Exit
status 1 if a block or a request is left, or if memory has grown by more than 5 % and 20 MiB since then.
"""

import argparse
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.serving_systems import Server
from clearhead.bundle import Bundle
from clearhead.model import ModelConfig, Transformer
from clearhead.text import train_tokenizer

LAYERS = {"writer": (0, 2), "translator": (1, 1), "reader": (2, 0)}
SAID = [{"role": "user", "content": "hello"}]
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"model": "writer", "prompt": "abc", "max_tokens": 6}),
    ("/v1/completions", {"model": "writer", "prompt": ["a", "b"], "max_tokens": 5, "n": 2, "logprobs": 2}),
    ("/v1/completions", {"model": "writer", "prompt": "a", "max_tokens": 30, "stream": True}),
    ("/v1/completions", {"model": "translator", "prompt": "ab", "max_tokens": 6, "temperature": 0}),
    ("/v1/chat/completions", {"model": "writer", "messages": SAID, "max_tokens": 8, "stop": "x"}),
    (
        "/v1/chat/completions",
        {"model": "writer", "messages": SAID, "response_format": {"type": "json_object"}, "max_tokens": 9},
    ),
    ("/translate", {"q": ["ab", "cd. Ef"], "alternatives": 1}),
    ("/v1/embeddings", {"model": "reader", "input": ["abc", "d"]}),
    ("/tokenize", {"model": "writer", "prompt": "abc"}),
    ("/v1/completions", {"model": "writer", "prompt": "a" * 900}),  # is refused
    ("/v1/completions", {"model": "nobody", "prompt": "a"}),  # likewise
]
LEAVES = 4  # every so many streams are left after their first line


def main() -> None:
    """Ask, and look at what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    plan = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = _server(Path(folder))
        server.open()
        try:
            memory = _asked(server, plan.requests, plan.clients)
            held = _held(server)
        finally:
            server.close()
    warm, last = memory[1], memory[-1]
    print(f"memory after a tenth {warm:.0f} MiB, at the end {last:.0f} MiB; held: {held or 'nothing'}")
    sys.exit(bool(held) or (last > 1.05 * warm and last > warm + 20))


def _server(folder: Path) -> Server:
    """Our server of one tiny model of each kind."""
    for name, (encoder, decoder) in LAYERS.items():
        torch.manual_seed(11)
        tokenizer = train_tokenizer("byte", ["irrelevant"])
        sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "d_model": 16, "heads": 2, "d_ff": 32}
        vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size, "pad": tokenizer.pad}
        model = Transformer(ModelConfig(**sizes, **vocab, length=300)).eval()
        Bundle(model, tokenizer, tokenizer, {"beams": 2}).save(folder / name)
    command = [sys.executable, "-m", "clearhead", "serve", *(str(folder / each) for each in LAYERS), "--port", "{port}"]
    return Server("clearhead serve", command, "writer", folder / "log")


def _asked(server: Server, requests: int, clients: int) -> list[float]:
    """MiB at the beginning and after each tenth."""
    memory, part = [server.memory], requests // 10
    with httpx.Client(base_url=server.address, timeout=60, limits=httpx.Limits(max_connections=clients)) as client:
        for tenth in range(10):
            started = time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(lambda number: _ask(client, number), range(tenth * part, (tenth + 1) * part)))
            memory.append(server.memory)
            rate = part / (time.perf_counter() - started)
            print(f"{(tenth + 1) * part:,} requests: {memory[-1]:.1f} MiB, {rate:.0f} requests/s", flush=True)
    return memory


def _ask(client: httpx.Client, number: int) -> None:
    path, content = KINDS[number % len(KINDS)]
    with client.stream("POST", path, json=content) as response:
        if response.status_code >= 500:
            raise RuntimeError(response.read().decode())
        if content.get("stream") and number // len(KINDS) % LEAVES == 0:
            lines = response.iter_lines()
            next(lines)
        else:
            response.read()


def _held(server: Server) -> dict[str, float]:
    """What the server says that it still holds, after it had time to let go."""
    for _ in range(100):
        text = urllib.request.urlopen(f"{server.address}/metrics").read().decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        numbers = {name: float(value) for name, value in pairs}
        names = ("clearhead_blocks_held", "clearhead_running", "clearhead_waiting", "clearhead_http_open")
        held = {name: value for name, value in numbers.items() if name.startswith(names) and value}
        if not held:
            break
        threading.Event().wait(0.1)
    return held


if __name__ == "__main__":
    main()
