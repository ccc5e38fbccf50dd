"""llama.cpp for benchmarks.decoding: the system, and the process that it runs in, so that its death is not ours.

Its own functions are called for every step, as its command line and its server do, without the layers of its Python
class. Many texts at a time are sequences of one batch, which is what the slots of its server are.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoding_work import System, Texts

ROWS, LENGTH, BATCH = 16, 256, 512  # sequences at a time, tokens of each, tokens of a step


class LlamaCpp(System):
    """llama.cpp with a file of weights, in a process that answers one line of JSON with another."""

    def __init__(self, path: Path, precision: str, command: str, question: dict[str, Any]) -> None:
        self.path, self.precision = path, precision
        self.question = {"command": command, **question}
        self.repacked, self.child, self.threads = True, None, 1
        self.rows = ROWS if command == "serve" else 1
        self.name = f"llama.cpp, {ROWS} sequences in a batch" if self.rows > 1 else "llama.cpp"

    def use(self, threads: int) -> None:
        self.threads = threads
        self._start()
        try:
            self.run()
        except BrokenPipeError:  # it died
            self.repacked, self.note = False, " (use_extra_bufts off: it dies here with it)"
            self._start()

    def run(self) -> Texts:
        assert self.child is not None
        print(json.dumps(self.question), file=self.child.stdin, flush=True)
        answer = self.child.stdout.readline()
        if not answer:
            raise BrokenPipeError
        texts: Texts = json.loads(answer)
        return texts

    def _start(self) -> None:
        self.close()
        about = {"path": str(self.path), "repacked": self.repacked, "threads": self.threads}
        about |= {"rows": self.rows, "exact": self.precision == "float32"}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decoding_llama", json.dumps(about)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        if self.child is not None:
            self.child.stdin.close()
            self.child.wait()

    def __del__(self) -> None:
        self.close()


class Child:
    """The model, its memory, and a batch."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.api = api = import_module("llama_cpp.llama_cpp")
        api.llama_backend_init()
        settings = api.llama_model_default_params()
        settings.use_extra_bufts = about["repacked"]
        self.model = api.llama_model_load_from_file(about["path"].encode(), settings)
        self.vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        around = api.llama_context_default_params()
        around.n_ctx, around.n_seq_max, around.n_batch = about["rows"] * LENGTH, about["rows"], BATCH
        around.n_threads = around.n_threads_batch = about["threads"]
        if about["exact"]:
            around.type_k = around.type_v = 0  # float32, as ours
        self.context = api.llama_init_from_model(self.model, around)
        self.memory = api.llama_get_memory(self.context)
        self.batch = api.llama_batch_init(BATCH, 0, 1)

    def step(self, parts: Sequence[tuple[int, int, list[int]]]) -> list[int]:
        """Read parts (sequence, first position, tokens); the likeliest next token of each."""
        ends, place = [], 0
        for sequence, first, tokens in parts:
            for offset, token in enumerate(tokens):
                self.batch.token[place], self.batch.pos[place] = token, first + offset
                self.batch.n_seq_id[place], self.batch.seq_id[place][0] = 1, sequence
                self.batch.logits[place] = offset == len(tokens) - 1
                place += 1
            ends.append(place - 1)
        self.batch.n_tokens = place
        assert self.api.llama_decode(self.context, self.batch) == 0
        return [self._likeliest(end) for end in ends]

    def _likeliest(self, place: int) -> int:
        logits = self.api.llama_get_logits_ith(self.context, place)
        return int(np.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def write(self, prompt: list[int], new: int) -> Texts:
        """One text."""
        self.api.llama_memory_clear(self.memory, False)  # noqa: FBT003 (theirs)
        written = self.step([(0, 0, prompt)])
        while len(written) < new:
            written += self.step([(0, len(prompt) + len(written) - 1, written[-1:])])
        return [written]

    def serve(self, arrivals: list[dict[str, Any]]) -> Texts:
        """Texts that come while others are written; each step reads all prompts that have come, up to a full batch."""
        self.api.llama_memory_clear(self.memory, False)  # noqa: FBT003 (theirs)
        begin, waiting = time.perf_counter(), list(enumerate(arrivals))
        free, running = list(range(ROWS)), dict[int, int]()  # text -> sequence
        written: Texts = [[] for _ in arrivals]
        while waiting or running:
            now = time.perf_counter() - begin
            growing = list(running)
            room = BATCH - len(growing)
            parts = []
            for text in growing:
                parts.append(
                    (running[text], len(arrivals[text]["prompt"]) + len(written[text]) - 1, written[text][-1:])
                )
            while waiting and free and waiting[0][1]["at"] <= now and len(waiting[0][1]["prompt"]) <= room:
                text, told = waiting.pop(0)
                running[text] = free.pop()
                room -= len(told["prompt"])
                parts.append((running[text], 0, told["prompt"]))
            if not parts:
                time.sleep(max(0.0, waiting[0][1]["at"] - now))
                continue
            for text, token in zip(list(running), self.step(parts), strict=True):
                written[text].append(token)
                if len(written[text]) == arrivals[text]["new"]:
                    sequence = running.pop(text)
                    self.api.llama_memory_seq_rm(self.memory, sequence, -1, -1)
                    free.append(sequence)
        return written


def main() -> None:
    """Answer questions until there are no more."""
    child = Child(json.loads(sys.argv[1]))
    for line in sys.stdin:
        question = json.loads(line)
        command = question.pop("command")
        print(json.dumps(getattr(child, command)(**question)), flush=True)


if __name__ == "__main__":
    main()
