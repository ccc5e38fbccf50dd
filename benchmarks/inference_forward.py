"""How fast is one forward pass: our model and transformers' with the very same weights, family by family.

    python -m benchmarks.inference_forward [--families LlamaForCausalLM ...] [--rounds 7] [--tiny] [--json]

A model of each family is made by transformers with random weights, saved, and imported as `clearhead import` does. Both
read the same batch without padding, all logits are computed, and the two take turns. Decoders also continue a text by
one token, with a cache on both sides. Logits must be equal before anything is timed.

Whatever else the machine does slows both of two neighbouring passes. So a ratio is the median of the ratios of pairs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.report import Row, publish
from clearhead.bundle.exchange import import_model
from clearhead.generate import DenseCache
from clearhead.model import OPEN, Transformer

FULL = {"width": 512, "inner": 2048, "layers": 6, "heads": 8, "vocab": 16_000}
TINY = {"width": 16, "inner": 24, "layers": 1, "heads": 2, "vocab": 23}
SHAPES = {"1 x 32": (1, 32), "8 x 128": (8, 128), "1 x 512": (1, 512)}  # rows x tokens
PATIENCE, MOST = 1.5, 200  # seconds that a work is repeated for, and the most times
COMMON = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "inner",
}
WORDS = {**COMMON, "vocab_size": "vocab"}
PAIRED = {
    "d_model": "width",
    "vocab_size": "vocab",
    **{f"{side}_layers": "layers" for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": "heads" for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": "inner" for side in ("encoder", "decoder")},
}
FAMILIES = {  # their name of a setting -> our size
    "BertForMaskedLM": WORDS,
    "RoFormerForMaskedLM": WORDS,
    "GPT2LMHeadModel": {"n_embd": "width", "n_layer": "layers", "n_head": "heads", "vocab_size": "vocab"},
    "LlamaForCausalLM": WORDS,
    "MistralForCausalLM": {**WORDS, "num_key_value_heads": "heads"},
    "Qwen2ForCausalLM": {**WORDS, "num_key_value_heads": "heads"},
    "T5ForConditionalGeneration": {
        "d_model": "width",
        "d_ff": "inner",
        "num_layers": "layers",
        "num_heads": "heads",
        "vocab_size": "vocab",
    },
    "BartForConditionalGeneration": PAIRED,
    "MarianMTModel": PAIRED,
    "ViTForImageClassification": COMMON,
}
LIMITS = {  # what must fit together besides
    "MarianMTModel": lambda sizes: {"pad_token_id": sizes["vocab"] - 1, "decoder_start_token_id": sizes["vocab"] - 1},
    "T5ForConditionalGeneration": lambda sizes: {"d_kv": sizes["width"] // sizes["heads"]},
    "ViTForImageClassification": lambda sizes: {"image_size": 32, "patch_size": 4},
}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="toy sizes, only to see that it runs; nothing is published")
    parser.add_argument("--json", action="store_true", help="kept for uniformity: the last line is always JSON")
    plan = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    for family in plan.families:
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = pair(family, TINY if plan.tiny else FULL, Path(folder))
        found = []
        for work, runs in works(ours, theirs).items():
            seconds = alternate(runs, plan.rounds)
            rows += [row(f"{family}, {work}", system, statistics.median(each)) for system, each in seconds.items()]
            pairs = zip(seconds["transformers"], seconds["clearhead"], strict=True)
            found.append(statistics.median(theirs / ours for theirs, ours in pairs))
            ratios[f"{family}, {work}"] = found[-1]
        ratios[f"{family}, geometric mean"] = statistics.geometric_mean(found)
    if plan.tiny:
        print(f"{len(rows)} rows, all logits equal")
        return
    publish("One forward pass, the same weights", "python -m benchmarks.inference_forward", rows, ratios)


def pair(family: str, sizes: dict[str, int], folder: Path) -> tuple[Any, Transformer]:
    """Their model with random weights, and ours with the same."""
    kind = getattr(transformers, family)
    settings = {theirs: sizes[ours] for theirs, ours in FAMILIES[family].items()}
    settings |= IDS | LIMITS.get(family, lambda sizes: {})(sizes)
    torch.manual_seed(0)
    model = kind(kind.config_class(**settings)).eval()
    model.save_pretrained(folder)
    return model, import_model(folder).bundle.model.eval()


def batches(model: Transformer) -> dict[str, Tensor]:
    """What both read: ids without padding, or pictures."""
    config = model.config
    if config.encoder_layers and model.encoder.embedding.reads != "tokens":
        return {f"{rows} pictures": torch.randn(rows, 3, 32, 32) for rows in (1, 8)}
    vocab = min(each for each in (config.source_vocab, config.target_vocab) if each)
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randint(3, vocab - 1, shape, generator=generator) for name, shape in SHAPES.items()}


Runs = dict[str, Callable[[], Tensor]]  # system -> what it does


def works(ours: Transformer, theirs: Any) -> dict[str, Runs]:
    """Whole passes, and for a decoder one more token."""
    found: dict[str, Runs] = {
        name: {
            "clearhead": lambda batch=batch: our_logits(ours, batch),  # type: ignore[misc]
            "transformers": lambda batch=batch: their_logits(ours, theirs, batch),  # type: ignore[misc]
        }
        for name, batch in batches(ours).items()
    }
    if ours.config.decoder_layers:
        text = batches(ours)["1 x 32"]
        steps = {"clearhead": our_steps(ours, text), "transformers": their_steps(ours, theirs, text)}
        found["1 token after 32"] = steps
    return found


@torch.inference_mode()
def alternate(runs: Runs, rounds: int) -> dict[str, list[float]]:
    """Seconds of each pass, neighbours in pairs; refuses to time what is not equal."""
    torch.testing.assert_close(runs["clearhead"](), runs["transformers"](), rtol=1e-3, atol=1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for turn in range(MOST):
        if turn >= rounds and time.perf_counter() - begin > PATIENCE:
            break
        for name in sorted(runs, reverse=turn % 2 == 1):  # who begins must not matter
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


@torch.inference_mode()
def our_steps(model: Transformer, text: Tensor) -> Callable[[], Tensor]:
    """Each call reads one token more and gives its logits."""
    memory = model.encode(text) if model.config.encoder_layers else None
    cache, places = DenseCache(model.config.decoder_layers), count(text.shape[1])
    model.decode(text, memory, positions=torch.arange(text.shape[1])[None], cache=cache)

    def step() -> Tensor:
        place = torch.full((1, 1), next(places))
        return model.logits(model.decode(text[:, :1], memory, positions=place, mask=OPEN, cache=cache))

    return step


@torch.inference_mode()
def their_steps(ours: Transformer, theirs: Any, text: Tensor) -> Callable[[], Tensor]:
    """The same of their model, with the cache that it makes itself."""
    read = "decoder_input_ids" if ours.config.encoder_layers else "input_ids"
    memory = {"encoder_outputs": theirs.get_encoder()(input_ids=text)} if ours.config.encoder_layers else {}
    cache = theirs(**memory, **{read: text}, use_cache=True).past_key_values

    def step() -> Tensor:
        logits: Tensor = theirs(**memory, **{read: text[:, :1]}, past_key_values=cache, use_cache=True).logits
        return logits

    return step


def our_logits(model: Transformer, batch: Tensor) -> Tensor:
    """An encoder-decoder reads the batch on both sides."""
    encoder, decoder = model.config.encoder_layers, model.config.decoder_layers
    return model.logits(model(batch if encoder else None, batch if decoder else None))


def their_logits(ours: Transformer, theirs: Any, batch: Tensor) -> Tensor:
    """The same of their model, without its cache, which ours does not fill either."""
    config = ours.config
    if batch.dtype != torch.int64:
        return theirs(pixel_values=batch).logits
    if config.kind == "encoder-decoder":
        return theirs(input_ids=batch, decoder_input_ids=batch, use_cache=False).logits
    cache = {"use_cache": False} if config.kind == "decoder-only" else {}
    return theirs(input_ids=batch, **cache).logits


def row(work: str, system: str, seconds: float) -> Row:
    """One line of the table."""
    return {"work": work, "system": system, "precision": "float32", "value": seconds, "unit": "s"}


if __name__ == "__main__":
    main()
