"""The page of a run: what was trained, how it went, what it scores, what it writes and where it looks.

One file without a single request to anything outside it; it can be mailed, and opened in twenty years.
"""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
import torch
from torch import Tensor

from clearhead.bundle import Bundle
from clearhead.core.errors import CheckpointError, DataError
from clearhead.core.files import read_text, write_atomic
from clearhead.core.machine import processor
from clearhead.core.progress import clock, say
from clearhead.core.recipe import read_recipe
from clearhead.data.sources import SOURCES, Pair
from clearhead.generate import SearchConfig, search_all
from clearhead.model.recorder import recording
from clearhead.text.readable import Piece, readable
from clearhead.train.metrics import read_lines
from clearhead.train.pictures import Chart, Curve, Picture, chart, heat
from clearhead.train.recipe import Recipe

SAMPLES = 10  # sentences translated on the page
MAPS = 3  # of them shown with their attention
LONGEST = 32  # tokens of a side in a map

Lines = Sequence[Mapping[str, Any]]  # of metrics.jsonl


def write_report(out: Path, bundle: Bundle, pairs: Sequence[Pair] = (), recipe: str = "") -> Path:
    """Write `report.html` into a run folder, from its metrics.jsonl and the model.

    Args:
        out: the run folder.
        bundle: the trained model with its history; in eval mode.
        pairs: sentences the model has not learned from, of which ten, evenly spread, are translated.
        recipe: the recipe as text.

    Returns:
        The path of the page.
    """
    record = out / "metrics.jsonl"
    lines = read_lines(record) if record.exists() else []
    samples = translated(bundle, spread(pairs, SAMPLES))
    page = _template().render(
        name=str(bundle.history.get("name", out.name)),
        facts=facts(bundle, lines),
        scores=scores(bundle.history),
        signatures=signatures(bundle.history),
        charts=list(charts(lines)),
        samples=samples,
        layer=alignment_layer(bundle) + 1,
        maps=[attention_map(bundle, each) for each in _mapped(samples)],
        search=bundle.search,
        recipe=recipe,
        machine=machine(bundle),
    )
    path = out / "report.html"
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def report_of(folder: Path) -> Path:
    """Write the page of a finished run anew, with samples from its test set, or from its validation set.

    Where the corpus is no longer in its place, the page has no samples, and a line on standard error says so.
    """
    bundle, path = Bundle.load(folder), folder / "recipe.yaml"
    recipe = read_recipe(path, [], Recipe)
    pairs: list[Pair] = []
    if bundle.model.config.kind != "encoder-decoder":  # its data are no pairs
        return write_report(folder, bundle, pairs, read_text(path, CheckpointError))
    try:
        pairs = list(SOURCES.build(recipe.data.test or recipe.data.valid, Path(recipe.data.folder)))
    except DataError as error:
        say(f"a report without sample translations: {error}")
    return write_report(folder, bundle, pairs, read_text(path, CheckpointError))


def _template() -> jinja2.Template:
    text = resources.files("clearhead.train").joinpath("report.html").read_text(encoding="utf-8")
    space = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return space.from_string(text)


# --- numbers ---


def facts(bundle: Bundle, lines: Lines) -> dict[str, str]:
    """What stands at the head of the page."""
    config, history = bundle.model.config, bundle.history
    layers = " + ".join(str(each) for each in (config.encoder_layers, config.decoder_layers) if each)
    vocabularies = {bundle.source.vocab_size, bundle.target.vocab_size}
    shared = " shared" if bundle.source is bundle.target else ""
    found = {
        "Model": f"{config.kind}, {layers} layers, d_model {config.d_model}, {config.heads} heads, d_ff {config.d_ff}",
        "Parameters": f"{sum(each.numel() for each in bundle.model.parameters()):,}",
        "Vocabulary": " and ".join(f"{each:,}" for each in sorted(vocabularies)) + f" tokens{shared}",
    }
    if "updates" in history:
        found["Updates"] = f"{history['updates']:,}"
    if "training_seconds" in history:
        found["Training time"] = clock(history["training_seconds"])
    speeds = [each["tokens_per_second"] for each in lines if "tokens_per_second" in each]
    if speeds:
        found["Speed"] = f"{speeds[-1]:,.0f} target tokens per second"
    if "weights" in history:
        found["Weights"] = str(history["weights"])
    return found


SCORES = {  # key of the history without its set -> name, digits after the point
    "bleu": ("BLEU", 2),
    "chrf": ("chrF", 2),
    "bleu_tokenized_lowercased": ("BLEU, lower-cased and tokenised", 2),
    "loss": ("Loss (nats per token)", 4),
    "perplexity": ("Perplexity", 3),
    "bits_per_byte": ("Bits per byte", 4),
    "accuracy": ("Accuracy", 4),
    "macro_f1": ("F1, mean over classes", 4),
}
SETS = ("valid", "test")


