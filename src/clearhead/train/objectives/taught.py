"""What teachers say of each target token of a training, asked once and kept on disk.

Without dropout a model says the same of a sentence in every epoch, so teachers need not be asked again. A distribution
over all words is thousands of numbers for each token; kept are the features from which a teacher's output layer makes
it, as many as its model is wide, and the matrix of that layer. Several teachers are one wider teacher: their features
and their matrices stand side by side, the matrices divided by their number, and so its logits are the mean of theirs,
its probabilities their geometric mean (Hinton et al., 2015, section 1).

A folder holds `features.bin` (float16), `matrix.bin` (float32), `ends.bin` (int64, where the tokens of each pair end)
and `taught.json`. It appears as a whole or not at all.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clearhead.core.batching import cut
from clearhead.core.errors import DataError, ModelError
from clearhead.core.files import folder_atomic, read_json, require_space, write_json
from clearhead.core.progress import track
from clearhead.data.batches import translation_batch
from clearhead.data.store import Ids, Store, mapped
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.likelihood import linear_map, read_pairs

Features = npt.NDArray[np.float16]  # (labels of a pair, width)

CHUNK = 8_192  # pairs that are sorted by length together
ROOM = 1 << 26  # numbers that may be held at a time; fewer pairs where they are long or the teachers wide
BUDGET = 4_096  # padded tokens that a teacher reads together


class Taught:
    """Read access to a folder of `write_taught`.

    Attributes:
        about: what was given to be remembered.
        matrix: (vocab, width) float32 of the output layer.
    """

    def __init__(self, folder: Path) -> None:
        kept = read_json(folder / "taught.json", DataError)
        try:
            width, vocab = int(kept["width"]), int(kept["vocab"])
            self.about, self.folder = dict(kept["about"]), folder
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable(folder, f"{kept!r} in taught.json") from error
        self._ends = _numbers(folder / "ends.bin", np.dtype(np.int64))
        tokens = int(self._ends[-1]) if len(self._ends) else 0
        self._features = _table(folder / "features.bin", np.dtype(np.float16), (tokens, width))
        self.matrix = torch.from_numpy(_table(folder / "matrix.bin", np.dtype(np.float32), (vocab, width)).copy())

    def require(self, target: Store) -> None:
        """Refuse answers about other targets than those of this store."""
        if not np.array_equal(self._ends, _ends(target)):
            raise _unusable(self.folder, "answers about other texts")

    def of(self, rows: Ids) -> Tensor:
        """Features of the target tokens of these pairs, (tokens, width) float16."""
        ends = [(int(self._ends[row - 1]) if row else 0, int(self._ends[row])) for row in rows.tolist()]
        return torch.from_numpy(np.concatenate([self._features[start:end] for start, end in ends]))


def write_taught(
    folder: Path,
    teachers: Sequence[Transformer],
    stores: Sequence[Store],
    target: Tokenizer,
    *,
    device: torch.device,
    about: dict[str, Any],
    rehearsal: bool = False,
) -> None:
    """Ask all teachers about all pairs.

    Args:
        folder: of what they say.
        teachers: encoder-decoders with the same vocabularies, in eval mode.
        stores: sources and targets without special tokens.
        target: tokenizer that knows the special tokens.
        device: where the teachers work.
        about: to be remembered with it, as JSON.
        rehearsal: ask nobody; zeros take the room of what would be said.

    Raises:
        StorageError: there is no room for it.
        ModelError: a teacher's features are too large for float16, or no numbers.
    """
    matrix, ends = _joint_matrix(teachers, target.vocab_size), _ends(stores[1])
    width, labels = matrix.shape[1], stores[1].tokens + len(ends)  # each pair has a label more than tokens
    size = 2 * width * labels  # bytes of the features
    remedy = "free some space, or take fewer teachers, and continue with --resume"
    require_space(folder.parent, size + matrix.nbytes + ends.nbytes, "what the teachers say", remedy)
    with folder_atomic(folder) as temporary:
        with open(temporary / "features.bin", "wb") as file:
            if rehearsal:
                file.truncate(size)
            for pairs in () if rehearsal else _chunks(stores, ends, ROOM // width):
                file.writelines(each.tobytes() for each in _asked(teachers, pairs, target, device))
        matrix.tofile(temporary / "matrix.bin")
        ends.tofile(temporary / "ends.bin")
        write_json(temporary / "taught.json", {"width": width, "vocab": len(matrix), "about": about})


def _chunks(stores: Sequence[Store], ends: Ids, labels: int) -> Iterator[list[list[Ids]]]:
    """The two sides of so many pairs at a time that they have at most `labels`, or are one, with a progress bar."""
    count, start = len(stores[0]), 0
    with track("asking teachers, pair", count) as bar:
        while start < count:
            before = int(ends[start - 1]) if start else 0
            stop = min(start + CHUNK, max(start + 1, int(np.searchsorted(ends, before + labels, side="right"))))
            yield [[store[row] for row in range(start, stop)] for store in stores]
            bar(stop)
            start = stop


@torch.no_grad()
def _joint_matrix(teachers: Sequence[Transformer], vocab: int) -> npt.NDArray[np.float32]:
    """(vocab, sum of widths): its product with all features is the mean of the teachers' logits.

    The mean row is taken from all rows: a softmax does not feel it, and smaller logits are more exact in bfloat16.
    """
    parts = []
    for teacher in teachers:
        nothing = torch.zeros(0, teacher.config.d_model, device=teacher.head.matrix.device)
        parts.append(linear_map(teacher.head, nothing)[1][:vocab])  # a table may have more rows than there are words
    joint = torch.cat(parts, dim=1).float() / len(teachers)
    matrix: npt.NDArray[np.float32] = (joint - joint.mean(dim=0)).cpu().numpy()
    return matrix


@torch.no_grad()
def _asked(
    teachers: Sequence[Transformer], pairs: list[list[Ids]], tokenizer: Tokenizer, device: torch.device
) -> list[Features]:
    """What all teachers say of each pair, (its labels, sum of widths)."""
    sizes = [max(len(source), len(target)) + 1 for source, target in zip(*pairs, strict=True)]
    order = sorted(range(len(sizes)), key=lambda index: (len(pairs[1][index]), sizes[index]))
    pad, bos, eos = (tokenizer.need(each) for each in ("pad", "bos", "eos"))
    features: list[Features] = [np.empty((0, 0), np.float16)] * len(sizes)
    for part in cut([sizes[index] for index in order], BUDGET):
        source, target = ([side[index] for index in order[part]] for side in pairs)
        batch = translation_batch(source, target, pad=pad, bos=bos, eos=eos).to(device)
        said = [linear_map(each.head, read_pairs(each, batch)[batch.counted])[0] for each in teachers]
        kept = torch.cat(said, dim=1).to(torch.float16)
        if not kept.isfinite().all():
            raise ModelError("a teacher's features are too large for float16, or no numbers", remedy="take another one")
        ends = np.cumsum([len(each) + 1 for each in target])[:-1]
        for index, own in zip(order[part], np.split(kept.cpu().numpy(), ends), strict=True):
            features[index] = own
    return features


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
