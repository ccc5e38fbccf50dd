"""Works of benchmarks.decoding for an encoder-decoder: Marian, its import, and its export to CTranslate2."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ctranslate2
import torch
import transformers

from benchmarks.decoding_work import PRODUCTS, System, Texts, Torch, Work, step_bytes
from clearhead.bundle.exchange import import_model
from clearhead.bundle.exchange.engines import export_to
from clearhead.core.registry import Choice
from clearhead.generate import SearchConfig, search
from clearhead.model import Transformer
from clearhead.model.packing import packed

SMALL = {"d_model": 256, "layers": 3, "heads": 4, "vocab_size": 8_000}
LARGE = {"d_model": 512, "layers": 6, "heads": 8, "vocab_size": 8_000}
TINY = {"d_model": 16, "layers": 1, "heads": 2, "vocab_size": 40}
SOURCE, TARGET, EOS = 20, 32, 2
NEVER = -1e3  # bias of a word that nobody may choose
ALONE = 3  # texts of a run that are written one after another
SHAPES = {  # name -> beams, texts at a time, texts
    "greedy, batch 1": (1, 1, ALONE),
    "greedy, batch 32": (1, 32, 32),
    "beam 4, batch 1": (4, 1, ALONE),
    "beam 4, batch 32": (4, 32, 32),
}


def small(folder: Path, *, tiny: bool) -> Iterator[Work]:
    """d256, 3+3 layers."""
    return _works("d256 3+3", TINY if tiny else SMALL, folder)


def large(folder: Path, *, tiny: bool) -> Iterator[Work]:
    """d512, 6+6 layers."""
    return _works("d512 6+6", TINY if tiny else LARGE, folder)


def _works(name: str, sizes: dict[str, int], folder: Path) -> Iterator[Work]:
    theirs = _made(sizes)
    theirs.save_pretrained(folder / "theirs")
    bundle = import_model(folder / "theirs").bundle
    model, begin = bundle.model.eval(), theirs.config.decoder_start_token_id
    ours = {precision: packed(model, Choice(kind=kind)) for precision, kind in PRODUCTS.items()}
    for quantization in PRODUCTS:
        export_to(bundle, folder / quantization, "ctranslate2", quantization=quantization, check=False)
    for shape, (beams, batch, count) in SHAPES.items():
        torch.manual_seed(1)
        texts = [[*each, EOS] for each in torch.randint(3, sizes["vocab_size"] - 1, (count, SOURCE - 1)).tolist()]
        batches = [texts[at : at + batch] for at in range(0, count, batch)]
        systems: list[System] = [Ours(each, precision, batches, beams, begin) for precision, each in ours.items()]
        systems += [CTranslate2(folder / each, each, batches, beams) for each in PRODUCTS]
        systems.append(Transformers(theirs, batches, beams))
        step = step_bytes(model, batch * beams, TARGET / 2, SOURCE, batch)
        read = len(batches) * (_source_bytes(model) + TARGET * step)
        yield Work(f"{name}, {shape}", systems, count * TARGET, read, step, exact=beams == 1)


def _made(sizes: dict[str, int]) -> Any:
    """A MarianMTModel with random weights that never ends a text."""
    torch.manual_seed(0)
    sides = {f"{side}_{name}": sizes[name] for side in ("encoder", "decoder") for name in ("layers",)}
    sides |= {f"{side}_attention_heads": sizes["heads"] for side in ("encoder", "decoder")}
    sides |= {f"{side}_ffn_dim": 4 * sizes["d_model"] for side in ("encoder", "decoder")}
    pad = sizes["vocab_size"] - 1
    ids = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": EOS, "bos_token_id": 1}
    config = transformers.MarianConfig(
        d_model=sizes["d_model"],
        vocab_size=sizes["vocab_size"],
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=64,
        forced_eos_token_id=None,
        **sides,
        **ids,
    )
    model = transformers.MarianMTModel(config).eval()
    model.final_logits_bias[0, [EOS, pad]] = NEVER
    return model


def _source_bytes(model: Transformer) -> float:
    """Bytes of weights that are read once for each batch: the encoder, and keys and values of the source."""
    encoder = sum(each.numel() for each in model.encoder.parameters() if each is not model.output)
    return (encoder + model.config.decoder_layers * 2 * model.config.d_model**2) * model.output.element_size()


class Ours(Torch):
    """`clearhead.generate.search`."""

    name = "clearhead"

    def __init__(self, model: Transformer, precision: str, batches: list[Texts], beams: int, begin: int) -> None:
        self.model, self.precision, self.batches, self.begin = model, precision, batches, begin
        self.config = SearchConfig(beams=beams, max_tokens=TARGET)

    def run(self) -> Texts:
        found = [search(self.model, each, self.config, bos=self.begin, eos=EOS) for each in self.batches]
        return [hypotheses[0].tokens for batch in found for hypotheses in batch]


class CTranslate2(System):
    """`ctranslate2.Translator`."""

    name = "CTranslate2"

    def __init__(self, folder: Path, precision: str, batches: list[Texts], beams: int) -> None:
        self.folder, self.precision, self.beams = folder, precision, beams
        names = json.loads((folder / "shared_vocabulary.json").read_text(encoding="utf-8"))
        cut = -1 if json.loads((folder / "config.json").read_text(encoding="utf-8"))["add_source_eos"] else None
        self.batches = [[[names[token] for token in text[:cut]] for text in batch] for batch in batches]
        self.ids = {each: index for index, each in enumerate(names)}
        self.engine: Any = None
        self.threads = 1

    def use(self, threads: int) -> None:
        self.threads = threads
        self.rest()

    def wake(self) -> None:
        """Load it."""
        if self.engine is None:
            model, options = str(self.folder), {"compute_type": self.precision, "intra_threads": self.threads}
            self.engine = ctranslate2.Translator(model, **options)

    def rest(self) -> None:
        """End its threads: with more of them than cores OpenMP stops spinning, and everybody's barriers are slow."""
        self.engine = None

    def run(self) -> Texts:
        self.wake()
        options = {"beam_size": self.beams, "max_decoding_length": TARGET, "min_decoding_length": TARGET}
        found = [self.engine.translate_batch(each, **options) for each in self.batches]
        return [[self.ids[token] for token in each.hypotheses[0]] for batch in found for each in batch]


class Transformers(Torch):
    """`MarianMTModel.generate`."""

    name = "transformers"

    def __init__(self, model: Any, batches: list[Texts], beams: int) -> None:
        self.model, self.batches, self.beams = model, [torch.tensor(each) for each in batches], beams

    @torch.inference_mode()
    def run(self) -> Texts:
        options = {"num_beams": self.beams, "do_sample": False, "max_new_tokens": TARGET, "early_stopping": False}
        found = [
            self.model.generate(each, attention_mask=torch.ones_like(each), **options)[:, 1:].tolist()
            for each in self.batches
        ]
        return [text for batch in found for text in batch]
