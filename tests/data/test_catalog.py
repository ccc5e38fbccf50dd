"""The catalogue: records that hold together, and downloads that end in complete files or in one line."""

import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from clearhead.core.errors import ClearheadError, DataError, StorageError
from clearhead.core.registry import Choice
from clearhead.data import catalog as module
from clearhead.data.catalog import Dataset, catalog, dataset, describe, get
from clearhead.data.download import fetch, join, unpacked
from clearhead.data.sources import SOURCES

RAW = "A  dog runs .\n\tZwei Männer\u00a0lachen.  \nThe end\n".encode()
TEXT = "A dog runs .\nZwei Männer lachen.\nThe end\n".encode()
PLAIN = b"kept  as it is \r\n"


class Server:
    """A little web server; `answers` maps a path to a function that writes the response."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.answers.get(self.path, lambda handler: handler.send_error(404))(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def give(self, path: str, body: bytes, *, announce: int | None = None, status: int = 200) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body) if announce is None else announce))
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue with two more records: one packed and with its white space normalised, one as it is."""

    def record(name: str, text: bytes, **more: object) -> Dataset:
        facts = {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text), "lines": text.count(b"\n")}
        common = {"task": "test", "languages": ["en"], "licence": "none", "citation": "none", "kind": "download"}
        urls = {"base_url": "http://127.0.0.1:1/", "homepage": "https://example.org"}
        url = "a.txt.gz" if more else "a.txt"
        file = {"name": "a.txt", "url": url, **facts, **({"download": more.pop("download")} if more else {})}
        return Dataset.model_validate({"name": name, "title": name, **common, **urls, "files": [file], **more})

    md5 = f"md5:{hashlib.md5(gzip.compress(RAW, mtime=0)).hexdigest()}"
    records = [*catalog(), record("toy", TEXT, white_space="single", download=md5), record("plain", PLAIN)]
    monkeypatch.setattr(module, "catalog", lambda: records)


