"""Every failure that a user can cause, each told in one line: where, what, found, expected, remedy.

ClearheadError                exit status 1
├── UsageError                exit status 2: the command was called wrongly
│   └── ConfigError           a recipe, an override or an option is wrong
├── DataError                 a corpus or an input text cannot be used
├── TokenizerError            a tokenizer cannot be trained, read or applied
├── ModelError                a model is asked for what it cannot do
│   └── BusyError             an engine has too many requests already
├── BundleError               a model folder cannot be read or written
├── CheckpointError           a run cannot be continued
├── TrainingError             a training cannot go on
│   └── ProcessError          another process of the run has gone
└── StorageError              the disk is full, a folder is not writable
"""

import unicodedata

LONGEST = 300  # characters of a value that a message shows


class ClearheadError(Exception):
    """A failure with a cause that the user can see and a remedy that the user can apply.

    Args:
        what: what went wrong, without a full stop.
        where: file, line, recipe key or command it went wrong in.
        found: the offending value.
        expected: what would have been right.
        remedy: what to do now, as an imperative.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.found, self.expected, self.remedy = what, where, found, expected, remedy
        super().__init__(self._line())

    def _line(self) -> str:
        parts = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.found is not None:
            parts.append(f"found {_short(str(self.found))}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.remedy is not None:
            parts.append(self.remedy)
        return one_line("; ".join(parts))


def one_line(text: str) -> str:
    """Line breaks and tabs as spaces; control characters escaped, so that a file's bytes cannot steer a terminal."""
    joined = " ".join(part.strip() for part in text.replace("\t", " ").splitlines())
    return "".join(each if unicodedata.category(each) not in ("Cc", "Cs") else ascii(each)[1:-1] for each in joined)


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}... ({len(value):,} characters)"


class UsageError(ClearheadError):
    """The command or function was called wrongly."""

    exit_code = 2


class ConfigError(UsageError, ValueError):
    """A recipe, an override or an option is wrong. A ValueError too, so that pydantic collects it with its place."""


class DataError(ClearheadError):
    """A corpus or an input text cannot be used."""


class TokenizerError(ClearheadError):
    """A tokenizer cannot be trained, read or applied."""


class ModelError(ClearheadError):
    """A model is asked for what it cannot do."""


class BundleError(ClearheadError):
    """A model folder cannot be read or written."""


class CheckpointError(ClearheadError):
    """A run cannot be continued from what its folder holds."""


class TrainingError(ClearheadError):
    """A training cannot go on."""


class ProcessError(TrainingError):
    """Another process of the run has gone while this one waited for it."""


class StorageError(ClearheadError):
    """The disk is full, or a place cannot be written."""
