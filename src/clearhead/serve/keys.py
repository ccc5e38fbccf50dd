"""Who may ask."""

import hmac
from collections.abc import Sequence
from hashlib import sha256

OPEN = frozenset({"/", "/health", "/ready", "/favicon.ico"})  # what anybody may see: no model is asked
OPEN_FOLDERS = ("/page/", "/lab/")


class Keys:
    """The keys that open a server; without any it is open."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(each) for each in keys]

    def open(self, given: str | None) -> bool:
        """Whether a key opens; how long the answer takes tells nothing about the keys."""
        if not self._digests:
            return True
        digest = _digest(given or "")
        found = [hmac.compare_digest(digest, each) for each in self._digests]  # all of them, whatever comes first
        return any(found)


def bearer(header: str | None) -> str | None:
    """The key in an Authorization header, whose bytes are UTF-8."""
    scheme, _, key = (header or "").partition(" ")
    return key.strip().encode("latin-1").decode(errors="replace") if scheme.lower() == "bearer" else None


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN or path.startswith(OPEN_FOLDERS)


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogatepass")).digest()