def refusal(kind: type[ClearheadError] = DataError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        get(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def silent(_: str) -> None:
    pass


# --- records ---


def test_every_record_holds_together():
    records = catalog()
    assert len({each.name for each in records}) == len(records)
    for each in records:
        assert (each.kind == "download") == bool(each.files) == (each.base_url is not None)
        assert (each.kind == "own") == (each.format is not None)
        assert len({file.name for file in each.files}) == len(each.files)
        assert all("/" not in file.name and file.lines > 0 for file in each.files)


def test_the_line_that_a_record_offers_for_a_recipe_is_a_data_source():
    for each in catalog():
        if each.use:
            SOURCES.check(Choice.model_validate(yaml.safe_load(each.use)))


def test_aligned_files_have_equally_many_lines():
    by_split: dict[str, set[int]] = {}
    for file in dataset("multi30k").files:
        by_split.setdefault(file.name.rpartition(".")[0], set()).add(file.lines)
    assert by_split["train"] == {29_000}
    assert all(len(each) == 1 for each in by_split.values())


def test_what_cannot_be_fetched_says_what_to_do(tmp_path):
    own = refusal(name="tatoeba_zh_en", folder=tmp_path)
    assert "cannot be fetched" in own
    assert "English, a tab, Chinese" in own
    told: list[str] = []
    assert get("embedded", tmp_path, progress=told.append) == []
    assert "nothing to fetch" in told[0]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_gets_its_nearest():
    with pytest.raises(DataError, match=r"called 'multi30'; expected one of .*; did you mean 'multi30k'"):
        dataset("multi30")


# --- fetching ---


def test_a_file_arrives_unpacked_and_normalised(server, tmp_path):
    server.give("/x/a.txt.gz", gzip.compress(RAW))
    told: list[str] = []
    paths = get("toy", tmp_path / "new" / "toy", base_url=f"{server.url}/x", progress=told.append)
    assert paths == [tmp_path / "new" / "toy" / "a.txt"]
    assert paths[0].read_bytes() == TEXT
    assert told == [f"{paths[0]}: 3 lines"]
    assert [each.name for each in paths[0].parent.iterdir()] == ["a.txt"]


def test_a_complete_file_is_not_fetched_again_and_a_damaged_one_is(server, tmp_path):
    server.give("/a.txt.gz", gzip.compress(RAW))
    for _ in range(2):
        get("toy", tmp_path, base_url=server.url, progress=silent)
    assert server.asked == ["/a.txt.gz"]
    (tmp_path / "a.txt").write_bytes(TEXT[:-1] + b"X")
    get("toy", tmp_path, base_url=server.url, progress=silent)
    assert server.asked == ["/a.txt.gz"] * 2
    assert (tmp_path / "a.txt").read_bytes() == TEXT


def test_white_space_is_kept_unless_the_record_says_otherwise(server, tmp_path):
    server.give("/a.txt", PLAIN)
    assert get("plain", tmp_path, base_url=server.url, progress=silent)[0].read_bytes() == PLAIN


@pytest.mark.parametrize("form", ["folder", "address"])
@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt"])
def test_a_mirror_may_be_a_folder_and_hold_the_files_unpacked(form, name, tmp_path):
    mirror = tmp_path / "my mirror"
    mirror.mkdir()
    (mirror / name).write_bytes(gzip.compress(RAW) if name.endswith("gz") else TEXT)
    base = str(mirror) if form == "folder" else mirror.as_uri()
    assert get("toy", tmp_path / "out", base_url=base, progress=silent)[0].read_bytes() == TEXT


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    server.give("http://origin.invalid/a.txt", PLAIN)
    monkeypatch.setenv("http_proxy", server.url)
    assert get("plain", tmp_path, base_url="http://origin.invalid", progress=silent)
    assert server.asked == ["http://origin.invalid/a.txt"]


# --- failing ---


def test_wrong_content_leaves_the_old_file(server, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"old")
    server.give("/a.txt", b"not what was asked for")
    message = refusal(name="plain", folder=tmp_path, base_url=server.url, progress=silent)
    assert "wrong checksum, nothing was written; found" in message
    assert hashlib.sha256(b"not what was asked for").hexdigest() in message
    assert f"expected {hashlib.sha256(PLAIN).hexdigest()} ({len(PLAIN)} bytes)" in message
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_a_published_file_that_does_not_fit_the_record_is_told_apart(server, tmp_path, monkeypatch):
    server.give("/a.txt.gz", gzip.compress(RAW, mtime=0))
    monkeypatch.setattr(module, "_as_on_disk", lambda text, record, url: text)
    message = refusal(name="toy", folder=tmp_path, base_url=server.url, progress=silent)
    assert "the record is at fault: please report it" in message


def test_a_missing_file_names_its_address(server, tmp_path):
    message = refusal(name="toy", folder=tmp_path, base_url=server.url, progress=silent)
    assert message == f"{server.url}/a.txt.gz: the file is not there; check the base URL"
    message = refusal(name="toy", folder=tmp_path, base_url=str(tmp_path / "nowhere"), progress=silent)
    assert "the file is not there" in message


def test_a_truncated_answer_is_told(server, tmp_path):
    server.give("/a.txt", PLAIN[:5], announce=len(PLAIN))
    message = refusal(name="plain", folder=tmp_path, base_url=server.url, progress=silent)
    assert f"the transfer was cut off; found 5 of {len(PLAIN)} bytes; run the command again" in message


def test_a_truncated_or_damaged_archive_is_told(server, tmp_path):
    packed = gzip.compress(RAW)
    server.give("/a.txt.gz", packed[:-7])
    assert "a .gz file that is cut off" in refusal(name="toy", folder=tmp_path, base_url=server.url, progress=silent)
    server.give("/a.txt.gz", packed[:20] + b"####" + packed[24:])
    assert "a damaged .gz file" in refusal(name="toy", folder=tmp_path, base_url=server.url, progress=silent)


@pytest.mark.parametrize(
    ("status", "told"), [(500, "try again later"), (403, "check the proxy"), (407, "check the proxy")]
)
def test_a_refusal_of_the_server_is_told(status, told, server, tmp_path):
    server.give("/a.txt", b"", status=status)
    message = refusal(name="plain", folder=tmp_path, base_url=server.url, progress=silent)
    assert f"the server refuses; found {status}" in message
    assert told in message


def test_a_silent_server_is_left_after_the_timeout(server, tmp_path):
    released = threading.Event()
    server.answers["/a.txt"] = lambda handler: released.wait(5)
    start = time.monotonic()
    message = refusal(name="plain", folder=tmp_path, base_url=server.url, progress=silent, timeout=0.2)
    assert "no answer; found silence for 0.2 s" in message
    assert time.monotonic() - start < 3
    released.set()


def test_a_server_that_falls_silent_halfway_is_left_too(server, tmp_path):
    released = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(PLAIN)))
        handler.end_headers()
        handler.wfile.write(PLAIN[:3])
        released.wait(5)

    server.answers["/a.txt"] = stall
    message = refusal(name="plain", folder=tmp_path, base_url=server.url, progress=silent, timeout=0.2)
    assert "no answer; found silence for 0.2 s" in message
    released.set()
    assert list(tmp_path.iterdir()) == []


