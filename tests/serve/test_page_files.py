"""The page is a fixed list of files that may ask nobody else for anything; the lab's report stays in its folder."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

import clearhead.serve
from clearhead.serve.app import application
from clearhead.serve.config import ServeConfig
from clearhead.serve.page_files import TYPES, files

PAGE = Path(clearhead.serve.__file__).parent / "page"
SOURCES = {each.name: each.read_text(encoding="utf-8") for each in PAGE.iterdir() if each.suffix in TYPES}
SCRIPTS = {name: text for name, text in SOURCES.items() if name.endswith(".js")}
CHINESE = "\u4e00-\u9fff"


@pytest.fixture
def client(hall, tmp_path):
    def build(**changes):
        return TestClient(
            application(hall, ServeConfig(**changes)), base_url="http://127.0.0.1", follow_redirects=False
        )

    return build


def test_every_file_is_served_as_it_is(client):
    ask = client()
    assert set(files()) == set(SOURCES)
    for name, text in SOURCES.items():
        answer = ask.get(f"/page/{name}")
        assert answer.text == text
        assert answer.headers["content-type"] == TYPES[Path(name).suffix]
    assert ask.get("/").text == SOURCES["index.html"]
    assert ask.head("/").status_code == 200


def test_a_file_that_the_browser_has_is_not_sent_again(client):
    first = client().get("/page/main.js")
    again = client().get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["none.js", "..%2F__init__.py", "../app.py", "%2e%2e/app.py", "__init__.py"])
def test_no_other_file_is_served(client, name):
    answer = client().get(f"/page/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_the_policy_allows_own_files_only(client):
    policy = client().get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_has_no_inline_code_and_no_foreign_address():
    page = SOURCES["index.html"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for name, text in SOURCES.items():
        addresses = set(re.findall(r"https?://[^\s\"'<>]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, name
        assert "@import" not in text


def test_no_script_makes_markup_of_text():
    for name, text in SCRIPTS.items():
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
        ):
            assert way not in text, name
        assert len(text.splitlines()) < 300, name


def test_every_import_is_a_file_of_the_page():
    for name, text in SCRIPTS.items():
        for wanted, source in re.findall(r'import \{([^}]*)\} from "\./([^"]+)"', text):
            for each in wanted.split(","):
                pattern = rf"export (async )?(function|class|const) {each.strip()}\b"
                assert re.search(pattern, SCRIPTS[source]), (name, source, each)


def words():
    pairs = re.findall(
        r'^  (?:"([^"]+)"|(\w+)): \[\s*("(?:[^"\\]|\\.)*"),\s*("(?:[^"\\]|\\.)*"),?\s*\]', SOURCES["words.js"], re.M
    )
    return {quoted or plain: (json.loads(en), json.loads(zh)) for quoted, plain, en, zh in pairs}


def test_every_text_is_there_in_both_languages():
    known = words()
    assert len(known) == SOURCES["words.js"].count(": [") > 150
    for key, (en, zh) in known.items():
        assert set(re.findall(r"\{\w+\}", en)) == set(re.findall(r"\{\w+\}", zh)) or key == "anyTextHint", key
    for name, text in SCRIPTS.items():
        for key in re.findall(r'\bsay\("([^"]+)"', text):
            assert key in known, (name, key)
    for key in re.findall(r'data-(?:text|label|placeholder)="([^"]+)"', SOURCES["index.html"]):
        assert key in known, key


def test_families_of_texts_are_complete():
    known = words()
    families = {
        "kind": ["encoder-decoder", "decoder-only", "encoder-only"],
        "verdict": ["supported", "refuted", "depends", "inconclusive"],
        "site": ["encoder", "decoder", "cross"],
        "picture": ["added", "rotated", "likeness", "bias"],
        "token": ["text", "bytes", "special"],
        "finish": ["stop", "length", "stopped", "failed"],
        "role": ["user", "assistant", "system"],
    }
    for family, names in families.items():
        assert all(f"{family} {each}" in known for each in names)


def test_chinese_texts_have_chinese_punctuation():
    for key, (_, zh) in words().items():
        assert not re.search(rf"[{CHINESE}][,;:?!()]|[,;:?!()][{CHINESE}]|[{CHINESE}]\.(\s|$)", zh), (key, zh)


def test_texts_of_the_document_are_those_of_the_dictionary():
    known = words()
    for key, text in re.findall(r'data-text="([^"]+)"[^>]*>([^<]+)<', SOURCES["index.html"]):
        assert text == known[key][0]


# --- the report of the lab ---


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "lab"
    (folder / "pictures").mkdir(parents=True)
    (folder / "index.html").write_text("<title>report</title>")
    (folder / "why.html").write_text("<title>why</title>")
    (folder / "pictures" / "why.svg").write_text("<svg/>")
    title = {"en": "Why?", "zh": "为什么？"}
    (folder / "why.json").write_text(json.dumps({"id": "why", "title": title, "verdicts": [{"verdict": "refuted"}]}))
    (folder / "broken.json").write_text("{")
    (tmp_path / "secret.html").write_text("secret")
    (folder / "link.html").symlink_to(tmp_path / "secret.html")
    (folder / "notes.txt").write_text("notes")
    return folder


def test_the_report_is_served_with_a_policy_of_its_own(client, report):
    ask = client(lab=report)
    assert ask.get("/lab").headers["location"] == "/lab/"
    for path, text in (("", "report"), ("index.html", "report"), ("why.html", "why"), ("pictures/why.svg", "svg")):
        answer = ask.get(f"/lab/{path}")
        assert (answer.status_code, text in answer.text) == (200, True)
        assert (
            "connect-src 'none'" in answer.headers["content-security-policy"]
            or "sandbox" in answer.headers["content-security-policy"]
        )
        assert "http:" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "link.html",
        "../secret.html",
        "..%2Fsecret.html",
        "%2e%2e/secret.html",
        "//etc/hosts",
        "notes.txt",
        "a%00",
        "x" * 5_000,
    ],
)
def test_nothing_outside_the_report_is_served(client, report, path):
    answer = client(lab=report).get(f"/lab/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_the_questions_of_a_report_are_listed(client, report):
    expected = [{"id": "why", "title": {"en": "Why?", "zh": "为什么？"}, "verdicts": ["refuted"]}]
    assert client(lab=report).get("/api/lab").json() == {"served": True, "questions": expected}
    assert client().get("/api/lab").json() == {"served": False, "questions": []}
    assert client().get("/lab/").status_code == 404
