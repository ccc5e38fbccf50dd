"""Bytes from an address, and every way in which that fails, in one line."""

import gzip
import hashlib
import http.client
import io
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path
from typing import NoReturn

import clearhead
from clearhead.core.errors import DataError

SCHEMES = ("http", "https", "file")
AGAIN = "run the command again; files that are complete stay"
_PIECE = 1 << 16  # bytes read at a time


def join(base: str, name: str) -> str:
    """The address of a file beneath a base: an http, https or file address, or a plain folder."""
    if "://" not in base:
        base = Path(base).resolve().as_uri()
    try:
        scheme, url = urllib.parse.urlsplit(base).scheme, urllib.parse.urljoin(base.rstrip("/") + "/", name)
    except ValueError as error:
        raise DataError("not an address", where=base, found=error) from None
    if scheme not in SCHEMES:
        raise DataError("this kind of address is not supported", where=base, expected=f"one of {', '.join(SCHEMES)}")
    return url


def fetch(url: str, *, limit: int, timeout: float) -> bytes | None:
    """All bytes at an address; None if there is nothing at it. Proxies are taken from the environment.

    Args:
        limit: the largest number of bytes that is accepted.
        timeout: seconds to wait for a connection, and for each piece. The whole may take twenty times as long.

    Raises:
        DataError: no network, an error of the server, a transfer that is cut off, too slow or too long.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"clearhead/{clearhead.__version__}"})
    try:
        opener = urllib.request.build_opener()  # with the proxies that the environment names now
        with opener.open(request, timeout=timeout) as response:
            return _all(response, url, limit, time.monotonic() + 20 * timeout)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return None
        remedy = "check the proxy of your network" if error.code in (403, 407) else "try again later"
        raise DataError("the server refuses", where=url, found=f"{error.code} {error.reason}", remedy=remedy) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, FileNotFoundError):
            return None
        _unreachable(url, error.reason, timeout)
    except (OSError, http.client.HTTPException) as error:
        _unreachable(url, error, timeout)
    except ValueError as error:
        raise DataError("not an address", where=url, found=error) from None


def unpacked(raw: bytes, *, limit: int, where: object) -> bytes:
    """The content of gzip bytes; any other bytes as they are.

    Raises:
        DataError: damaged or cut off, or more than `limit` bytes when unpacked.
    """
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            text = file.read(limit + 1)
    except EOFError:
        raise DataError("a .gz file that is cut off", where=where, found=f"{len(raw):,} bytes", remedy=AGAIN) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError("a damaged .gz file", where=where, found=error, remedy=AGAIN) from None
    if len(text) > limit:
        raise DataError("too long when unpacked", where=where, expected=f"at most {limit:,} bytes")
    return text


def sha256(data: bytes) -> str:
    """The checksum as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _all(response: http.client.HTTPResponse, url: str, limit: int, deadline: float) -> bytes:
    announced = response.headers.get("Content-Length")
    pieces, size = list[bytes](), 0
    while piece := response.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise DataError("the file is longer than it should be", where=url, expected=f"at most {limit:,} bytes")
        if time.monotonic() > deadline:
            raise DataError("the server is too slow", where=url, found=f"{size:,} bytes so far", remedy="try later")
    if announced is not None and announced.isdecimal() and size < int(announced):
        raise _cut_off(url, f"{size:,} of {int(announced):,} bytes")
    return b"".join(pieces)


def _cut_off(url: str, found: str) -> DataError:
    return DataError("the transfer was cut off", where=url, found=found, remedy=AGAIN)


def _unreachable(url: str, reason: object, timeout: float) -> NoReturn:
    if isinstance(reason, http.client.IncompleteRead):
        raise _cut_off(url, f"{len(reason.partial):,} bytes") from None
    if isinstance(reason, TimeoutError):
        raise DataError("no answer", where=url, found=f"silence for {timeout:g} s", remedy="try again later") from None
    if isinstance(reason, ssl.SSLCertVerificationError):
        remedy = "check the clock and the certificates of this machine, or a proxy in between"
        raise DataError("the server's certificate is not trusted", where=url, remedy=remedy) from None
    if isinstance(reason, IsADirectoryError | PermissionError):
        raise DataError("cannot read", where=url, found=(reason.strerror or "").lower()) from None
    found = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    remedy = "check the network or https_proxy, or fetch the files elsewhere and name their folder as the base URL"
    raise DataError("cannot reach the server", where=url, found=str(found).lower(), remedy=remedy) from None
