"""What teachers say of each target token of a training, asked once and kept on disk.

Without dropout a model says the same of a sentence in every epoch, so teachers need not be asked again: an update of a
student takes hardly longer than one without a teacher, however many teachers there are. A folder holds `words.bin` and
`probabilities.bin` (float16), k numbers for each token, `ends.bin` (int64, where the tokens of each pair end) and
`taught.json`. It appears as a whole or not at all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clearhead.core.batching import cut
from clearhead.core.errors import DataError
from clearhead.core.files import folder_atomic, read_json, require_space, write_json
from clearhead.core.progress import track
from clearhead.data.batches import TranslationBatch, translation_batch
from clearhead.data.store import Ids, Store, id_type, mapped
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.likelihood import read_pairs

Answer = npt.NDArray[Any]  # (labels of a pair, k)

ID_TYPES: dict[str, np.dtype[Any]] = {each: np.dtype(each) for each in ("uint16", "uint32")}
CHUNK = 8_192  # pairs that are sorted by length together and held at a time
BUDGET = 4_096  # padded tokens that a teacher reads together
BLOCK = 1 << 22  # logits of a teacher at a time


class Taught:
    """Read access to a folder of `write_taught`.

    Attributes:
        about: what was given to be remembered.
    """

    def __init__(self, folder: Path) -> None:
        kept = read_json(folder / "taught.json", DataError)
        try:
            width, dtype = int(kept["words"]), ID_TYPES[kept["dtype"]]
            self.about, self.folder = dict(kept["about"]), folder
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable(folder, f"{kept!r} in taught.json") from error
        self._ends = _numbers(folder / "ends.bin", np.dtype(np.int64))
        shape = int(self._ends[-1]) if len(self._ends) else 0, width
        self._words = _table(folder / "words.bin", dtype, shape)
        self._probabilities = _table(folder / "probabilities.bin", np.dtype(np.float16), shape)

    def require(self, target: Store) -> None:
        """Refuse answers about other targets than those of this store."""
        if not np.array_equal(self._ends, _ends(target)):
            raise _unusable(self.folder, "answers about other texts")

    def of(self, rows: Ids) -> tuple[Tensor, Tensor]:
        """The most probable words (tokens, k) int64 and their probabilities (tokens, k) float32 of these pairs."""
        parts = [slice(int(self._ends[row - 1]) if row else 0, int(self._ends[row])) for row in rows.tolist()]
        words = np.concatenate([self._words[part] for part in parts]).astype(np.int64)
        probabilities = np.concatenate([self._probabilities[part] for part in parts]).astype(np.float32)
        return torch.from_numpy(words), torch.from_numpy(probabilities)


def write_taught(
    folder: Path,
    teachers: Sequence[Transformer],
    stores: Sequence[Store],
    target: Tokenizer,
    *,
    words: int,
    device: torch.device,
    about: dict[str, Any],
) -> None:
    """Ask all teachers about all pairs; what is kept is the mean of their distributions.

    Args:
        folder: of what they say.
        teachers: encoder-decoders with the same vocabularies, in eval mode; none = zeros in the place of answers.
        stores: sources and targets without special tokens.
        target: tokenizer that knows the special tokens.
        words: kept of each token, the most probable ones.
        device: where the teachers work.
        about: to be remembered with it, as JSON.
    """
    width, dtype, count = min(words, target.vocab_size), id_type(target.vocab_size), len(stores[0])
    labels = stores[1].tokens + count  # with an end of sentence each
    remedy = "free some space, or keep fewer objective.words, and continue with --resume"
    require_space(folder.parent, labels * width * (dtype.itemsize + 2) + 8 * count, "what the teachers say", remedy)
    files: dict[str, np.dtype[Any]] = {"words.bin": dtype, "probabilities.bin": np.dtype(np.float16)}
    with folder_atomic(folder) as temporary, track("asking teachers, pair", count) as bar:
        for name, kind in files.items() if not teachers else ():
            with open(temporary / name, "wb") as file:
                file.truncate(labels * width * kind.itemsize)
        for start in range(0, count, CHUNK) if teachers else ():
            stop = min(count, start + CHUNK)
            pairs = [[store[row] for row in range(start, stop)] for store in stores]
            for (name, kind), answers in zip(
                files.items(), _asked(teachers, pairs, target, width, device), strict=True
            ):
                with open(temporary / name, "ab") as file:
                    file.writelines(each.astype(kind).tobytes() for each in answers)
            bar(stop)
        _ends(stores[1]).tofile(temporary / "ends.bin")
        write_json(temporary / "taught.json", {"words": width, "dtype": dtype.name, "about": about})


def _asked(
    teachers: Sequence[Transformer],
    pairs: list[list[Ids]],
    tokenizer: Tokenizer,
    width: int,
    device: torch.device,
) -> tuple[list[Answer], list[Answer]]:
    """The most probable words of each pair, (its labels, width), and their probabilities."""
    sizes = [max(len(source), len(target)) + 1 for source, target in zip(*pairs, strict=True)]
    order = sorted(range(len(sizes)), key=lambda index: (len(pairs[1][index]), sizes[index]))
    pad, bos, eos = (tokenizer.need(each) for each in ("pad", "bos", "eos"))
    words, probabilities = ([np.empty((0, width))] * len(sizes) for _ in range(2))
    for part in cut([sizes[index] for index in order], BUDGET):
        source, target = ([side[index] for index in order[part]] for side in pairs)
        batch = translation_batch(source, target, pad=pad, bos=bos, eos=eos).to(device)
        best = _best(teachers, batch, width, tokenizer.vocab_size)
        ends = np.cumsum([len(each) + 1 for each in target])[:-1]
        found = zip(*(np.split(each, ends) for each in best), strict=True)
        for index, (own_words, own_probabilities) in zip(order[part], found, strict=True):
            words[index], probabilities[index] = own_words, own_probabilities
    return words, probabilities


@torch.no_grad()
def _best(teachers: Sequence[Transformer], batch: TranslationBatch, width: int, vocab: int) -> tuple[Answer, Answer]:
    """The best words by the mean of the teachers' distributions, (labels, width), and their probabilities.

    Labels go through in blocks: all logits of a batch would be far larger than the model.
    """
    hidden = [read_pairs(each, batch)[batch.counted] for each in teachers]
    words, probabilities = [], []
    for start in range(0, len(hidden[0]), max(1, BLOCK // vocab)):
        part = slice(start, start + max(1, BLOCK // vocab))
        mean = torch.zeros((), device=batch.source.device)
        for teacher, states in zip(teachers, hidden, strict=True):
            logits = teacher.logits(states[part])[:, :vocab]  # a table may have more rows than there are words
            mean = mean + logits.float().softmax(dim=-1) / len(teachers)
        best = mean.topk(width)
        words.append(best.indices.cpu().numpy().astype(id_type(vocab)))
        probabilities.append(best.values.cpu().numpy().astype(np.float16))
    return np.concatenate(words), np.concatenate(probabilities)


def _ends(target: Store) -> Ids:
    """Where the labels of each pair end, its end of sentence included."""
    return np.cumsum(target.lengths(0, len(target)) + 1).astype(np.int64)


def _table(path: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The numbers of a file as rows; a plain view of the mapped memory, which is cut faster than a memmap."""
    numbers = np.asarray(_numbers(path, dtype))
    if numbers.size != shape[0] * shape[1]:
        raise _unusable(path.parent, f"{numbers.size:,} numbers in {path.name}")
    return numbers.reshape(shape)


def _numbers(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        return mapped(path, dtype)
    except DataError as error:
        raise _unusable(path.parent, f"{path.name}: {error.found}") from None


def _unusable(folder: Path, found: str) -> DataError:
    remedy = "delete this folder and --resume: the teachers are asked again"
    return DataError("what the teachers said cannot be used", where=folder, found=found, remedy=remedy)
