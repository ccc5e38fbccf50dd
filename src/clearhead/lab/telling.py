"""Questions and results as plain text for a terminal, and as plain values."""

from pathlib import Path
from typing import Any

from clearhead.core.files import make_folder, write_atomic
from clearhead.lab.catalog import question
from clearhead.lab.documents import DOCUMENTS
from clearhead.lab.pictures import svg
from clearhead.lab.question import Source, Text
from clearhead.lab.runner import Result
from clearhead.lab.stability import agreement

WORDS = {
    "en": {
        "claims": "Claims",
        "prediction": "Prediction",
        "criterion": "Criterion",
        "answer": "Answer",
        "limits": "Limits",
    },
    "zh": {"claims": "论断", "prediction": "预测", "criterion": "判据", "answer": "回答", "limits": "局限"},
}
VERDICTS = {
    "en": {"supported": "supported", "refuted": "refuted", "depends": "depends", "inconclusive": "inconclusive"},
    "zh": {"supported": "成立", "refuted": "不成立", "depends": "视情况而定", "inconclusive": "尚无定论"},
}


def say(text: Text, lang: str) -> str:
    """The text in a language."""
    return text.zh if lang == "zh" else text.en


def described(id: str) -> dict[str, Any]:
    """What a question asks, as plain values in both languages."""
    asked = question(id)
    return {
        "id": id,
        "topic": asked.topic,
        "title": vars(asked.title),
        "claims": [{"key": e.key, **vars(e.text), "source": place(e.source)} for e in asked.claims],
        "prediction": vars(asked.prediction),
        "criterion": vars(asked.criterion),
        "parts": list(asked.parts),
        "references": list(asked.references),
        "sources": [place(each) for each in asked.sources],
    }


def place(source: Source) -> dict[str, str]:
    """A source as plain values."""
    return {"document": DOCUMENTS[source.document].file, "item": source.item}


def asked(id: str, lang: str) -> str:
    """What a question asks, claims and predicts."""
    one, words = question(id), WORDS[lang]
    claims = [
        f"  {each.key}: {say(each.text, lang)} ({each.source.document} {each.source.item})" for each in one.claims
    ]
    return "\n".join(
        [
            f"{id}: {say(one.title, lang)}",
            "",
            f"{words['claims']}:",
            *claims,
            "",
            f"{words['prediction']}: {say(one.prediction, lang)}",
            f"{words['criterion']}: {say(one.criterion, lang)}",
            "",
            *one.references,
        ]
    )


def found(result: Result, lang: str) -> str:
    """The verdicts and the answer of a question that was run."""
    one, words, answer = result.question, WORDS[lang], result.question.answer(result.rows)
    lines = [f"{result.id}: {say(one.title, lang)}"]
    for each in one.claims:
        judged = result.judgements[each.key]
        lines.append(f"  {VERDICTS[lang][judged.verdict.value]:12}  {say(each.text, lang)}")
        lines.append(f"  {'':12}  {say(judged.evidence, lang)}")
        if (agreed := agreement(result, each.key)) is not None:
            lines.append(f"  {'':12}  {say(agreed, lang)}")
    lines += [f"{words['answer']}: {say(answer.short, lang)}", say(answer.imprecise, lang)]
    lines.append(f"{words['limits']}: {say(answer.limits, lang)} ({result.scale.name}, {result.seconds:.0f} s)")
    return "\n".join(lines)


def keep_picture(result: Result, folder: Path) -> Path:
    """Draw a result and write its picture beside its measurements; returns the path."""
    path = make_folder(folder / result.id) / f"{result.scale.name}.svg"
    write_atomic(path, svg(result.question.draw(result.rows)))
    return path
