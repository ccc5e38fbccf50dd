"""Servers of benchmarks.serving, each in a process of its own, with the same weights."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from clearhead.bundle.exchange import import_model
from clearhead.bundle.exchange.engines import export_to
from clearhead.core.registry import Choice
from clearhead.text import Tokenizer, train_tokenizer

FULL = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
VOCAB, LENGTH = 16_000, 512
PATIENCE = 120.0  # seconds that a server may take to start


@dataclass
class Server:
    """A server that is started by a command; `{port}` in it is where it listens."""

    name: str
    command: list[str]
    model: str  # as requests name it
    log: Path
    health: str = "/health"
    address: str = ""
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    start: float = 0.0  # seconds until it answered

    def open(self) -> None:
        """Start it and wait until it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [each.format(port=port) for each in self.command]
        around = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        started = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=self.log.open("wb"), stderr=subprocess.STDOUT, env=around)
        while not self._answers():
            if self.process.poll() is not None or time.perf_counter() - started > PATIENCE:
                raise RuntimeError("it does not start")
            time.sleep(0.05)
        self.start = time.perf_counter() - started

    def pause(self) -> None:
        """Let it compute nothing while another one is asked: some wait busily."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.resume()
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def memory(self) -> float:
        """Resident memory, MiB."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.address + self.health, timeout=5).read()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


def servers(folder: Path, *, tiny: bool) -> tuple[list[Server], list[str]]:
    """Ours and the others, not started, and the words that their tokenizer knows."""
    words = _words()
    bundle = _bundle(folder, words, tiny=tiny)
    bundle.save(folder / "ours")
    export_to(bundle, folder / "hf", "hf", check=False)
    _without_bad_words(folder / "hf" / "generation_config.json")
    export_to(bundle, folder / "gguf", "gguf", quantization="float32", check=False)
    python, theirs = sys.executable, str(folder / "hf")
    ours = [python, "-m", "clearhead", "serve", str(folder / "ours"), "--port", "{port}"]
    serve = [str(Path(python).parent / "transformers"), "serve", theirs, "--device", "cpu", "--dtype", "float32"]
    serve += ["--host", "127.0.0.1", "--port", "{port}"]
    llama = [python, "-m", "llama_cpp.server", "--model", str(folder / "gguf" / "model.gguf"), "--n_ctx", str(LENGTH)]
    llama += ["--host", "127.0.0.1", "--port", "{port}", "--interrupt_requests", "False", "--verbose", "False"]
    llama += ["--n_threads", str(os.cpu_count()), "--n_threads_batch", str(os.cpu_count())]
    found = [
        Server("clearhead serve", ours, "ours", folder / "ours.log"),
        Server("transformers serve", serve, theirs, folder / "hf.log"),
        Server(
            "transformers serve --continuous-batching", [*serve, "--continuous-batching"], theirs, folder / "cb.log"
        ),
        Server("llama-cpp-python server", llama, "model", folder / "llama.log", health="/v1/models"),
    ]
    return found, words


def _words() -> list[str]:
    """Invented words, of which there are more than tokens."""
    draw = random.Random(3)
    return sorted({"".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 7))) for _ in range(30_000)})


def _bundle(folder: Path, words: list[str], *, tiny: bool) -> Any:
    """A Llama with random weights that never ends a text: the end's row of the tied table is zero."""
    tokenizer = train_tokenizer(
        Choice(kind="byte_bpe", options={"vocab_size": VOCAB, "min_frequency": 1}), [" ".join(words)]
    )
    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.need("eos"), "bos_token_id": tokenizer.need("bos"), "pad_token_id": tokenizer.pad}
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": LENGTH, "tie_word_embeddings": True}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(TINY if tiny else FULL), **sizes, **ids)).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight[sorted(_silent(tokenizer))] = 0.0
    model.save_pretrained(folder / "made")
    tokenizer.save(folder / "made")
    return import_model(folder / "made").bundle


def _without_bad_words(settings: Path) -> None:
    """Padding, which is never the likeliest here, need not be forbidden: their batching cannot do that."""
    told = json.loads(settings.read_text())
    told.pop("bad_words_ids", None)
    settings.write_text(json.dumps(told))


def _silent(tokenizer: Tokenizer) -> set[int]:
    """Tokens that write nothing, or only a part of a character; a stream of those would show nothing."""
    texts = tokenizer.decode_batch([[each] for each in range(VOCAB)])
    return {index for index, text in enumerate(texts) if not text.strip() or "\ufffd" in text}