def scores(history: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Name of a score -> set -> its value as text; only scores and sets that the run has."""
    sets = [each for each in SETS if any(key.startswith(f"{each}_") for key in history)]
    rows: dict[str, dict[str, str]] = {}
    for key, (name, digits) in SCORES.items():
        found = {each: history.get(f"{each}_{key}") for each in sets}
        if any(value is not None for value in found.values()):
            rows[name] = {each: "–" if value is None else f"{value:.{digits}f}" for each, value in found.items()}
    return rows


def signatures(history: Mapping[str, Any]) -> list[str]:
    """How BLEU was computed, once if it is the same for both sets."""
    return list(dict.fromkeys(str(value) for key, value in history.items() if key.endswith("bleu_signature")))


def charts(lines: Lines) -> Iterator[Chart]:
    """The curves that the metrics hold."""
    plain, smoothed = _curve(lines, "train", "nll", "training"), _curve(lines, "train", "loss", "training")
    if plain and smoothed and list(plain.values) != list(smoothed.values):
        smoothed = Curve("training, smoothed labels", smoothed.updates, smoothed.values, 2, ":")
    else:
        smoothed = None if plain else smoothed
    valid = _curve(lines, "valid", "loss", "validation", colour=1, dashes="--", marker="o")
    if losses := [each for each in (plain, smoothed, valid) if each]:
        yield chart("Loss", "loss (nats per token)", losses)
    if bleu := _curve(lines, "valid", "bleu", "validation", colour=1, marker="o"):
        yield chart("BLEU on validation sentences, greedy search", "BLEU (0 to 100)", [bleu], mark_best=True)
    if rate := _curve(lines, "train", "learning_rate", "learning rate"):
        yield chart("Learning rate", "learning rate", [rate])
    if norm := _curve(lines, "train", "gradient_norm", "gradient norm"):
        yield chart("Gradient norm before clipping", "gradient norm (nats per token)", [norm])


def _curve(
    lines: Lines, kind: str, name: str, label: str, *, colour: int = 0, dashes: str = "-", marker: str = ""
) -> Curve | None:
    found = [each for each in lines if each["kind"] == kind and name in each]
    updates, values = [each["update"] for each in found], [each[name] for each in found]
    return Curve(label, updates, values, colour, dashes, marker) if found else None


def machine(bundle: Bundle) -> dict[str, str]:
    """What this page was made with."""
    device = bundle.model.output.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {
        "Clearhead": metadata.version("clearhead"),
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "System": f"{platform.system()} {platform.machine()}",
        "Processor": f"{processor()}, {os.cpu_count()} cores",
        "Device": name,
        "Threads": str(torch.get_num_threads()),
    }


# --- translations and where they look ---


@dataclass(frozen=True)
class Sample:
    """A pair and what the model makes of its source."""

    pair: Pair
    source: list[int]  # ids, end of sentence included
    tokens: list[int]  # ids of the output
    output: str


@dataclass(frozen=True)
class AttentionMap:
    """Cross-attention while one sentence was written."""

    sample: Sample
    source: list[Piece]
    output: list[Piece]
    weights: list[list[float]]  # of one layer, mean over its heads; (output, source)
    heads: list[Picture]
    layers: list[Picture]
    cut: bool  # only the first tokens are shown


def spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """So many pairs from all over the set, or all if there are fewer."""
    return [pairs[index * len(pairs) // count] for index in range(count)] if len(pairs) > count else list(pairs)


def translated(bundle: Bundle, pairs: Sequence[Pair]) -> list[Sample]:
    """The pairs with the model's translations; none for a model that does not translate."""
    if bundle.model.config.kind != "encoder-decoder":
        return []
    eos = bundle.source.need("eos")
    sources = [[*ids, eos] for ids in bundle.source.encode_batch([each.source for each in pairs])]
    config = SearchConfig.model_validate(bundle.search)
    begin, end = bundle.target.need("bos"), bundle.target.need("eos")
    best = [found[0].tokens for found in search_all(bundle.model, sources, config, bos=begin, eos=end)]
    outputs = bundle.target.decode_batch(best)
    return [Sample(*each) for each in zip(pairs, sources, best, outputs, strict=True)]


def _mapped(samples: Sequence[Sample]) -> list[Sample]:
    """The first ones that fit, and if too few do, those that exceed the least."""

    def excess(sample: Sample) -> int:
        return max(0, len(sample.source) - LONGEST) + max(0, len(sample.tokens) - LONGEST)

    return sorted((each for each in samples if each.tokens), key=excess)[:MAPS]


def attention_map(bundle: Bundle, sample: Sample) -> AttentionMap:
    """What each output token looked at when it was chosen."""
    source, tokens = sample.source[:LONGEST], sample.tokens[:LONGEST]
    layers = [each[:, : len(tokens), : len(source)] for each in _cross_attention(bundle, sample)]
    chosen = layers[alignment_layer(bundle)]  # (heads, output, source)
    return AttentionMap(
        sample,
        readable(bundle.source, source),
        readable(bundle.target, tokens),
        chosen.mean(dim=0).tolist(),
        [heat(f"head {number}", each) for number, each in enumerate(chosen, 1)],
        [heat(f"layer {number}", each.mean(dim=0)) for number, each in enumerate(layers, 1)],
        cut=len(source) < len(sample.source) or len(tokens) < len(sample.tokens),
    )


def _cross_attention(bundle: Bundle, sample: Sample) -> list[Tensor]:
    """The weights of each decoder layer, (heads, output, source)."""
    model = bundle.model
    source = torch.tensor([sample.source], device=model.output.device)
    read = torch.tensor([[bundle.target.need("bos"), *sample.tokens[:-1]]], device=model.output.device)
    with torch.inference_mode(), recording(model) as record:
        model.decode(read, model.encode(source))
    return [record[f"decoder.blocks.{index}.cross"][0].float().cpu() for index in range(model.config.decoder_layers)]


def alignment_layer(bundle: Bundle) -> int:
    """The last decoder layer but one: there attention comes closest to an alignment.

    Source: Garg et al., 2019, arXiv:1909.02074.
    """
    return max(0, bundle.model.config.decoder_layers - 2)
