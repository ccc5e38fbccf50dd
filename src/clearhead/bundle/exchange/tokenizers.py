"""The tokenizer files of the transformers library: reading what a folder has, writing what its AutoTokenizer opens."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from clearhead.bundle.exchange.peer import converted_tokenizer
from clearhead.core.errors import BundleError, TokenizerError
from clearhead.core.files import make_folder, read_json, read_text, write_json
from clearhead.model import ModelConfig
from clearhead.text import NO_TOKENIZER, Tokenizer, wordpiece_tokenizer
from clearhead.text.normalization import normalizer
from clearhead.text.special import NAMES

SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")  # the latter is asked first
TARGET = "target_tokenizer"  # the folder beside the model where source and target have tokenizers of their own
LEFT_OUT = "imported without a tokenizer"


def read_tokenizer(folder: Path, ids: Mapping[str, Any], rows: int) -> tuple[Tokenizer, str | None]:
    """The tokenizer in a folder, and why there is none.

    Args:
        folder: with tokenizer.json, vocab.txt, vocab.json and merges.txt, or a file of SentencePiece.
        ids: role -> id of a special token, for roles that the tokenizer's own files do not name.
        rows: of the model's table; a tokenizer with more tokens is not its own.
    """
    settings = _settings(folder)
    backend = next(filter(None, (read(folder, settings) for read in READERS)), None)
    if backend is None:
        reason = f"no tokenizer.json, vocab.txt or vocab.json with merges.txt in {folder}, nor what could be converted"
        return NO_TOKENIZER, f"{LEFT_OUT}: {reason}"
    tokenizer = Tokenizer(backend, _roles(backend, settings, ids))
    if tokenizer.vocab_size > rows:
        reason = f"it has {tokenizer.vocab_size:,} tokens, the model {rows:,} rows"
        return NO_TOKENIZER, f"{LEFT_OUT}: {reason}"
    return tokenizer, None


def write_tokenizer(tokenizer: Tokenizer, folder: Path, config: ModelConfig) -> None:
    """tokenizer.json and tokenizer_config.json; special tokens are put round a text as models of this kind read it."""
    make_folder(folder)
    document = json.loads(tokenizer.to_json())
    document["post_processor"] = document["post_processor"] or _template(tokenizer, config.kind)
    write_json(folder / "tokenizer.json", document)
    roles = {f"{role}_token": _token(tokenizer, role) for role in NAMES}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.length}
    types = ["token_type_ids"] if config.segments else []
    settings |= {"model_input_names": ["input_ids", *types, "attention_mask"], "clean_up_tokenization_spaces": False}
    settings |= {name: token for name, token in roles.items() if token}
    write_json(folder / "tokenizer_config.json", settings)


def bare(tokenizer: Tokenizer, special: Mapping[str, str], *, template: bool) -> Tokenizer:
    """The tokenizer before `write_tokenizer`: with these roles, and without the template if it had none."""
    document = json.loads(tokenizer.to_json())
    document["post_processor"] = document["post_processor"] if template else None
    return Tokenizer(Backend.from_str(json.dumps(document)), special)


def _template(tokenizer: Tokenizer, kind: str) -> dict[str, Any] | None:
    """An encoder-decoder reads `text <eos>`, an encoder `[CLS] text [SEP] text [SEP]`, a decoder the text as it is."""
    wanted = {"encoder-decoder": ("eos",), "encoder-only": ("cls", "sep"), "decoder-only": ()}[kind]
    if not wanted or any(_token(tokenizer, role) is None for role in wanted):
        return None
    last = wanted[-1]
    start = [_special(tokenizer, role, 0) for role in wanted[:-1]]
    single = [*start, _sequence("A", 0), _special(tokenizer, last, 0)]
    pair = [*single, _sequence("B", 1), _special(tokenizer, last, 1)]
    tokens = {_token(tokenizer, role): tokenizer.need(role) for role in wanted}
    special = {token: {"id": token, "ids": [index], "tokens": [token]} for token, index in tokens.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _special(tokenizer: Tokenizer, role: str, segment: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": _token(tokenizer, role), "type_id": segment}}


def _sequence(name: str, segment: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": segment}}


def _token(tokenizer: Tokenizer, role: str) -> str | None:
    index = getattr(tokenizer, role)
    return None if index is None else tokenizer.tokens([index])[0]


def _settings(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name in SETTINGS:
        document = read_json(folder / name, BundleError) if (folder / name).is_file() else {}
        settings |= document if isinstance(document, dict) else {}
    return settings


def _roles(backend: Backend, settings: Mapping[str, Any], ids: Mapping[str, Any]) -> dict[str, str]:
    """Role -> token, as far as the vocabulary has it; what generation needs comes before what names say."""
    named = {role: settings.get(f"{role}_token") for role in NAMES}
    tokens = {role: each.get("content") if isinstance(each, dict) else each for role, each in named.items()}
    tokens |= {role: backend.id_to_token(index) for role, index in ids.items() if isinstance(index, int)}
    return {role: token for role, token in tokens.items() if token and backend.token_to_id(token) is not None}


# --- what a folder may hold, best first ---


def _whole(folder: Path, settings: Mapping[str, Any]) -> Backend | None:
    path = folder / "tokenizer.json"
    return Tokenizer.load(path).backend if path.is_file() else None


def _wordpiece(folder: Path, settings: Mapping[str, Any]) -> Backend | None:
    path = folder / "vocab.txt"
    if not path.is_file():
        return None
    tokens = read_text(path, TokenizerError).removesuffix("\n").split("\n")
    special = [token for names in NAMES.values() for token in names if token in tokens]
    lowercase = bool(settings.get("do_lower_case", True))
    return wordpiece_tokenizer(tokens, list(dict.fromkeys(special)), normalizer("bert", lowercase=lowercase)).backend


def _byte_pairs(folder: Path, settings: Mapping[str, Any]) -> Backend | None:
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not vocab.is_file() or not merges.is_file():
        return None
    backend = Backend(models.BPE.from_file(str(vocab), str(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    special = {token for names in NAMES.values() for token in names if backend.token_to_id(token) is not None}
    backend.add_special_tokens(sorted(special))
    return backend


def _converted(folder: Path, settings: Mapping[str, Any]) -> Backend | None:
    """SentencePiece: transformers converts what it can, where it is installed."""
    pieces = [*folder.glob("*.model"), *folder.glob("*.spm")]
    return converted_tokenizer(folder) if pieces else None


READERS: tuple[Callable[[Path, Mapping[str, Any]], Backend | None], ...] = (_whole, _wordpiece, _byte_pairs, _converted)
