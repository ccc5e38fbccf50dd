"""A folder of the transformers library -> a bundle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange import architectures as _registered  # noqa: F401 (they enter ARCHITECTURES)
from clearhead.bundle.exchange.architecture import Architecture, architecture_of
from clearhead.bundle.exchange.checkpoint import read_checkpoint
from clearhead.bundle.exchange.configs import obstacles, read_config, write_config
from clearhead.bundle.exchange.extras import EXTRAS, Extras
from clearhead.bundle.exchange.rules import STORED
from clearhead.bundle.exchange.tokenizers import frame, read_target, read_tokenizer
from clearhead.bundle.exchange.weights import read_tensors
from clearhead.core.errors import BundleError
from clearhead.core.files import read_json, read_text
from clearhead.model import ModelConfig
from clearhead.text import Tokenizer

GENERATION = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Imported:
    """What an import found."""

    bundle: Bundle
    name: str  # of the architecture
    architecture: Architecture
    notes: tuple[str, ...]  # what the user should know


def import_model(folder: Path, *, allow_pickle: bool = False) -> Imported:
    """Read a model of the transformers library.

    Args:
        folder: with config.json, weights in one or several safetensors files, and perhaps a tokenizer.
        allow_pickle: read pickled weights where there are no others.

    Raises:
        BundleError: the architecture is unknown, its config says what Clearhead cannot, or a tensor is missing, extra
            or misshapen; each by name.
    """
    path = folder / "config.json"
    theirs = _document(path)
    name, architecture = architecture_of(theirs, path)
    extras = Extras.read(theirs.get(EXTRAS), path)
    stored = read_checkpoint(folder, allow_pickle=allow_pickle)
    mapped = read_config(architecture, {**theirs, STORED: stored.keys()}, path)
    config = _as_spelled(architecture, theirs, mapped, extras)
    model = read_tensors(architecture, config, stored, folder)
    generation = {**theirs, **_document(folder / GENERATION, needed=False)}
    ids = _ids(architecture, generation)
    source, target, notes = _tokenizers(folder, ids, config, extras, architecture.opens)
    about = {"name": folder.resolve().name, "architecture": name, "token_ids": ids | _forced(generation)}
    history = extras.history if extras else about
    history = history if extras or notes else history | _frame(source, config) | _chat_template(folder)
    search = extras.search if extras else _search(config, generation)
    return Imported(Bundle(model, source, target, search, history), name, architecture, notes if _reads(config) else ())


def _reads(config: ModelConfig) -> bool:
    """Whether a text is what the model reads, or a picture."""
    return bool(config.source_vocab or config.target_vocab)


def _document(path: Path, *, needed: bool = True) -> dict[str, Any]:
    if not needed and not path.is_file():
        return {}
    if not path.is_file():
        remedy = "give a folder that save_pretrained wrote"
        raise BundleError("no model of the transformers library here", where=path, remedy=remedy)
    document = read_json(path, BundleError)
    if not isinstance(document, dict):
        raise BundleError("not a config", where=path, expected="a JSON object")
    return document


def _as_spelled(
    architecture: Architecture, theirs: Mapping[str, Any], mapped: ModelConfig, extras: Extras | None
) -> ModelConfig:
    """The config that an export began with, as long as the file says the same as that config would."""
    if extras is None or obstacles(architecture, extras.model):
        return mapped
    said = json.loads(json.dumps(write_config(architecture, extras.model)))
    return extras.model if all(theirs.get(key) == value for key, value in said.items()) else mapped


def _ids(architecture: Architecture, theirs: Mapping[str, Any]) -> dict[str, int]:
    """Role -> id of the tokens that generation needs; what begins a target plays the role of bos."""
    keys = {"pad": "pad_token_id", "eos": "eos_token_id", "bos": architecture.start or "bos_token_id"}
    found = {role: theirs.get(key) for role, key in keys.items()}
    first = {role: each[0] if isinstance(each, list) and each else each for role, each in found.items()}
    return {role: each for role, each in first.items() if isinstance(each, int)}


def _forced(theirs: Mapping[str, Any]) -> dict[str, int]:
    """The token that a target must have after the one that begins it, such as the language of mBART."""
    forced = theirs.get("forced_bos_token_id")
    return {"forced_bos": forced} if isinstance(forced, int) else {}


def _tokenizers(
    folder: Path, ids: Mapping[str, int], config: ModelConfig, extras: Extras | None, opens: str | None
) -> tuple[Tokenizer, Tokenizer, tuple[str, ...]]:
    """Source, target, and why one is missing. One stands for both, unless an export wrote two."""
    sizes = [each for each in (config.source_vocab, config.target_vocab) if each] or [0]
    source, missing = read_tokenizer(folder, ids, sizes[0], opens if config.kind == "encoder-decoder" else None)
    if missing:
        return source, source, (missing,)
    target, missing = read_target(folder, ids, sizes[-1], source)
    if missing:
        return target, target, (missing,)
    if extras:
        source, target = extras.restored(source, target)
    return source, target, ()


def _frame(source: Tokenizer, config: ModelConfig) -> dict[str, Any]:
    """What stands round a source, where it is more than the end that every translation model of ours reads."""
    round_source = frame(source)
    if config.kind != "encoder-decoder" or round_source in (([], []), ([], [source.eos])):
        return {}
    return {"source_frame": list(round_source)}


def _chat_template(folder: Path) -> dict[str, Any]:
    """How a conversation becomes a prompt: from a file of its own, or the settings of the tokenizer."""
    if (folder / CHAT_TEMPLATE).is_file():
        return {"chat_template": read_text(folder / CHAT_TEMPLATE, BundleError)}
    template = _document(folder / "tokenizer_config.json", needed=False).get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    return {"chat_template": template} if isinstance(template, str) else {}


def _search(config: ModelConfig, generation: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a search of ours has words for."""
    if config.kind != "encoder-decoder":
        return {}
    words = {"num_beams": "beams", "length_penalty": "length_penalty"}
    return {ours: generation[key] for key, ours in words.items() if isinstance(generation.get(key), int | float)}