def test_an_endless_or_swollen_file_is_stopped(server, tmp_path):
    server.give("/a.txt", b"x" * 300_000)
    assert "longer than it should be" in refusal(name="plain", folder=tmp_path, base_url=server.url, progress=silent)
    server.give("/a.txt", gzip.compress(b"x" * 3_000_000))
    assert "too long when unpacked" in refusal(name="plain", folder=tmp_path, base_url=server.url, progress=silent)


def test_no_network_is_told_with_a_way_out(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{free.getsockname()[1]}"
    message = refusal(name="plain", folder=tmp_path, base_url=base, progress=silent)
    assert message.startswith(f"{base}/a.txt: cannot reach the server; found connection refused; check the network")
    message = refusal(name="plain", folder=tmp_path, base_url="http://nowhere.invalid", progress=silent, timeout=5)
    assert "cannot reach the server" in message


@pytest.mark.parametrize("base", ["ftp://example.org", "data://x", "http://[1"])
def test_an_odd_address_is_refused(base, tmp_path):
    with pytest.raises((DataError, ValueError)) as caught:
        get("plain", tmp_path, base_url=base, progress=silent)
    assert isinstance(caught.value, DataError)


def test_a_folder_that_cannot_be_is_a_storage_error(server, tmp_path):
    server.give("/a.txt", PLAIN)
    (tmp_path / "file").write_text("in the way")
    options = {"name": "plain", "base_url": server.url, "progress": silent}
    message = refusal(StorageError, folder=tmp_path / "file", **options)
    assert "a file stands where a folder is needed" in message


def test_an_interrupted_fetch_keeps_what_was_complete(server, tmp_path, monkeypatch):
    server.give("/a.txt", PLAIN)
    get("plain", tmp_path, base_url=server.url, progress=silent)
    (tmp_path / "a.txt").write_bytes(b"half of it was lost long ago")

    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fetch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get("plain", tmp_path, base_url=server.url, progress=silent)
    assert (tmp_path / "a.txt").read_bytes() == b"half of it was lost long ago"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


# --- pieces ---


def test_addresses_are_joined():
    assert join("http://a/b", "c.gz") == join("http://a/b/", "c.gz") == "http://a/b/c.gz"
    assert join("/a b", "c").endswith("/a%20b/c")


def test_several_members_of_an_archive_are_one_text():
    assert unpacked(gzip.compress(b"a\n") + gzip.compress(b"b\n"), limit=10, where="x") == b"a\nb\n"


def test_nothing_there_is_none(server, tmp_path):
    assert fetch(f"{server.url}/none", limit=1, timeout=5) is None
    assert fetch((tmp_path / "none").as_uri(), limit=1, timeout=5) is None


# --- facts about a record ---


def test_a_record_is_described_by_its_terms_and_files():
    facts = describe("multi30k")
    assert facts["languages"] == "en, de, fr"
    assert "non-commercial" in facts["licence"]
    assert facts["train.en"] == "29,000 lines, 1,801,236 bytes"
    assert all(isinstance(each, str) for each in facts.values())


def test_nothing_of_that_name_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no such file or folder, nor a data set of that name; did you mean 'toy'"):
        describe("toi", tmp_path)


def test_paths_are_strings_or_paths(tmp_path):
    Path(tmp_path / "a.txt").write_text("one\n")
    assert describe("a.txt", tmp_path) == describe(tmp_path / "a.txt")
