"""The tokenizer files of the transformers library: reading what a folder has, writing what its AutoTokenizer opens."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from clearhead.bundle.exchange.peer import converted_tokenizer
from clearhead.core.errors import BundleError, TokenizerError
from clearhead.core.files import make_folder, read_json, read_text, write_json
from clearhead.model import ModelConfig
from clearhead.text import NO_TOKENIZER, Tokenizer, read_pieces, shared_unigram, wordpiece_tokenizer
from clearhead.text.normalization import normalizer
from clearhead.text.sentencepiece import UNIGRAM
from clearhead.text.special import NAMES

SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")  # the latter is asked first
TARGET = "target_tokenizer"  # the folder beside the model where source and target have tokenizers of their own
SOURCE_PIECES, TARGET_PIECES = "source.spm", "target.spm"  # of OPUS-MT
SOURCE_IDS, TARGET_IDS = "vocab.json", "target_vocab.json"  # the latter only where the two sides share no ids
LEFT_OUT = "imported without a tokenizer"


def read_tokenizer(folder: Path, ids: Mapping[str, Any], rows: int, opens: str | None) -> tuple[Tokenizer, str | None]:
    """The tokenizer in a folder, and why there is none.

    Args:
        folder: with tokenizer.json, vocab.txt, vocab.json and merges.txt, files of OPUS-MT, or one of SentencePiece.
        ids: role -> id of a special token, for roles that the tokenizer's own files do not name.
        rows: of the model's table; a tokenizer with more tokens is not its own.
        opens: role of the token before a text, where the files do not say what stands round one.
    """
    settings = _settings(folder)
    backend = next(filter(None, (read(folder, settings) for read in READERS)), None)
    if backend is None:
        reason = f"no tokenizer.json, vocab.txt or vocab.json with merges.txt in {folder}, nor what could be converted"
        return NO_TOKENIZER, f"{LEFT_OUT}: {reason}"
    return _owned(_opened(Tokenizer(backend, _roles(backend, settings, ids)), opens), rows)


def read_target(folder: Path, ids: Mapping[str, Any], rows: int, source: Tokenizer) -> tuple[Tokenizer, str | None]:
    """The tokenizer of the target: that of the source, unless the folder has one for it."""
    if (folder / TARGET).is_dir():
        return read_tokenizer(folder / TARGET, ids, rows, None)
    backend = None if (folder / "tokenizer.json").is_file() else _pieces(folder, TARGET_PIECES, TARGET_IDS)
    if backend is None:
        return source, None
    target, missing = _owned(Tokenizer(backend, _roles(backend, _settings(folder), ids)), rows)
    return source if target == source else target, missing


def frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What the template of a tokenizer puts before and after a text; nothing without one."""
    whole = tokenizer.backend.encode("a", add_special_tokens=True)
    inside = [place for place, added in enumerate(whole.special_tokens_mask) if not added]
    return (whole.ids[: inside[0]], whole.ids[inside[-1] + 1 :]) if inside else ([], [])


def write_tokenizer(tokenizer: Tokenizer, folder: Path, config: ModelConfig) -> None:
    """tokenizer.json and tokenizer_config.json; special tokens are put round a text as models of this kind read it."""
    make_folder(folder)
    document = json.loads(tokenizer.to_json())
    document["post_processor"] = document["post_processor"] or _template(tokenizer, ROUND[config.kind])
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


# An encoder-decoder reads `text <eos>`, an encoder `[CLS] text [SEP] text [SEP]`, a decoder the text as it is.
ROUND = {"encoder-decoder": ("eos",), "encoder-only": ("cls", "sep"), "decoder-only": ()}


def _opened(tokenizer: Tokenizer, opens: str | None) -> Tokenizer:
    """The tokenizer with a template of its own that begins with this role; as it is if it has one."""
    document = json.loads(tokenizer.to_json())
    if opens is None or document["post_processor"]:
        return tokenizer
    document["post_processor"] = _template(tokenizer, (opens, "eos"))
    return Tokenizer(Backend.from_str(json.dumps(document)), tokenizer.given)


def _template(tokenizer: Tokenizer, wanted: Sequence[str]) -> dict[str, Any] | None:
    """The roles round a text: all but the last before it, the last one after it and after a second text."""
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


def _owned(tokenizer: Tokenizer, rows: int) -> tuple[Tokenizer, str | None]:
    if tokenizer.vocab_size <= rows:
        return tokenizer, None
    return NO_TOKENIZER, f"{LEFT_OUT}: it has {tokenizer.vocab_size:,} tokens, the model {rows:,} rows"


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


def _source_pieces(folder: Path, settings: Mapping[str, Any]) -> Backend | None:
    return _pieces(folder, SOURCE_PIECES, SOURCE_IDS)


def _pieces(folder: Path, model: str, table: str) -> Backend | None:
    """OPUS-MT: a model of SentencePiece for each side, and a table of ids."""
    ids = folder / (table if (folder / table).is_file() else SOURCE_IDS)
    if not (folder / model).is_file() or not ids.is_file():
        return None
    vocabulary = read_json(ids, TokenizerError)
    if not isinstance(vocabulary, dict) or not all(type(each) is int and each >= 0 for each in vocabulary.values()):
        raise TokenizerError("not a table of pieces and their ids", where=ids)
    special = {token for names in NAMES.values() for token in names if token in vocabulary}
    pieces = read_pieces(folder / model)
    return shared_unigram(pieces, vocabulary, sorted(special)) if pieces.model_type == UNIGRAM else None


def _converted(folder: Path, settings: Mapping[str, Any]) -> Backend | None:
    """SentencePiece: transformers converts what it can, where it is installed."""
    pieces = [*folder.glob("*.model"), *folder.glob("*.spm")]
    return converted_tokenizer(folder) if pieces else None


READERS: tuple[Callable[[Path, Mapping[str, Any]], Backend | None], ...] = (
    _whole,
    _wordpiece,
    _byte_pairs,
    _source_pieces,
    _converted,
)
