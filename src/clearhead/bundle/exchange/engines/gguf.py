"""GGUF: one file for llama.cpp and all that is built on it."""

from pathlib import Path
from typing import Any

import numpy as np

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.configs import obstacles, write_config
from clearhead.bundle.exchange.engines.base import FORMATS, Format, Verdict, library, refuse
from clearhead.bundle.exchange.engines.gguf_shapes import SHAPES, Shape
from clearhead.bundle.exchange.engines.gguf_tokenizer import ROLES, obstacle, vocabulary
from clearhead.bundle.exchange.engines.gguf_witness import verdict
from clearhead.bundle.exchange.weights import every_tensor
from clearhead.core.errors import BundleError
from clearhead.core.files import write_atomic
from clearhead.model import ModelConfig

FILE = "model.gguf"
REMEDY = "export to ctranslate2 or onnx, train with a config that it can say, or use the model with Clearhead"
NO_WORDS = "leave the tokenizer out with --no-tokenizer, or train with tokenizer: byte_bpe"
KINDS = {"float32": "F32", "float16": "F16", "int8": "Q8_0"}  # of matrices; vectors are always float32
FILES = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "int8": "MOSTLY_Q8_0"}


@FORMATS.register("gguf")
class Gguf(Format):
    """A folder with model.gguf."""

    title = "llama.cpp"
    quantizations = ("float32", "float16", "int8")
    writes_with = ("gguf",)
    runs_with = "llama_cpp"

    def require(self, bundle: Bundle, *, tokenizer: bool) -> None:
        name = nearest_shape(bundle.model.config)
        reasons = obstacles(SHAPES.get(name)(), bundle.model.config)
        refuse(f"{self.title} (nearest is its {name})", reasons, REMEDY)
        if tokenizer and bundle.tokenizers and (reason := obstacle(bundle.target)):
            raise BundleError(f"{self.title} cannot read texts as this model does: {reason}", remedy=NO_WORDS)

    def write(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> dict[str, Any]:
        name, words = nearest_shape(bundle.model.config), tokenizer and bool(bundle.tokenizers)
        writer = library("gguf").GGUFWriter(str(folder / FILE), name)
        _about(writer, bundle, SHAPES.get(name)(), quantization)
        (_speak if words else _silent)(writer, bundle)
        _put(writer, SHAPES.get(name)(), bundle, quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_atomic(folder / "README.md", _card(bundle))
        return {"architecture": name, "tokenizers": int(words)}

    def run(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> Verdict:
        return verdict(bundle, folder / FILE, words=tokenizer and bool(bundle.tokenizers))


def nearest_shape(config: ModelConfig) -> str:
    """The architecture that says a config, or the one with the fewest obstacles."""
    return min(SHAPES.names(), key=lambda name: len(obstacles(SHAPES.get(name)(), config)))


def _about(writer: Any, bundle: Bundle, shape: Shape, quantization: str) -> None:
    config = bundle.model.config
    writer.add_name(str(bundle.history.get("name", "A Clearhead model")))
    writer.add_file_type(library("gguf").LlamaFileType[FILES[quantization]])
    writer.add_vocab_size(config.target_vocab or config.source_vocab)
    for key, value in write_config(shape, config).items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"{writer.arch}.{key}", value)


def _speak(writer: Any, bundle: Bundle) -> None:
    """The tokenizer."""
    words = vocabulary(bundle.target, bundle.model.config.target_vocab or bundle.model.config.source_vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.cut)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    writer.add_token_merges(words.merges)
    writer.add_add_bos_token(False)  # noqa: FBT003 (theirs)
    for role, theirs in ROLES.items():
        if (index := getattr(bundle.target, role)) is not None:
            writer.add_uint32(f"tokenizer.ggml.{theirs}_token_id", index)


def _silent(writer: Any, bundle: Bundle) -> None:
    """No tokenizer: ids in, ids out."""
    writer.add_tokenizer_model("none")


def _put(writer: Any, shape: Shape, bundle: Bundle, quantization: str) -> None:
    """Every tensor, matrices in the wanted precision; what does not go into blocks of 32 in float16 instead."""
    package = library("gguf")
    for name, tensor in every_tensor(shape, bundle.model).items():
        values = tensor.float().cpu().numpy()
        wanted = KINDS[quantization] if values.ndim > 1 and name != "position_embd.weight" else "F32"
        wanted = "F16" if wanted == "Q8_0" and values.shape[-1] % 32 else wanted
        kind = package.GGMLQuantizationType[wanted]
        stored = values if wanted == "F32" else package.quants.quantize(values, kind)
        writer.add_tensor(name, np.ascontiguousarray(stored), raw_dtype=kind)


def _card(bundle: Bundle) -> str:
    title = bundle.history.get("name", "A Clearhead model")
    lines = [f"# {title}", "", "Exported by Clearhead for llama.cpp.", "", "```sh"]
    return "\n".join([*lines, f'llama-cli -m path/to/this/folder/{FILE} -no-cnv -p "..."', "```", ""])
