"""Constraints by the llguidance library, which compiles grammars and computes the tokens that may come next."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clearhead.core.errors import ConfigError, ModelError
from clearhead.generate.sampling.base import Context
from clearhead.generate.sampling.constraints.base import Constraint
from clearhead.generate.sampling.spelling import Spelling


class Guided(Constraint):
    """A constraint that llguidance can follow; a kind says its grammar."""

    def grammar(self, library: Any) -> str:
        """The grammar in the library's own notation."""
        raise NotImplementedError

    def matcher(self, context: Context) -> "GuidedMatcher":
        library = _library()
        if context.spelling is None or context.eos is None:
            missing = "the bytes of the tokens" if context.spelling is None else "the end of text"
            raise ModelError(f"a constraint needs {missing}", remedy="use a model that has its tokenizer")
        tokenizer = _tokenizer(library, context.spelling, context.vocab, context.eos)
        matcher = library.LLMatcher(tokenizer, self.grammar(library), log_level=0)
        _check(matcher)
        return GuidedMatcher(matcher, context.vocab)


class GuidedMatcher:
    """The library's matcher behind our doorway."""

    def __init__(self, matcher: Any, vocab: int) -> None:
        self._matcher, self._vocab = matcher, vocab
        self._allowed: Tensor | None = None  # here; None = not computed

    def allowed(self) -> Tensor:
        if self._allowed is None:
            self._allowed = self._computed()
        return self._allowed

    def advance(self, token: int) -> None:
        if not self.allowed()[token]:
            raise ModelError("this token breaks the constraint", found=token, remedy="choose one that is allowed")
        if not self._matcher.consume_token(token):
            raise _cannot_write()
        self._allowed = None

    def fork(self) -> "GuidedMatcher":
        return GuidedMatcher(self._matcher.deep_copy(), self._vocab)

    def _computed(self) -> Tensor:
        bits = np.zeros((self._vocab + 31) // 32, dtype=np.int32)  # one bit for each token
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        _check(self._matcher)
        whole = np.unpackbits(bits.view(np.uint8), count=self._vocab, bitorder="little")  # (vocab,)
        return torch.from_numpy(whole.view(np.bool_))


class _Tokens:
    """What the library asks of a tokenizer. What a constraint forces comes in the tokenizer's own cut alone."""

    bos_token_id = None

    def __init__(self, spelling: Spelling, vocab: int, eos: int) -> None:
        known = [*spelling.tokens[:vocab], *[None] * (vocab - len(spelling.tokens))]
        self.special_token_ids = [token for token, each in enumerate(known) if not each or token == eos]
        names = {token: f"<|special {token}|>".encode() for token in self.special_token_ids}
        self.tokens = [names.get(token, each) for token, each in enumerate(known)]
        self.eos_token_id = eos
        self._cut = spelling.cut

    def __call__(self, text: bytes) -> list[int]:
        return self._cut(text)


def _tokenizer(library: Any, spelling: Spelling, vocab: int, eos: int) -> Any:
    """The vocabulary as the library wants it, prepared once for each spelling."""
    key = ("llguidance", vocab, eos)
    if key not in spelling.compiled:
        tokens = library.TokenizerWrapper(_Tokens(spelling, vocab, eos))
        spelling.compiled[key] = library.LLTokenizer(tokens, n_vocab=vocab)
    return spelling.compiled[key]


def _library() -> Any:
    if find_spec("llguidance") is None:
        remedy = "pip install 'clearhead[constraints]'"
        raise ConfigError("a constraint needs the llguidance library", remedy=remedy)
    return import_module("llguidance")


def _check(matcher: Any) -> None:
    if not matcher.is_error():
        return
    found = matcher.get_error().partition(" <state>")[0]
    if found.startswith("NoExtension"):
        raise _cannot_write()
    raise ConfigError("the constraint cannot be followed", found=found, remedy="correct or simplify it")


def _cannot_write() -> ModelError:
    remedy = "use a vocabulary that has all bytes"
    return ModelError("this vocabulary cannot write what the constraint demands", remedy=remedy)
