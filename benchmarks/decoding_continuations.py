"""Works of benchmarks.decoding for a decoder-only model of 34 M parameters, one text at a time: Llama, llama.cpp."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.decoding_llama import LlamaCpp
from benchmarks.decoding_work import PRODUCTS, System, Texts, Torch, Work, step_bytes
from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange import import_model
from clearhead.bundle.exchange.engines import export_to
from clearhead.core.registry import Choice
from clearhead.generate import SearchConfig, search
from clearhead.model import Transformer
from clearhead.model.packing import packed

FULL = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
VOCAB, LENGTH = 16_000, 256
PROMPT, NEW = 16, 64
NO_END = -1  # what ends a text: no token does


def works(folder: Path, *, tiny: bool) -> Iterator[Work]:
    """A prompt goes on."""
    theirs, bundle = both(folder, tiny=tiny)
    torch.manual_seed(1)
    prompt = torch.randint(3, VOCAB, (PROMPT,)).tolist()
    systems: list[System] = [Ours(bundle.model, each, prompt) for each in PRODUCTS]
    systems.append(Transformers(theirs, prompt))
    for precision in PRODUCTS:
        export_to(bundle, folder / precision, "gguf", quantization=precision, check=False)
        systems.append(LlamaCpp(folder / precision / "model.gguf", precision, "write", {"prompt": prompt, "new": NEW}))
    step = step_bytes(bundle.model, 1, PROMPT + NEW / 2)
    yield Work("decoder-only 34 M, batch 1", systems, NEW, NEW * step, step)


def both(folder: Path, *, tiny: bool) -> tuple[Any, Bundle]:
    """A LlamaForCausalLM with random weights, and ours with the same."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": LENGTH, "tie_word_embeddings": True}
    ids = {"eos_token_id": None, "bos_token_id": 1, "pad_token_id": 0}
    config = transformers.LlamaConfig(**(TINY if tiny else FULL), **sizes, **ids)
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder / "theirs")
    bundle = import_model(folder / "theirs").bundle
    bundle.model.eval()
    return model, bundle


class Ours(Torch):
    """`clearhead.generate.search`."""

    name = "clearhead"

    def __init__(self, model: Transformer, precision: str, prompt: list[int]) -> None:
        self.model, self.precision, self.prompt = packed(model, Choice(kind=PRODUCTS[precision])), precision, prompt
        self.config = SearchConfig(max_tokens=NEW)

    def run(self) -> Texts:
        return [search(self.model, [self.prompt], self.config, eos=NO_END)[0][0].tokens]


class Transformers(Torch):
    """`LlamaForCausalLM.generate`."""

    name = "transformers"

    def __init__(self, model: Any, prompt: list[int]) -> None:
        self.model, self.prompt = model, torch.tensor([prompt])

    @torch.inference_mode()
    def run(self) -> Texts:
        found = self.model.generate(
            self.prompt, attention_mask=torch.ones_like(self.prompt), do_sample=False, max_new_tokens=NEW
        )
        texts: Texts = found[:, PROMPT:].tolist()
        return texts
