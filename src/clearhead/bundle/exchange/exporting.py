"""A bundle -> a folder that the transformers library opens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange import architectures as _registered  # noqa: F401 (they enter ARCHITECTURES)
from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture, Headless
from clearhead.bundle.exchange.configs import obstacles, write_config
from clearhead.bundle.exchange.extras import EXTRAS, Extras
from clearhead.bundle.exchange.importing import GENERATION
from clearhead.bundle.exchange.tokenizers import TARGET, write_tokenizer
from clearhead.bundle.exchange.weights import write_tensors
from clearhead.bundle.weights import save_weights
from clearhead.core.errors import BundleError, StorageError
from clearhead.core.files import folder_atomic, write_atomic, write_json
from clearhead.model import ModelConfig

SHOWN = 3  # reasons in the line of a refusal


@dataclass(frozen=True)
class Exported:
    """What an export chose."""

    name: str  # of the architecture
    architecture: Architecture


def export_model(bundle: Bundle, folder: Path) -> Exported:
    """Write a folder that `AutoModel...from_pretrained` and `AutoTokenizer.from_pretrained` open; whole or not at all.

    Raises:
        BundleError: no architecture of the transformers library computes what this model does; says why.
        StorageError: the folder holds something already, or cannot be written.
    """
    name, architecture = fitting(bundle.model.config, str(bundle.history.get("architecture", "")))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError("there is something in this place already", where=folder, remedy="name a new folder")
    with folder_atomic(folder) as new:
        _write(bundle, name, architecture, new)
    return Exported(name, architecture)


def fitting(config: ModelConfig, preferred: str = "") -> tuple[str, Architecture]:
    """The architecture that says a config: the one it came from, or else the first.

    Raises:
        BundleError: there is none; says what hinders the nearest one.
    """
    known = {name: ARCHITECTURES.get(name)() for name in ARCHITECTURES.names()}
    whole = [name for name, each in known.items() if name == preferred or not isinstance(each, Headless)]
    found = {name: obstacles(known[name], config) for name in whole}
    name = min(found, key=lambda each: (len(found[each]), each != preferred, each))
    if found[name]:
        reasons = "; ".join(found[name][:SHOWN]) + ("; ..." if len(found[name]) > SHOWN else "")
        what = f"no architecture of transformers computes this model; nearest is {name}, but {reasons}"
        raise BundleError(what, remedy="train with a config that it can say, or use the model with Clearhead")
    return name, known[name]


def _write(bundle: Bundle, name: str, architecture: Architecture, folder: Path) -> None:
    config = bundle.model.config
    save_weights(folder / "model.safetensors", write_tensors(architecture, bundle.model))
    ids = _ids(bundle, architecture)
    about: dict[str, Any] = {"architectures": [name], "model_type": architecture.model_type, "dtype": _dtype(bundle)}
    about |= {**ids, **write_config(architecture, config), EXTRAS: Extras.of(bundle).document()}
    write_json(folder / "config.json", about)
    write_json(folder / GENERATION, {**ids, "pad_token_id": config.pad, **_search(bundle)})
    for tokenizer, place in zip(bundle.tokenizers.values(), (folder, folder / TARGET), strict=False):
        write_tokenizer(tokenizer, place, config)
    write_atomic(folder / "README.md", _card(bundle, name))


def _dtype(bundle: Bundle) -> str:
    return str(bundle.model.output.dtype).removeprefix("torch.")


def _ids(bundle: Bundle, architecture: Architecture) -> dict[str, int | None]:
    """The ids that their generation needs; null rather than the defaults of their library."""
    known = bundle.history.get("token_ids", {})  # of a model that was imported
    bos, eos = (getattr(bundle.target, role) if bundle.tokenizers else known.get(role) for role in ("bos", "eos"))
    if architecture.start is None:
        return {"bos_token_id": bos, "eos_token_id": eos}
    start = bundle.model.config.pad if bos is None else bos
    forced = {"forced_bos_token_id": known.get("forced_bos"), "forced_eos_token_id": eos}
    return {"bos_token_id": None, "eos_token_id": eos, architecture.start: start, **forced}


def _search(bundle: Bundle) -> dict[str, Any]:
    """The settings of our search in their words. Ours never chooses padding, so theirs must not either."""
    config, target = bundle.model.config, bundle.target
    if config.kind == "encoder-only":
        return {}
    words = {"beams": "num_beams", "length_penalty": "length_penalty"}
    said = {theirs: bundle.search[key] for key, theirs in words.items() if key in bundle.search}
    never = {} if config.pad == target.eos else {"bad_words_ids": [[config.pad]]}
    return {"max_length": config.length, **said, **never}


def _card(bundle: Bundle, name: str) -> str:
    title = bundle.history.get("name", "A Clearhead model")
    lines = ["---", "library_name: transformers", "---", f"# {title}", "", "Exported by Clearhead.", "", "```python"]
    lines += [f"from transformers import AutoTokenizer, {name}", ""]
    lines += [f'model = {name}.from_pretrained("path/to/this/folder")']
    if bundle.tokenizers:
        lines += ['tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")']
    if len(bundle.tokenizers) == 2:
        lines += [f'target = AutoTokenizer.from_pretrained("path/to/this/folder", subfolder="{TARGET}")  # decodes']
    return "\n".join([*lines, "```", ""])
