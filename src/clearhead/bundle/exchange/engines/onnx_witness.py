"""onnxruntime as the witness: logits of random texts with padding, the decoder in two calls with a cache between."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.batch import ROWS, Batch, hidden_states, words
from clearhead.bundle.exchange.engines.base import Verdict, library
from clearhead.bundle.exchange.engines.onnx_graphs import crossing, layered
from clearhead.bundle.exchange.engines.prompts import paced
from clearhead.core.errors import BundleError
from clearhead.core.files import read_json
from clearhead.model import ModelConfig

Values = dict[str, np.ndarray[Any, Any]]


@torch.inference_mode()
def verdict(bundle: Bundle, folder: Path) -> Verdict:
    """The largest difference of two logits, and how many best tokens are the same."""
    model = bundle.model
    batch = _batch(model.config)
    engine = Engine(folder, model.config)

    def ours() -> Tensor:
        hidden, valid = hidden_states(model, batch)
        return model.logits(hidden, valid)

    own, their = ours(), torch.from_numpy(engine.logits(batch)).float()
    valid = batch.source_valid if batch.target_valid is None else batch.target_valid
    told = (
        valid if valid is not None and valid.shape == own.shape[:-1] else torch.ones(own.shape[:-1], dtype=torch.bool)
    )
    own, their = own[told], their[told]  # (answers, vocab)
    same = own.argmax(-1) == their.argmax(-1)
    facts: dict[str, Any] = {"same_best_tokens": f"{int(same.sum())} of {len(same)}"}
    read = [each for each in (batch.source_valid, batch.target_valid) if each is not None]
    facts |= paced(sum(int(each.sum()) for each in read) or own.shape[0], ours, lambda: engine.logits(batch))
    return Verdict("max_abs_logit_difference", float((own - their).abs().max()), float(own.abs().max()), facts)


class Engine:
    """The graphs in a folder, driven as a user would."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        names = list(read_json(folder / "config.json", BundleError)["graphs"])
        self.graphs = {each: runtime.InferenceSession(str(folder / each), options) for each in names}
        self.config = config

    def logits(self, batch: Batch) -> "np.ndarray[Any, Any]":
        """(batch, length, vocab) or (batch, labels)."""
        given = {"source": batch.source, "source_valid": batch.source_valid, "segments": batch.segments}
        read = self._run("encoder.onnx", {name: each.numpy() for name, each in given.items() if each is not None})
        if batch.target is None:
            return read["logits"]
        assert batch.target_valid is not None
        source = {name: read[name] for name in crossing(self.config)}
        source |= {} if batch.source_valid is None else {"source_valid": batch.source_valid.numpy()}
        return self._decoded(batch.target.numpy(), batch.target_valid.numpy(), source)

    def _decoded(self, target: Any, valid: Any, source: Values) -> "np.ndarray[Any, Any]":
        """First all tokens but the last, then the last one."""
        cut = max(target.shape[1] - 1, 1)
        past, found = self._nothing(len(target)), []
        for start, end in ((0, cut), (cut, target.shape[1])):
            if start == end:
                break
            told = self._run(
                "decoder.onnx", {"target": target[:, start:end], "valid": valid[:, :end], **source, **past}
            )
            found.append(told["logits"])
            past = {name.replace("present", "past"): each for name, each in told.items() if name != "logits"}
        return np.concatenate(found, axis=1)

    def _nothing(self, rows: int) -> Values:
        sizes = self.config.sizes
        kinds = {each.name: each.type for each in self.graphs["decoder.onnx"].get_inputs()}
        return {
            name: np.zeros((rows, sizes.kv_heads, 0, sizes.d_head), "float16" if "16" in kinds[name] else "float32")
            for name in layered("past", self.config)
        }

    def _run(self, name: str, given: Mapping[str, Any]) -> Values:
        if name not in self.graphs:
            return {}
        graph = self.graphs[name]
        kinds = {each.name: each.type for each in graph.get_inputs()}
        cast = {
            key: each.astype("float16") if "float16" in kinds[key] else each
            for key, each in given.items()
            if key in kinds
        }
        names = [each.name for each in graph.get_outputs()]
        return dict(zip(names, graph.run(names, cast), strict=True))


def _batch(config: ModelConfig) -> Batch:
    """Words, or a picture for each row."""
    if config.embedding.kind != "patches":
        return words(config)
    options = config.embedding.options
    sides = options.get("image", 8)
    random = torch.Generator().manual_seed(3)
    return Batch(torch.randn(ROWS, options.get("channels", 1), sides, sides, generator=random), None, None, None)
