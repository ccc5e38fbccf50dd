"""A bundle is a folder: what is in it, how it is written, how it is read.

config.json               sizes and parts of the model, names of the tokenizer files, history
model.safetensors         weights
tokenizer.json            the tokenizer, or source_tokenizer.json and target_tokenizer.json, or none
generation_config.json    how to search
README.md                 what the model is and how well it does

A save writes all of them into the folder `.bundle` first and moves them to their places once they are complete. Reading
looks there first: whatever moment a save is killed at, the folder holds the old model or the new one, never a mixture.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clearhead.bundle.card import model_card
from clearhead.bundle.weights import load_weights, read_weights, save_weights, weights_of
from clearhead.core.errors import BundleError, ClearheadError, ConfigError, StorageError
from clearhead.core.files import folder_atomic, make_folder, read_json, storage, write_atomic, write_json
from clearhead.model import ModelConfig, Transformer
from clearhead.text import NO_TOKENIZER, Tokenizer

FORMAT = 1  # of config.json; a reader refuses a larger number
SAVED = ".bundle"  # a complete save, some of whose files may be in their places already
COPY = "copy the whole folder of the model again"
JOINT, SEPARATE = ("tokenizer.json",), ("source_tokenizer.json", "target_tokenizer.json")
NONE: tuple[str, ...] = ()  # a model whose texts nobody can read: logits only


@dataclass
class Bundle:
    """A model with what it needs to read and write text."""

    model: Transformer
    source: Tokenizer  # for a model of one text, the same as target
    target: Tokenizer
    search: dict[str, Any] = field(default_factory=dict)  # generation_config.json
    history: dict[str, Any] = field(default_factory=dict)  # how it was trained, what it scores

    def save(self, folder: Path) -> None:
        """Write the model; an older one in the folder stays until this one is complete. Other files are left alone."""
        make_folder(folder)
        _settle(folder)
        try:
            with folder_atomic(folder / SAVED) as new:
                self._write(new)
        except StorageError as error:  # tells the name of a temporary folder
            raise StorageError(error.what, where=folder, remedy="make room, or choose another folder") from error
        _settle(folder)

    def _write(self, folder: Path) -> None:
        save_weights(folder / "model.safetensors", weights_of(self.model))
        for name, tokenizer in self.tokenizers.items():
            tokenizer.save(folder / name)
        write_json(folder / "generation_config.json", self.search)
        write_atomic(folder / "README.md", model_card(self.model, self.history))
        about: dict[str, Any] = {"model_type": "clearhead", "format": FORMAT, "tokenizers": list(self.tokenizers)}
        given = {name: each.given for name, each in self.tokenizers.items() if each.given}
        about |= {"special": given} if given else {}
        about |= {"model": self.model.config.model_dump(mode="json"), "history": self.history}
        write_json(folder / "config.json", about)

    @property
    def source_frame(self) -> tuple[list[int], list[int]]:
        """The ids before and after a source as the model was trained to read it: by default nothing, and the end.

        Raises:
            TokenizerError: there is no tokenizer that could say what the end is.
        """
        before, after = self.history.get("source_frame") or ([], [self.source.need("eos")])
        return before, after

    @property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """File name -> tokenizer: one, two, or none."""
        if self.source == NO_TOKENIZER:
            return {}
        names = JOINT if self.source is self.target else SEPARATE
        return dict(zip(names, (self.source, self.target), strict=False))

    @classmethod
    def load(cls, folder: str | Path) -> "Bundle":
        """Read a folder; the model is in eval mode. A BundleError names what is missing or damaged."""
        with _remedy():
            return cls._read(Path(folder))

    @classmethod
    def _read(cls, folder: Path) -> "Bundle":
        path = _present(folder, "config.json")
        about = _about(path)
        config = _config(about, path)
        model = Transformer(config)
        weights = _present(folder, "model.safetensors")
        load_weights(model, read_weights(weights), weights)
        source, target = _tokenizers(folder, about, path)
        _require_rows(source, config.source_vocab or config.target_vocab, "source", folder)
        _require_rows(target, config.target_vocab or config.source_vocab, "target", folder)
        settings = _present(folder, "generation_config.json")
        search = read_json(settings, BundleError)
        if not isinstance(search, dict):
            raise BundleError("not the settings of a search", where=settings, expected="a JSON object")
        return cls(model.eval(), source, target, search, about["history"])


def damaged(error: ValidationError, where: Path) -> BundleError:
    """What a settings file of a bundle has wrong, in one line."""
    problem = error.errors()[0]
    key = ".".join(str(each) for each in problem["loc"])
    place = f"{where}, {key}" if key else where
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return BundleError(cause.what, where=place, found=cause.found, expected=cause.expected, remedy=cause.remedy)
    if problem["type"] == "extra_forbidden":
        remedy = "delete the key if it was put in by hand, or update Clearhead"
        return BundleError("unknown key", where=place, remedy=remedy)
    return BundleError(problem["msg"][0].lower() + problem["msg"][1:], where=place, found=repr(problem["input"]))


@contextlib.contextmanager
def _remedy() -> Iterator[None]:
    """What helps against any damage that has no remedy of its own."""
    try:
        yield
    except ClearheadError as error:
        raise BundleError(
            error.what,
            where=error.where,
            found=error.found,
            expected=error.expected,
            remedy=error.remedy or COPY,
        ) from error


def _settle(folder: Path) -> None:
    """Move a complete save to its place, config.json last; what a kill interrupts, the next save goes on with."""
    saved = folder / SAVED
    if not saved.is_dir():
        return
    with storage(folder):
        if (saved / "config.json").exists():
            keep = read_json(saved / "config.json", BundleError)["tokenizers"]
            for name in {*JOINT, *SEPARATE} - set(keep):
                (folder / name).unlink(missing_ok=True)
        for each in sorted(saved.iterdir(), key=lambda each: each.name == "config.json"):
            each.replace(folder / each.name)
        saved.rmdir()


def _present(folder: Path, name: str) -> Path:
    """Where a file of the bundle is; a BundleError that says what to do if it is nowhere."""
    for path in (folder / SAVED / name, folder / name):
        if path.is_file():
            return path
    if not folder.is_dir():
        what = "a file, not the folder of a model" if folder.exists() else "no such folder"
        raise BundleError(what, where=folder, remedy="give the folder of a run or of a bundle")
    if (folder / name).exists():
        raise BundleError("not a file", where=folder / name)
    if name != "config.json":
        raise BundleError("no such file", where=folder / name)
    if (folder / "recipe.yaml").exists():
        remedy = "continue it with clearhead train --resume"
        raise BundleError("this run has not come to its end: it holds no model yet", where=folder, remedy=remedy)
    remedy = "give the folder of a run or of a bundle"
    raise BundleError("no model in this folder: there is no config.json", where=folder, remedy=remedy)


def _about(path: Path) -> dict[str, Any]:
    about = read_json(path, BundleError)
    name = about.get("model_type") if isinstance(about, dict) else None
    if not isinstance(about, dict) or name != "clearhead":
        found = f"model_type {name!r}" if name else "no model_type"
        raise BundleError(
            "not a Clearhead model", where=path, found=found, remedy="give the folder of a Clearhead model"
        )
    kinds = {"format": int, "model": dict, "history": dict}
    for key, kind in kinds.items():
        if not isinstance(about.get(key), kind):
            raise BundleError("damaged config", where=f"{path}, {key}", found=repr(about.get(key)))
    if about["format"] > FORMAT:
        raise BundleError("written by a newer Clearhead", where=path, remedy="update with pip install -U clearhead")
    return about


def _config(about: dict[str, Any], where: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate(about["model"])
    except ValidationError as error:
        problem = damaged(error, where)
        if about["history"].get("plugins"):
            problem = BundleError(problem.what, where=problem.where, remedy=_plugins(about["history"]["plugins"]))
        raise problem from None


def _plugins(needed: Any) -> str:
    """A model folder never runs code: it tells whose parts it was trained with."""
    files = ", ".join(f"{each['file']} (SHA-256 {each['sha256'][:12]}...)" for each in needed)
    return f"it was trained with {files}: if you trust that file, name it with clearhead --plugin FILE"


def _tokenizers(folder: Path, about: dict[str, Any], where: Path) -> tuple[Tokenizer, Tokenizer]:
    names = about.get("tokenizers", JOINT if (folder / JOINT[0]).exists() else SEPARATE)
    if not isinstance(names, list | tuple) or tuple(names) not in (JOINT, SEPARATE, NONE):
        expected = f"{list(JOINT)}, {list(SEPARATE)} or {list(NONE)}"
        raise BundleError("damaged config", where=f"{where}, tokenizers", found=names, expected=expected)
    given = about.get("special", {})
    if not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        raise BundleError("damaged config", where=f"{where}, special", found=given, expected="roles and tokens")
    loaded = [Tokenizer.load(_present(folder, name), special=given.get(name)) for name in names] or [NO_TOKENIZER]
    return loaded[0], loaded[-1]


def _require_rows(tokenizer: Tokenizer, rows: int, side: str, folder: Path) -> None:
    """A tokenizer of another model would read beyond the embedding table."""
    if tokenizer.vocab_size > rows:
        raise BundleError(
            f"the {side} tokenizer is not this model's",
            where=folder,
            found=f"{tokenizer.vocab_size:,} tokens",
            expected=f"at most {rows:,}",
            remedy="put back the tokenizer that was saved with the weights",
        )
