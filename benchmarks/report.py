"""What every benchmark prints: rows, ratios, the machine; a table for people, one JSON line for machines."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from clearhead.core.machine import processor

RESULTS = Path(__file__).parent / "RESULTS.md"
Row = dict[str, Any]  # work, system, precision, value, unit
NOTHING: Mapping[str, float] = MappingProxyType({})


def machine() -> dict[str, Any]:
    """Processor, cores and versions."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def publish(
    name: str, command: str, rows: list[Row], ratios: dict[str, float], others: Mapping[str, float] = NOTHING
) -> None:
    """Print the table and the JSON line, and put the table under its heading in RESULTS.md.

    Args:
        ratios: of ours to a peer, by what they compare.
        others: further quotients, by a name that says what they are.
    """
    about = machine()
    table = ["| work | system | precision | value | unit |", "|---|---|---|---:|---|"]
    table += [f"| {r['work']} | {r['system']} | {r['precision']} | {_shown(r['value'])} | {r['unit']} |" for r in rows]
    table += ["", *(f"- {work}: ours / peer = {ratio:.2f}" for work, ratio in ratios.items())]
    table += [f"- {what}: {value:.2f}" for what, value in others.items()]
    where = ", ".join(f"{key} {value}" for key, value in about.items())
    section = "\n".join([f"## {name}", "", f"Made by `{command}` on: {where}.", "", *table, ""])
    _replace(name, section)
    print("\n".join(table))
    print(json.dumps({"rows": rows, "ratios": {**ratios, **others}, "machine": about}, ensure_ascii=False))
    sys.stdout.flush()


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def forget(name: str) -> None:
    """Take a section out of RESULTS.md, if it is there."""
    _replace(name, None)


def _replace(name: str, section: str | None) -> None:
    head = "# Results\n\nGenerated; every section names the command that made it. Do not edit by hand.\n\n"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else head
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    parts.pop(name, None)
    if section is not None:
        parts[name] = section.removeprefix("## ")
    RESULTS.write_text(head + "\n".join("## " + parts[key].strip() + "\n" for key in sorted(parts)), encoding="utf-8")
