"""The report: complete, offline, and safe whatever a text says."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clearhead.lab import Result, Scale, run
from clearhead.lab.question import Text, Verdict
from clearhead.lab.report import write_markdown, write_site

ID = "scale-by-sqrt-dk"


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return run([ID], Scale("quick"), jobs=1)


class Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_site_is_complete_and_asks_for_nothing_outside(results: list[Result], tmp_path: Path) -> None:
    first = write_site(tmp_path / "site", results)
    assert first.is_file()
    for page in first.parent.glob("*.html"):
        links = Links(page)
        assert len(set(links.ids)) == len(links.ids)
        for each in links.targets:
            assert (first.parent / each).is_file(), each
        assert "default-src 'none'" in page.read_text(encoding="utf-8")
    text = (first.parent / f"{ID}.html").read_text(encoding="utf-8")
    for word in ("supported", "成立", "1.2(1)", "clearhead lab run", "src/clearhead/model/attention/dot.py:"):
        assert word in text


def test_site_replaces_an_older_one_as_a_whole(results: list[Result], tmp_path: Path) -> None:
    write_site(tmp_path / "site", results)
    (tmp_path / "site" / "old.html").write_text("old")
    write_site(tmp_path / "site", results)
    assert not (tmp_path / "site" / "old.html").exists()


def test_the_same_results_give_the_same_files(results: list[Result], tmp_path: Path) -> None:
    write_site(tmp_path / "a", results)
    write_site(tmp_path / "b", results)
    for each in (tmp_path / "a").rglob("*.*"):
        assert each.read_bytes() == (tmp_path / "b" / each.relative_to(tmp_path / "a")).read_bytes()


def test_texts_cannot_run(results: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = Text(en="<script>alert(1)</script> a | b", zh="词")
    claims = tuple(replace(each, text=words) for each in results[0].question.claims)
    monkeypatch.setattr(type(results[0].question), "claims", claims)
    page = write_site(tmp_path / "site", results).parent / f"{ID}.html"
    assert "<script>alert" not in page.read_text(encoding="utf-8")
    write_markdown(tmp_path / "pages", results)
    rows = [each for each in (tmp_path / "pages" / f"{ID}.md").read_text().splitlines() if each.startswith("| **")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", each)) == 4 for each in rows)


def test_markdown_links_into_the_repository(results: list[Result], tmp_path: Path) -> None:
    index = write_markdown(tmp_path / "docs" / "lab", results)
    assert f"({ID}.md)" in index.read_text(encoding="utf-8")
    text = (index.parent / f"{ID}.md").read_text(encoding="utf-8")
    root = Path(__file__).parents[2]
    for path, line in re.findall(r"\(\.\./\.\./(\S+)#L(\d+)\)", text):
        assert len((root / path).read_text(encoding="utf-8").splitlines()) >= int(line)
    assert (index.parent / re.findall(r"!\[.*\]\((\S+)\)", text)[0]).stat().st_size < 150_000


@pytest.fixture(scope="module")
def compared() -> Result:
    """Three seed lists, one of which gives the first claim another verdict."""
    result = run([ID], Scale("quick"), jobs=1)[0]
    claim, found = next(iter(result.judgements.items()))
    other = replace(result, scale=Scale("quick", 1))
    last = replace(
        result,
        scale=Scale("quick", 2),
        judgements={**result.judgements, claim: replace(found, verdict=Verdict.INCONCLUSIVE)},
    )
    return replace(result, others=(other, last))


def test_pages_tell_how_many_seed_lists_agree(compared: Result, tmp_path: Path) -> None:
    claims = len(compared.judgements)
    for page in (
        write_site(tmp_path / "site", [compared]).parent / f"{ID}.html",
        write_markdown(tmp_path / "md", [compared]).parent / f"{ID}.md",
    ):
        text = page.read_text(encoding="utf-8")
        assert text.count("2 of 3 seed lists give this verdict.") == text.count("3 组种子中有 2 组得出这一结论。") == 1
        assert text.count("3 of 3 seed lists give this verdict.") == claims - 1
        assert f"clearhead lab run {ID} --scale quick --lists 3" in text


def test_indices_tell_how_many_verdicts_are_the_same(compared: Result, tmp_path: Path) -> None:
    for index in (write_site(tmp_path / "site", [compared]), write_markdown(tmp_path / "md", [compared])):
        text = index.read_text(encoding="utf-8")
        assert "With 3 seed lists: 2 claims are called supported or refuted by a list, 1 of them the same" in text
        assert "用 3 组种子重复：2 条论断" in text
        assert text.count("2/3") == 1
    assert "OUT --scale quick --lists 3 --markdown" in text


def test_one_seed_list_tells_nothing_of_others(results: list[Result], tmp_path: Path) -> None:
    for index in (write_site(tmp_path / "site", results), write_markdown(tmp_path / "md", results)):
        assert "seed list" not in index.read_text(encoding="utf-8")
