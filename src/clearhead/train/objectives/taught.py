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
from clearhead.core.files import folder_atomic, read_json, write_json
from clearhead.core.progress import track
from clearhead.data.batches import TranslationBatch, translation_batch
from clearhead.data.store import Ids, Store, damaged, id_type, mapped
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.likelihood import read_pairs

Answer = npt.NDArray[Any]  # (labels of a pair, k)

CHUNK = 8_192  # pairs that are sorted by length together and held at a time
BUDGET = 4_096  # padded tokens that a teacher reads together


class Taught:
    """Read access to a folder of `write_taught`.

    Attributes:
        about: what was given to be remembered.
    """

    def __init__(self, folder: Path) -> None:
        kept = read_json(folder / "taught.json", DataError)
        try:
            width, dtype, self.about = int(kept["words"]), np.dtype(str(kept["dtype"])), dict(kept["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder, f"{kept!r} in taught.json") from error
        self._ends = mapped(folder / "ends.bin", np.dtype(np.int64))
        shape = int(self._ends[-1]) if len(self._ends) else 0, width
        self._words = _table(folder / "words.bin", dtype, shape)
        self._probabilities = _table(folder / "probabilities.bin", np.dtype(np.float16), shape)

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
        teachers: encoder-decoders with the same vocabularies, in eval mode.
        stores: sources and targets without special tokens.
        target: tokenizer that knows the special tokens.
        words: kept of each token, the most probable ones.
        device: where the teachers work.
        about: to be remembered with it, as JSON.
    """
    width, dtype, count = min(words, target.vocab_size), id_type(target.vocab_size), len(stores[0])
    files = ("words.bin", np.dtype(dtype)), ("probabilities.bin", np.dtype(np.float16))
    with folder_atomic(folder) as temporary, track("asking teachers, pair", count) as bar:
        for start in range(0, count, CHUNK):
            stop = min(count, start + CHUNK)
            pairs = [[store[row] for row in range(start, stop)] for store in stores]
            for (name, kind), answers in zip(files, _asked(teachers, pairs, target, width, device), strict=True):
                with open(temporary / name, "ab") as file:
                    file.writelines(each.astype(kind).tobytes() for each in answers)
            bar(stop)
        np.cumsum(stores[1].lengths(0, count) + 1).astype(np.int64).tofile(temporary / "ends.bin")
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
        best = _mean(teachers, batch).topk(width)
        ends = np.cumsum([len(each) + 1 for each in target])[:-1]
        found = zip(*(np.split(each.cpu().numpy(), ends) for each in (best.indices, best.values)), strict=True)
        for index, (own_words, own_probabilities) in zip(order[part], found, strict=True):
            words[index], probabilities[index] = own_words, own_probabilities
    return words, probabilities


@torch.no_grad()
def _mean(teachers: Sequence[Transformer], batch: TranslationBatch) -> Tensor:
    """The mean of the teachers' distributions at each label, (labels, vocab) float32."""
    logits = (each.logits(read_pairs(each, batch)[batch.counted]) for each in teachers)
    return torch.stack([each.float().softmax(dim=-1) for each in logits]).mean(dim=0)


def _table(path: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The numbers of a file as rows; a plain view of the mapped memory, which is cut faster than a memmap."""
    numbers = np.asarray(mapped(path, dtype))
    if numbers.size != shape[0] * shape[1]:
        raise damaged(path, f"{numbers.size} numbers", f"{shape[0] * shape[1]}")
    return numbers.reshape(shape)
