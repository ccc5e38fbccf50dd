"""The layout of Hugging Face transformers, which vLLM and others read too."""

from pathlib import Path
from typing import Any

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.engines.base import FORMATS, Format, Verdict
from clearhead.bundle.exchange.exporting import export_model, fitting
from clearhead.bundle.exchange.peer import witness


@FORMATS.register("hf")
class HuggingFace(Format):
    """A folder that `AutoModel...from_pretrained` opens; weights stay in the precision that they have."""

    title = "transformers"
    runs_with = "transformers"

    def require(self, bundle: Bundle, *, tokenizer: bool) -> None:
        fitting(bundle.model.config, str(bundle.history.get("architecture", "")))

    def write(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> dict[str, Any]:
        return {"architecture": export_model(bundle, folder).name, "tokenizers": len(bundle.tokenizers)}

    def run(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> Verdict:
        name, architecture = fitting(bundle.model.config, str(bundle.history.get("architecture", "")))
        difference = witness(folder, name, architecture, bundle.model)["max_abs_logit_difference"]
        assert difference is not None
        return Verdict("max_abs_logit_difference", difference, 1.0, {})
