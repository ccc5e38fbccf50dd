"""The one tokenizer that every other room sees: text to ids and back, whatever the algorithm behind it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import SupportsIndex

from tokenizers import Tokenizer as Backend

from clearhead.core.errors import TokenizerError
from clearhead.core.files import make_folder, read_json, write_atomic
from clearhead.text.special import discover


class Tokenizer:
    """Text to token ids and back. Immutable, picklable, and safe to share between threads.

    A special token enters a sequence only by its id: the literal `<eos>` in a text is ordinary text. Lone
    surrogates, which no UTF-8 file can hold, count as the replacement character U+FFFD; every other string is
    encoded as it is.

    Args:
        backend: a tokenizer of the `tokenizers` library; taken over, not copied.
        special: tokens for some roles (`{"eos": "<|im_end|>"}`) where the common names do not tell.

    Attributes:
        pad, unk, bos, eos, mask, cls, sep: ids of the special tokens; None where the vocabulary lacks one.
            `[CLS]` and `[SEP]` also serve as bos and eos, and `<bos>`/`<s>` and `<eos>`/`</s>` as cls and
            sep.
        given: the tokens that were named for some roles; no file of the library holds them.
        special_ids: the ids of all special tokens, extra ones included.
        vocab_size: one more than the largest id.
    """

    pad: int | None
    unk: int | None
    bos: int | None
    eos: int | None
    mask: int | None
    cls: int | None
    sep: int | None

    def __init__(self, backend: Backend, special: Mapping[str, str] | None = None) -> None:
        backend.encode_special_tokens = True  # their literals in a text are text
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.given = dict(special or {})
        added = backend.get_added_tokens_decoder()
        self._roles = discover({each.content for each in added.values() if each.special}, special)
        self.pad, self.unk, self.bos, self.eos = (self._role(name) for name in ("pad", "unk", "bos", "eos"))
        self.mask, self.cls, self.sep = (self._role(name) for name in ("mask", "cls", "sep"))
        roles = {self.token_id(token) for token in self._roles.values()}
        self.special_ids = frozenset({index for index, each in added.items() if each.special} | roles)
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
        self._forgeable = self.special_ids - {self.unk}

    # --- text to ids ---

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """The ids of a text, after the bos id and before the eos id where asked; no text gives no ids.

        Raises:
            TokenizerError: the vocabulary has no such token, or `text` is not a string.
        """
        ids = self.backend.encode(well_formed(text), add_special_tokens=False).ids
        start = [self.need("bos")] if bos else []
        return start + self._unforged(ids) + ([self.need("eos")] if eos else [])

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as `encode` gives them, on all cores."""
        if isinstance(texts, str):
            raise TokenizerError("one string is not a batch", expected="a sequence of strings", remedy="pass [text]")
        batch = self.backend.encode_batch_fast([well_formed(each) for each in texts], add_special_tokens=False)
        return [self._unforged(each.ids) for each in batch]

    def tokens(self, ids: Sequence[SupportsIndex]) -> list[str]:
        """The token of each id as the vocabulary writes it (`Ġthe`, `##ing`)."""
        return [self.backend.id_to_token(each) or "" for each in self._checked(ids)]

    def pieces(self, text: str) -> list[str]:
        """The tokens that a text is cut into, as the vocabulary writes them."""
        return self.tokens(self.encode(text))

    # --- ids to text ---

    def decode(self, ids: Sequence[SupportsIndex], *, skip_special: bool = True) -> str:
        """The text of some ids, without the special tokens, `<unk>` among them, if `skip_special`.

        Raises:
            TokenizerError: an id is outside the vocabulary.
        """
        return self.backend.decode(self._checked(ids), skip_special_tokens=skip_special)

    def decode_batch(self, batch: Sequence[Sequence[SupportsIndex]], *, skip_special: bool = True) -> list[str]:
        """The text of each list of ids, as `decode` gives it, on all cores."""
        return self.backend.decode_batch([self._checked(ids) for ids in batch], skip_special_tokens=skip_special)

    # --- the vocabulary ---

    def need(self, role: str) -> int:
        """The id of the special token in that role; a TokenizerError where the vocabulary has none."""
        if role not in self._roles:
            raise TokenizerError(
                f"this vocabulary has no {role} token",
                found=f"special tokens {', '.join(self.tokens(sorted(self.special_ids))) or '(none)'}",
                remedy=f"name one: Tokenizer.load(path, special={{{role!r}: ...}})",
            )
        return self.token_id(self._roles[role])

    def token_id(self, token: str) -> int:
        """The id of one token of the vocabulary, special or not; a TokenizerError where there is none."""
        index = self.backend.token_to_id(token)
        if index is None:
            raise TokenizerError(f"no token {token!r} in this vocabulary of {self.backend.get_vocab_size():,}")
        return index

    def vocabulary(self) -> dict[str, int]:
        """Every token and its id, in the order of the ids."""
        return dict(sorted(self.backend.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1]))

    # --- files ---

    def save(self, path: Path | str) -> None:
        """Write one `tokenizer.json`, atomically; a folder gets a file of that name."""
        path = _file(Path(path))
        make_folder(path.parent)
        write_atomic(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str, *, special: Mapping[str, str] | None = None) -> "Tokenizer":
        """Open a `tokenizer.json`, ours or any from Hugging Face, or the one in a folder.

        Raises:
            TokenizerError: no such file, cut off, not JSON, or not a tokenizer.
        """
        path = _file(Path(path))
        document = read_json(path, TokenizerError)
        if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
            raise TokenizerError(
                "JSON, but not a tokenizer", where=path, expected="the tokenizer.json of a model folder"
            )
        try:
            return cls(Backend.from_file(str(path)), special)
        except TokenizerError:
            raise
        except Exception as problem:  # the library raises nothing narrower
            raise TokenizerError("not a tokenizer that can be opened", where=path, found=str(problem)) from None

    def to_json(self) -> str:
        """The `tokenizer.json` document as text."""
        return self.backend.to_str(pretty=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and (self._roles, self.to_json()) == (
            other._roles,
            other.to_json(),
        )

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[object, ...]:
        return _from_json, (self.to_json(), self.given)

    def __repr__(self) -> str:
        return f"Tokenizer({type(self.backend.model).__name__}, {self.vocab_size:,} tokens)"

    # --- helpers ---

    def _role(self, role: str) -> int | None:
        return self.token_id(self._roles[role]) if role in self._roles else None

    def _checked(self, ids: Sequence[SupportsIndex]) -> list[int]:
        plain = [each.__index__() for each in ids]
        if plain and not (min(plain) >= 0 and max(plain) < self.vocab_size):
            wrong = next(each for each in plain if not 0 <= each < self.vocab_size)
            raise TokenizerError("an id outside the vocabulary", found=wrong, expected=f"0 to {self.vocab_size - 1}")
        return plain

    def _unforged(self, ids: list[int]) -> list[int]:
        """Spell out a special token that the model itself matched: some files list `</s>` as a piece."""
        if self._forgeable.isdisjoint(ids):
            return ids
        spelled = {forged: self._spelled(forged) for forged in self._forgeable.intersection(ids)}
        return [part for each in ids for part in spelled.get(each, [each])]

    def _spelled(self, forged: int) -> list[int]:
        literal = self.backend.id_to_token(forged) or ""
        return [each.id for part in (literal[:1], literal[1:]) for each in self.backend.model.tokenize(part)]


def _from_json(document: str, special: Mapping[str, str]) -> Tokenizer:
    return Tokenizer(Backend.from_str(document), special)


def _file(path: Path) -> Path:
    return path / "tokenizer.json" if path.is_dir() else path


def well_formed(text: object) -> str:
    """The text with each surrogate pair joined and each lone surrogate replaced by U+FFFD."""
    if not isinstance(text, str):
        raise TokenizerError("only text can be encoded", found=type(text).__name__, expected="str")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
