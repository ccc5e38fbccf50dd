"""Writes the pages: HTML for reading offline, Markdown for a repository. Both are made from the same values."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from clearhead.core.files import folder_atomic, make_folder, write_atomic
from clearhead.lab.pictures import svg
from clearhead.lab.report.view import overview, page
from clearhead.lab.runner import Result
from clearhead.lab.telling import VERDICTS


def write_site(out: Path, results: Sequence[Result]) -> Path:
    """Write the offline site of these results into a folder, as a whole.

    Returns:
        The path of its first page.
    """
    templates, pages = _templates(escape=True), [page(each) for each in results]
    with folder_atomic(out) as folder:
        make_folder(folder / "pictures")
        for each, about in zip(results, pages, strict=True):
            picture = f"pictures/{each.id}.svg"
            (folder / picture).write_bytes(svg(each.question.draw(each.rows)))
            (folder / f"{each.id}.html").write_text(_filled(templates, "question.html", about), encoding="utf-8")
            document = json.dumps(each.document(picture), ensure_ascii=False, indent=1)
            (folder / f"{each.id}.json").write_text(document, encoding="utf-8")
        index = _filled(templates, "index.html", overview(results, pages))
        (folder / "index.html").write_text(index, encoding="utf-8")
    return out / "index.html"


def write_markdown(out: Path, results: Sequence[Result]) -> Path:
    """Write a Markdown page and a picture for each result, and an index; other files in the folder stay.

    Returns:
        The path of the index.
    """
    templates, pages = _templates(escape=False), [page(each) for each in results]
    make_folder(out / "pictures")
    for each, about in zip(results, pages, strict=True):
        write_atomic(out / "pictures" / f"{each.id}.svg", svg(each.question.draw(each.rows)))
        write_atomic(out / f"{each.id}.md", _filled(templates, "question.md", about))
    write_atomic(out / "README.md", _filled(templates, "index.md", overview(results, pages)))
    return out / "README.md"


def _templates(*, escape: bool) -> jinja2.Environment:
    loader = jinja2.PackageLoader("clearhead.lab.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=escape, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["verdict_names"] = VERDICTS
    environment.filters["cell"] = lambda text: text.replace("|", "\\|")  # in a Markdown table
    return environment


def _filled(templates: jinja2.Environment, name: str, values: Mapping[str, Any]) -> str:
    return templates.get_template(name).render(values).rstrip() + "\n"
