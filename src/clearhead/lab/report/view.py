"""What a page shows of a result, as plain values for a template."""

import importlib
import inspect
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import clearhead
from clearhead.core.machine import processor
from clearhead.core.progress import clock
from clearhead.lab.documents import DOCUMENTS
from clearhead.lab.question import TOPICS, Text
from clearhead.lab.runner import Result
from clearhead.lab.stability import agreement, lists, same, summary
from clearhead.lab.store import versions
from clearhead.lab.telling import VERDICTS

SHOWN = 200  # rows of a table on a page; all are in the JSON file beside it
TOPIC_NAMES = {
    "attention": Text(en="Attention", zh="注意力"),
    "masks": Text(en="Masks", zh="掩码"),
    "positions": Text(en="Positions", zh="位置编码"),
    "norm-residual": Text(en="Normalisation and residuals", zh="归一化与残差"),
    "numerics": Text(en="Numerics", zh="数值计算"),
}


def page(result: Result) -> dict[str, Any]:
    """Everything a page says about one question."""
    asked, answer = result.question, result.question.answer(result.rows)
    return {
        "id": result.id,
        "topic": asked.topic,
        "topic_name": TOPIC_NAMES[asked.topic],
        "title": asked.title,
        "verdicts": [
            {
                "claim": each,
                "verdict": found.verdict.value,
                "evidence": found.evidence,
                "agreement": agreement(result, each.key),
                "split": _split(result, each.key),
                "from": _source(each.source),
            }
            for each in asked.claims
            for found in [result.judgements[each.key]]
        ],
        "answer": answer,
        "prediction": asked.prediction,
        "criterion": asked.criterion,
        "code": [_code(each) for each in asked.parts],
        "references": asked.references,
        "sources": [_source(each) for each in asked.sources],
        "table": _table(result),
        "rows": len(result.rows),
        "made": _made(result),
    }


def overview(results: Sequence[Result], pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The index of results and their pages: questions by topic, and how many claims got which verdict."""
    counts = Counter(each.verdict.value for result in results for each in result.judgements.values())
    shelves = {topic: [each for each in pages if each["topic"] == topic] for topic in TOPICS}
    return {
        "topics": [{"name": TOPIC_NAMES[topic], "pages": found} for topic, found in shelves.items() if found],
        "counts": [(name, counts[name]) for name in VERDICTS["en"]],
        "claims": sum(counts.values()),
        "stability": summary(results),
        "questions": len(results),
        "made": pages[0]["made"] if pages else {},
        "seconds": clock(sum(each.seconds for each in results)),
    }


def _split(result: Result, claim: str) -> str:
    """Such as "2/3" where seed lists disagree on a claim, else nothing."""
    agreeing, count = same(result, claim), lists(result)
    return "" if agreeing == count else f"{agreeing}/{count}"


def _source(source: Any) -> dict[str, Any]:
    document = DOCUMENTS[source.document]
    return {"document": document.file, "about": Text(document.en, document.zh), "item": source.item}


def _code(part: str) -> dict[str, Any]:
    """Where a part is written, from the top of the repository."""
    module, _, name = part.partition(":")
    home = importlib.import_module(module)
    found = inspect.unwrap(getattr(home, name))
    try:
        file, line = inspect.getsourcefile(found), inspect.getsourcelines(found)[1]
    except (TypeError, OSError):  # a constant has no lines of its own
        file, line = inspect.getsourcefile(home), 1
    place = Path(file or "").relative_to(Path(clearhead.__file__).parent)
    return {"part": name, "path": f"src/clearhead/{place.as_posix()}", "line": line}


def _table(result: Result) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in result.rows for name in row))
    shown = [[_cell(row.get(name)) for name in names] for row in result.rows[:SHOWN]]
    return {"names": names, "rows": shown}


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.4g}"


def _made(result: Result) -> dict[str, str]:
    """Command, commit, versions, machine and date of a result."""
    return {
        "command": f"clearhead lab run {result.id}{_options(result)}",
        "options": _options(result),
        "commit": commit(),
        "versions": ", ".join(f"{name} {value}" for name, value in versions().items()),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "date": result.made[:10],
        "seconds": clock(result.seconds),
        "seeds": ", ".join(str(each) for each in result.rows.distinct("seed")),
    }


def _options(result: Result) -> str:
    """What to type after the name of a question, to get the same again."""
    scale = result.scale
    listed = f" --seed-list {scale.seed_list}" if scale.seed_list else ""
    compared = f" --lists {lists(result)}" if result.others else ""
    return f" --scale {scale.name}{listed}{compared}"


@cache
def commit() -> str:
    """The commit of the code, with a plus where files differ from it; the version where this is no checkout."""
    folder = Path(clearhead.__file__).parent
    try:
        ask = ["git", "-C", str(folder), "describe", "--always", "--abbrev=10", "--dirty=+"]
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"clearhead {clearhead.__version__}"
