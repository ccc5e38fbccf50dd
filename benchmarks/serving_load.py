"""Clients of benchmarks.serving: each asks for a completion as a stream, reads it to its end, and asks again."""

import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PATIENCE = 900.0  # seconds for all requests of a round


@dataclass
class Load:
    """What the clients have measured."""

    first: list[float] = field(default_factory=list)  # seconds from request to first text, of each request
    whole: list[float] = field(default_factory=list)  # seconds to the end
    texts: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of all together

    @property
    def rate(self) -> float:
        """Requests in a second."""
        return len(self.whole) / self.seconds

    def first_token(self, percent: int) -> float:
        """A percentile of the time to the first text."""
        return statistics.quantiles(self.first, n=100, method="inclusive")[percent - 1]


def prompts(count: int, words: list[str], length: int, seed: int = 7) -> list[str]:
    """Texts of some words each, no two alike."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=length)) for _ in range(count)]


def measure(address: str, model: str, asked: list[str], *, clients: int, tokens: int) -> Load:
    """Let so many clients share the prompts."""
    return asyncio.run(asyncio.wait_for(_measure(address, model, asked, clients, tokens), PATIENCE))


async def _measure(address: str, model: str, asked: list[str], clients: int, tokens: int) -> Load:
    load, left = Load(), iter(asked)
    started = time.perf_counter()

    async def client() -> None:
        for prompt in left:
            await _ask(address, {"model": model, "prompt": prompt, "max_tokens": tokens}, load)

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    return load


async def _ask(address: str, asked: dict[str, object], load: Load) -> None:
    """One request over a connection of its own."""
    place, body = urlsplit(address), json.dumps({**asked, "temperature": 0, "stream": True}).encode()
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    status = (await reader.readline()).decode()
    if " 200 " not in status:
        raise RuntimeError(f"{address}: {status.strip()}: {(await reader.read()).decode(errors='replace')[-300:]}")
    text, first = "", None
    async for line in reader:
        text += _text(line)
        if text and first is None:
            first = time.perf_counter() - started
    writer.close()
    if first is None:
        raise RuntimeError(f"{address}: an answer without a text")
    load.first.append(first)
    load.whole.append(time.perf_counter() - started)
    load.texts.append(text)


def _text(line: bytes) -> str:
    """The text that a line of a stream tells."""
    if not line.startswith(b"data: {"):
        return ""
    choices = json.loads(line[6:]).get("choices") or [{}]
    text: str = choices[0].get("text") or ""
    return text
