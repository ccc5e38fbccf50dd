"""What every benchmark prints: rows, ratios, the machine; a table for people, one JSON line for machines."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from clearhead.core.machine import processor

RESULTS = Path(__file__).parent / "RESULTS.md"
Row = dict[str, Any]  # work, system, precision, value, unit


def machine() -> dict[str, Any]:
    """Processor, cores and versions."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def publish(name: str, command: str, rows: list[Row], ratios: dict[str, float]) -> None:
    """Print the table and the JSON line, and put the table under its heading in RESULTS.md."""
    about = machine()
    table = ["| work | system | precision | value | unit |", "|---|---|---|---:|---|"]
    table += [f"| {r['work']} | {r['system']} | {r['precision']} | {r['value']:,.4g} | {r['unit']} |" for r in rows]
    table += ["", *(f"- {work}: ours / peer = {ratio:.2f}" for work, ratio in ratios.items())]
    where = ", ".join(f"{key} {value}" for key, value in about.items())
    section = "\n".join([f"## {name}", "", f"Made by `{command}` on: {where}.", "", *table, ""])
    _replace(name, section)
    print("\n".join(table))
    print(json.dumps({"rows": rows, "ratios": ratios, "machine": about}, ensure_ascii=False))
    sys.stdout.flush()


def _replace(name: str, section: str) -> None:
    head = "# Results\n\nGenerated; every section names the command that made it. Do not edit by hand.\n\n"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else head
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    parts[name] = section.removeprefix("## ")
    RESULTS.write_text(head + "\n".join("## " + parts[key].strip() + "\n" for key in sorted(parts)), encoding="utf-8")
