"""From raw text to tokenizers and token stores, each stage left in the run folder for the next one and for resume."""

import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from clearhead.core.errors import DataError, TokenizerError
from clearhead.core.files import write_atomic
from clearhead.core.progress import say, track
from clearhead.core.registry import Choice
from clearhead.data.filters import Filter, FilterConfig
from clearhead.data.sources import Pair
from clearhead.data.store import Store, open_stores, write_stores
from clearhead.text import TOKENIZERS, Tokenizer, TokenizerConfig, train_tokenizer

CHUNK = 4_096  # pairs that are encoded together


def prepare_tokenizers(config: TokenizerConfig, pairs: Iterable[Pair], folder: Path) -> tuple[Tokenizer, Tokenizer]:
    """Train the tokenizers of a run, or load those that an earlier part of the run has trained."""
    source, target = config.sides
    if source is target:
        texts = (text for pair in pairs for text in (pair.source, pair.target))
        both = prepare_tokenizer("joint", source, texts, folder / "tokenizer.json")
        return both, both
    return (
        prepare_tokenizer("source", source, (each.source for each in pairs), folder / "source_tokenizer.json"),
        prepare_tokenizer("target", target, (each.target for each in pairs), folder / "target_tokenizer.json"),
    )


def prepare_tokenizer(key: str, choice: Choice, texts: Iterable[str], path: Path) -> Tokenizer:
    """Train one tokenizer, or load it where an earlier part of the run has left it; `key` names it in messages."""
    if path.exists():
        return Tokenizer.load(path)
    try:
        tokenizer = train_tokenizer(choice, texts)
    except TokenizerError as error:
        raise TokenizerError(
            error.what,
            where=error.where or f"tokenizer.{key}",
            found=error.found,
            expected=error.expected,
            remedy=error.remedy,
        ) from error
    tokenizer.save(path)
    return tokenizer


def prepare_stores(
    pairs: Iterable[Pair], source: Tokenizer, target: Tokenizer, filtering: FilterConfig, folder: Path
) -> list[Store]:
    """Encode and filter the training pairs into two token stores, or open those that are there already."""
    if folder.exists():
        return open_stores(folder, 2)
    keep = Filter(filtering)
    rows = (row for row in _encoded(pairs, source, target) if keep(*row))
    stores = write_stores(folder, 2, rows, max(source.vocab_size, target.vocab_size))
    say(f"training data: {keep.report()}")
    if not len(stores[0]):
        shutil.rmtree(folder)
        remedy = "check the columns of data.train and the bounds in data.filter"
        raise DataError("no training pair is left", where="data.train", found=keep.report(), remedy=remedy)
    write_atomic(folder / "filter.txt", keep.report() + "\n")
    return stores


def require_reach(stores: list[Store], limit: int | None) -> None:
    """Refuse training pairs that the model cannot read, before it meets one in the middle of the training."""
    longest = max(int(each.lengths(0, len(each)).max()) for each in stores)
    if limit is not None and longest >= limit:
        raise DataError(
            "a training pair is longer than the model can read",
            where="data.train",
            found=f"{longest:,} tokens",
            expected=f"fewer than {limit:,}",
            remedy=f"set data.filter.max_tokens to {limit - 1} in a new run, or model.length to {longest + 1} or more",
        )


def _encoded(pairs: Iterable[Pair], source: Tokenizer, target: Tokenizer) -> Iterator[tuple[list[int], list[int]]]:
    remaining, done = iter(pairs), 0
    with track("encoding pairs", None) as bar:
        while chunk := list(islice(remaining, CHUNK)):
            sources = source.encode_batch([each.source for each in chunk])
            targets = target.encode_batch([each.target for each in chunk])
            yield from zip(sources, targets, strict=True)
            done += len(chunk)
            bar(done)


def planned_vocabularies(config: TokenizerConfig) -> dict[str, int]:
    """The vocabulary sizes that a recipe asks for, as fields of ModelConfig; 0 where the corpus decides."""
    source, target = (_planned(each) for each in config.sides)
    return {"source_vocab": source, "target_vocab": target}


def _planned(choice: Choice) -> int:
    option = TOKENIZERS.options(choice.kind).get("vocab_size")
    planned = choice.options.get("vocab_size", option.default if option else 0)
    return planned if isinstance(planned, int) else 0
