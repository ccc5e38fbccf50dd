"""Works of benchmarks.decoding for a server: texts come at random times, and those that are there are written together.

Against continuous batching of transformers (its manager, which is what its `generate_batch` runs), and llama.cpp with a
sequence for each text. Prompts have 8 to 48 tokens, answers 24 to 72; the first texts come alone, then they queue.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.decoding_continuations import VOCAB, both
from benchmarks.decoding_llama import LENGTH, ROWS, LlamaCpp
from benchmarks.decoding_work import System, Texts, Torch, Work, step_bytes
from clearhead.bundle.exchange.engines import export_to
from clearhead.generate.engine import Engine, EngineConfig
from clearhead.generate.request import Request
from clearhead.generate.sampling import SamplingConfig
from clearhead.generate.scheduler import Limits
from clearhead.model import Transformer
from clearhead.model.packing import packed

COUNT, GAP = 32, 0.04  # texts, and seconds between two of them on average
PAGE = 32  # tokens of a block of transformers
Arrival = dict[str, Any]  # at (seconds), prompt (tokens), new (how many tokens are written)


def works(folder: Path, *, tiny: bool) -> Iterator[Work]:
    """Texts that come at random."""
    theirs, bundle = both(folder, tiny=tiny)
    export_to(bundle, folder / "float32", "gguf", quantization="float32", check=False)
    coming = arrivals(4 if tiny else COUNT)
    systems: list[System] = [Ours(bundle.model, coming), Transformers(theirs, coming)]
    systems.append(LlamaCpp(folder / "float32/model.gguf", "float32", "serve", {"arrivals": coming}))
    tokens = sum(each["new"] for each in coming)
    length = sum(len(each["prompt"]) + each["new"] / 2 for each in coming) / len(coming)
    rows = min(ROWS, len(coming))
    step = step_bytes(bundle.model, rows, length)
    name = f"decoder-only 34 M, {len(coming)} texts come at random, {ROWS} streams"
    yield Work(name, systems, tokens, tokens / rows * step, step)  # as if all rows were always full


def arrivals(count: int) -> list[Arrival]:
    """A Poisson process, the same every time."""
    random = torch.Generator().manual_seed(3)
    gaps = torch.empty(count).exponential_(1 / GAP, generator=random)
    prompts = torch.randint(8, 49, (count,), generator=random).tolist()
    new = torch.randint(24, 73, (count,), generator=random).tolist()
    return [
        {"at": at, "prompt": torch.randint(3, VOCAB, (length,), generator=random).tolist(), "new": most}
        for at, length, most in zip(gaps.cumsum(0).tolist(), prompts, new, strict=True)
    ]


class Ours(Torch):
    """`clearhead.generate.Engine`."""

    name = "clearhead"

    def __init__(self, model: Transformer, coming: list[Arrival]) -> None:
        self.engine = Engine(packed(model), EngineConfig(limits=Limits(rows=ROWS), context=LENGTH))
        greedy = SamplingConfig(temperature=0.0)
        self.coming = [
            (each["at"], Request(prompt=each["prompt"], sampling=greedy, max_tokens=each["new"])) for each in coming
        ]

    def run(self) -> Texts:
        begin, waiting, records = time.perf_counter(), list(self.coming), []
        while waiting or self.engine.busy:
            now = time.perf_counter() - begin
            while waiting and waiting[0][0] <= now:
                records.append(self.engine.record(self.engine.submit(waiting.pop(0)[1])))
            if self.engine.busy:
                self.engine.step()
            else:
                time.sleep(max(0.0, waiting[0][0] - now))
        return [each.completions[0].tokens for each in records]


class Transformers(Torch):
    """The manager of continuous batching, in its own thread."""

    name = "transformers continuous batching"

    def __init__(self, model: Any, coming: list[Arrival]) -> None:
        self.model, self.coming, self.manager = model, coming, None

    def wake(self) -> None:
        """Start a manager, with the number of threads that it keeps, and let it answer once."""
        super().wake()
        self.rest()
        config = transformers.ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=ROWS * LENGTH // PAGE, max_batch_tokens=512, max_requests_per_batch=ROWS
        )
        settings = transformers.GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        self.manager = self.model.init_continuous_batching(settings, config)
        self.manager.start()
        self.manager.add_request([3, 4, 5], max_new_tokens=4)
        while self.manager.get_result(timeout=1) is None:
            assert self.manager.is_running(), "the manager has died"

    def run(self) -> Texts:
        if self.manager is None:
            self.wake()
        begin, names = time.perf_counter(), []
        for each in self.coming:
            time.sleep(max(0.0, begin + each["at"] - time.perf_counter()))
            names.append(self.manager.add_request(each["prompt"], max_new_tokens=each["new"]))
        found: dict[str, list[int]] = {}
        while len(found) < len(names):
            answer = self.manager.get_result(timeout=1)
            assert self.manager.is_running(), "the manager has died"
            if answer is not None:
                found[answer.request_id] = answer.generated_tokens
        return [found[name] for name in names]

    def rest(self) -> None:
        """End the thread, which would wait busily."""
        if self.manager is not None:
            self.manager.stop()
            self.manager = None

    def __del__(self) -> None:
        self.rest()
