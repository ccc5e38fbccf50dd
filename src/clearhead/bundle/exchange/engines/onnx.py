"""ONNX: graphs that onnxruntime and many other engines run; any model whose computation torch can write down."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.engines.base import FORMATS, Format, Verdict, library, refuse
from clearhead.bundle.exchange.engines.onnx_graphs import Graph, graphs
from clearhead.bundle.exchange.engines.onnx_witness import verdict
from clearhead.core.errors import BundleError
from clearhead.core.files import write_atomic, write_json

REMEDY = "train with a model whose parts ONNX can say, or use the model with Clearhead"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.float32}


@FORMATS.register("onnx")
class Onnx(Format):
    """A folder with encoder.onnx and decoder.onnx, as far as the model has them."""

    title = "ONNX"
    quantizations = ("float32", "float16", "int8")
    writes_with = ("onnx", "onnxscript")
    runs_with = "onnxruntime"

    def require(self, bundle: Bundle, *, tokenizer: bool) -> None:
        config = bundle.model.config
        other = config.decoder_layers and config.stack.kind != "transformer"
        reasons = [f"a decoder of kind {config.stack.kind} keeps no keys and values"] if other else []
        if config.decoder_layers and config.removed_heads:
            reasons.append("heads were removed, and its blocks keep keys and values of different shapes")
        refuse(self.title, reasons, REMEDY)

    def write(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> dict[str, Any]:
        described = {}
        for graph in graphs(bundle.model, DTYPES[quantization]):
            path = folder / f"{graph.name}.onnx"
            _export(graph, path)
            if quantization == "int8":
                _round(path)
            described[path.name] = {"inputs": graph.inputs, "outputs": graph.outputs}
        for name, each in bundle.tokenizers.items():
            each.save(folder / name)
        write_json(folder / "config.json", {"graphs": described, **_about(bundle)})
        write_atomic(folder / "README.md", _card(bundle))
        return {"graphs": len(described), "tokenizers": len(bundle.tokenizers)}

    def run(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> Verdict:
        return verdict(bundle, folder)


def _export(graph: Graph, path: Path) -> None:
    """Write one graph; torch's own complaint becomes the reason where it cannot."""
    example: tuple[Tensor, ...] = graph.example()
    shapes = tuple(graph.axes())
    varied = shapes if graph.name == "encoder" else (*shapes[:2], shapes[2:])  # further ones are its `*states`
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                dynamic_shapes=varied,
                input_names=graph.inputs,
                output_names=graph.outputs,
                verbose=False,
            )
    except Exception as problem:  # whatever torch raises for what it cannot write down
        raise BundleError(f"torch cannot write this model as ONNX: {_reason(problem)}", remedy=REMEDY) from problem
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where in which source file of ours
    program.save(str(path))


def _reason(problem: Exception) -> str:
    """In one line, and plainer where the reason is a common one."""
    told = str(problem.__cause__ or problem).strip()
    if "inferred a static shape" in told or "data-dependent" in told:
        return "one of its parts looks at the length of a text or at positions before it computes"
    return told.splitlines()[0] if told else type(problem).__name__


def _round(path: Path) -> None:
    """Matrices to 8 bits, activations at run time."""
    whole = path.with_suffix(".float32")
    path.replace(whole)
    with _quiet():
        quantization = library("onnxruntime.quantization")
        quantization.quantize_dynamic(str(whole), str(path), weight_type=quantization.QuantType.QInt8)
    whole.unlink()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without advice to those who write exporters."""
    out = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _about(bundle: Bundle) -> dict[str, Any]:
    """What whoever drives the graphs has to know."""
    config = bundle.model.config
    ids = {role: getattr(bundle.target, role) for role in ("pad", "bos", "eos")} if bundle.tokenizers else {}
    sizes = {"layers": config.decoder_layers, "kv_heads": config.sizes.kv_heads, "d_head": config.sizes.d_head}
    cache = {"past": sizes} if config.decoder_layers else {}
    return {"kind": config.kind, "length": config.length, "ids": {"pad": config.pad, **ids}, **cache}


def _card(bundle: Bundle) -> str:
    title = bundle.history.get("name", "A Clearhead model")
    lines = [f"# {title}", "", "Exported by Clearhead as ONNX; config.json names inputs and outputs of each graph.", ""]
    if bundle.model.config.decoder_layers:
        lines += ["The decoder reads new tokens and `past_*`, (batch, kv_heads, past, d_head), with past = 0 at first;"]
        lines += ["what it gives as `present_*` is the `past_*` of the next call. `valid`, (batch, past + target), is"]
        lines += ["false for padding, on either side.", ""]
    return "\n".join(lines)
