"""A bundle is a folder: what is in it, how it is written, how it is read.

config.json               sizes and parts of the model
model.safetensors         weights
tokenizer.json            the tokenizer, or source_tokenizer.json and target_tokenizer.json
generation_config.json    how to search
README.md                 what the model is and how well it does
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clearhead.bundle.card import model_card
from clearhead.bundle.weights import load_weights, read_weights, save_weights, weights_of
from clearhead.core.errors import BundleError
from clearhead.core.files import make_folder, read_json, write_atomic, write_json
from clearhead.model import ModelConfig, Transformer
from clearhead.text import Tokenizer

FORMAT = 1  # of config.json; a reader refuses a larger number


@dataclass
class Bundle:
    """A model with what it needs to read and write text."""

    model: Transformer
    source: Tokenizer  # for a model of one text, the same as target
    target: Tokenizer
    search: dict[str, Any] = field(default_factory=dict)  # generation_config.json
    history: dict[str, Any] = field(default_factory=dict)  # how it was trained, what it scores

    def save(self, folder: Path) -> None:
        """Write the files one by one, each atomically; config.json comes last."""
        make_folder(folder)
        save_weights(folder / "model.safetensors", weights_of(self.model))
        if self.source is self.target:
            self.target.save(folder / "tokenizer.json")
        else:
            self.source.save(folder / "source_tokenizer.json")
            self.target.save(folder / "target_tokenizer.json")
        write_json(folder / "generation_config.json", self.search)
        write_atomic(folder / "README.md", model_card(self.model, self.history))
        write_json(
            folder / "config.json",
            {
                "model_type": "clearhead",
                "format": FORMAT,
                "model": self.model.config.model_dump(mode="json"),
                "history": self.history,
            },
        )

    @classmethod
    def load(cls, folder: Path) -> "Bundle":
        """Read a folder; the model is in eval mode. A BundleError names what is missing or damaged."""
        if not folder.is_dir():
            raise BundleError("no such folder", where=folder, remedy="give the folder of a run or of a bundle")
        if not (folder / "config.json").exists():
            raise BundleError(
                "no config.json in this folder",
                where=folder,
                remedy="a run becomes a bundle when its training ends; continue it with clearhead train --resume",
            )
        about = read_json(folder / "config.json", BundleError)
        model = Transformer(_config(about, folder / "config.json"))
        load_weights(model, read_weights(folder / "model.safetensors"), folder / "model.safetensors")
        if (folder / "tokenizer.json").exists():
            source = target = Tokenizer.load(folder / "tokenizer.json")
        else:
            source = Tokenizer.load(folder / "source_tokenizer.json")
            target = Tokenizer.load(folder / "target_tokenizer.json")
        search = read_json(folder / "generation_config.json", BundleError)
        return cls(model.eval(), source, target, search, about.get("history", {}))


def _config(about: Any, where: Path) -> ModelConfig:
    if not isinstance(about, dict) or about.get("model_type") != "clearhead":
        found = about.get("model_type") if isinstance(about, dict) else type(about).__name__
        raise BundleError("not a Clearhead model", where=where, found=repr(found), expected="model_type 'clearhead'")
    if about.get("format", 0) > FORMAT:
        raise BundleError("written by a newer Clearhead", where=where, remedy="update with pip install -U clearhead")
    try:
        return ModelConfig.model_validate(about.get("model"))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(each) for each in problem["loc"])
        raise BundleError(f"damaged config: {problem['msg']}", where=f"{where}, {key}") from None
