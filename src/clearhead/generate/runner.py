"""The engine's hands: the only place where samples meet tensors. Samples in, logits of their next tokens out."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from clearhead.generate.caches import Cache, Call, Part, Sources, Tokens
from clearhead.generate.caches.base import MemoryOf, no_memory
from clearhead.generate.caches.sources import Source
from clearhead.model import CAUSAL, OPEN, Memory, Transformer

PADDING = 64  # tokens of padding that no one minds: less than a call of its own costs
Logits = tuple[list[Tokens], Tensor]  # samples and (samples, vocab), at least float32


class Runner:
    """Runs a model on samples and keeps their keys and values.

    Args:
        model: a decoder-only model or an encoder-decoder, in eval mode.
        cache: where keys and values are.
    """

    def __init__(self, model: Transformer, cache: Cache) -> None:
        self.model, self.cache = model, cache
        self.sources = Sources()
        self.readers: set[Tokens] = set()  # samples that are counted among the readers of their source

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.output.device

    @property
    def bytes(self) -> int:
        """Bytes of all keys and values."""
        return self.cache.bytes + self.sources.bytes

    @torch.inference_mode()
    def read(self, parts: Sequence[Part[Tokens]]) -> list[Logits]:
        """Read parts of samples; logits come for those that are read to their end."""
        found = []
        for group in groups(parts, known=lambda each: each.source is None or each.source in self.sources):
            for each in group:
                self._enter(each.sample)
            hidden = self._read(group)
            if group[-1].last:
                found.append(([each.sample for each in group], self._logits(hidden)))
        return found

    @torch.inference_mode()
    def advance(self) -> Logits:
        """One step of all samples that have joined: the cache takes in the newest token of each."""
        samples = list(self.cache.order)
        tokens = torch.tensor([[each.tokens[-1]] for each in samples], device=self.device)  # (rows, 1)
        memory, known = self._known([each.source for each in samples])
        call = self.cache.advance(self.device, known)
        return samples, self._logits(self._decode(tokens, memory, call))

    @torch.inference_mode()
    def fork(self, sample: Tokens, child: Tokens) -> None:
        """A new sample with the tokens of one that has joined."""
        self._enter(child)
        self.cache.fork(sample, child)

    @torch.inference_mode()
    def drop(self, sample: Tokens) -> None:
        """Forget a sample."""
        self.cache.drop(sample)
        if sample in self.readers:
            self.readers.remove(sample)
            self.sources.leave(sample.source or ())

    @torch.inference_mode()
    def copy(self, sample: Tokens, index: int, old: int) -> None:
        """Block `index` of a sample is new: fill it with what block `old` holds."""
        self.cache.copy(sample, index, old)

    def _enter(self, sample: Tokens) -> None:
        if sample.source is not None and sample not in self.readers:
            self.readers.add(sample)
            self.sources.add(sample.source)

    def _read(self, group: Sequence[Part[Tokens]]) -> Tensor:
        pad, read = self.model.config.pad, [each.sample.source for each in group]
        tokens, _ = left_padded([each.sample.tokens[each.start : each.stop] for each in group], pad, self.device)
        new = [each for each in read if each is not None and each not in self.sources]
        memory, known = self._encode(read) if new else self._known(read)
        call = self.cache.read(group, self.device, known)
        hidden = self._decode(tokens, memory, call)
        if new:
            self.sources.keep()
        call.close()
        return hidden

    def _known(self, read: Sequence[Source | None]) -> tuple[Memory | None, MemoryOf]:
        """The memory of samples whose sources, if they have any, were read before."""
        sources = [each for each in read if each is not None]
        if not sources:
            return None, no_memory
        return self.sources.memory(sources, self.model.config.d_model, self.device)

    def _encode(self, read: Sequence[Source | None]) -> tuple[Memory, MemoryOf]:
        """The memory of samples, some of whose sources are new."""
        sources = [each or () for each in read]
        ids, valid = left_padded(sources, self.model.config.pad, self.device)
        return self.model.encode(ids, valid), self.sources.writing(sources)

    def _decode(self, tokens: Tensor, memory: Memory | None, call: Call) -> Tensor:
        mask = OPEN if tokens.shape[1] == 1 else CAUSAL
        return self.model.decode(tokens, memory, valid=call.valid, mask=mask, positions=call.positions, cache=call)

    def _logits(self, hidden: Tensor) -> Tensor:
        """(rows, length, d_model) -> logits after the last token, (rows, vocab)."""
        logits = self.model.logits(hidden[:, -1])
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Ids (rows, longest) int64 with padding on the left, and which are none of it; None = no padding."""
    longest = max(len(each) for each in rows)
    ids = torch.tensor([[pad] * (longest - len(each)) + list(each) for each in rows], device=device)
    if min(len(each) for each in rows) == longest:
        return ids, None
    lengths = torch.tensor([len(each) for each in rows], device=device)
    return ids, torch.arange(longest, device=device) >= longest - lengths[:, None]


def groups(parts: Iterable[Part[Tokens]], known: Callable[[Tokens], bool]) -> Iterator[list[Part[Tokens]]]:
    """Parts that go into one call: whole samples of similar length together, everything else alone.

    Samples whose source is known and samples whose source must be encoded do not go together.
    """
    whole: dict[bool, list[Part[Tokens]]] = {True: [], False: []}
    for each in parts:
        if each.start == 0 and each.last:
            whole[known(each.sample)].append(each)
        else:
            yield [each]
    for of_a_kind in whole.values():
        yield from _similar(sorted(of_a_kind, key=_size))


def _similar(parts: Sequence[Part[Tokens]]) -> Iterator[list[Part[Tokens]]]:
    """Cut parts, the shortest first, so that no more than a third of a call is padding."""
    group: list[Part[Tokens]] = []
    for each in parts:
        if group and (len(group) + 1) * _size(each) > 1.5 * sum(map(_size, [*group, each])) + PADDING:
            yield group
            group = []
        group.append(each)
    if group:
        yield group


def _size(part: Part[Tokens]) -> int:
    return part.stop + len(part.sample.source or ())
