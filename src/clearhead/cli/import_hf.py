"""clearhead import: a model of the transformers library becomes a bundle."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.cli.options import AsJson, print_json, print_table
from clearhead.core.errors import UsageError

TEXT = "; translate, evaluate and whatever else reads text will not work, logits will"


def command(
    source: Annotated[Path, typer.Argument(help="Folder that save_pretrained wrote.", metavar="HF_DIR")],
    out: Annotated[Path, typer.Argument(help="Folder of the new bundle.", metavar="OUT")],
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights; a pickle may run code.")
    ] = False,
    check: Annotated[bool, typer.Option(help="Compare logits with transformers, where it is installed.")] = True,
    json: AsJson = False,
) -> None:
    """Import weights, config and tokenizer of a Hugging Face model, and check that the logits are the same.

    Example: clearhead import models/opus-mt-zh-en runs/opus
    """
    from clearhead.bundle.exchange import import_model, witness
    from clearhead.core.files import make_folder

    _refuse_foreign(out)
    found = import_model(source, allow_pickle=allow_pickle)
    facts: dict[str, Any] = {"architecture": found.name, "kind": found.bundle.model.config.kind}
    facts |= {"parameters": sum(each.numel() for each in found.bundle.model.parameters())}
    facts |= {"tokenizer": bool(found.bundle.tokenizers)}
    facts |= witness(source, found.name, found.architecture, found.bundle.model, check=check)
    make_folder(out.parent)
    found.bundle.save(out)
    for note in found.notes:
        print(f"{note}{TEXT}", file=sys.stderr)
    print_facts(facts, json)


def print_facts(facts: dict[str, Any], json: bool) -> None:
    """A table for people; a difference of 1e-7 is not shown as 0."""
    shown = {name: f"{value:.2e}" if isinstance(value, float) else value for name, value in facts.items()}
    shown["max_abs_logit_difference"] = shown["max_abs_logit_difference"] or "not measured"
    print_table(shown)
    if json:
        print_json(facts)


def _refuse_foreign(out: Path) -> None:
    """A bundle has a config.json too: it must not replace that of another library's model."""
    from clearhead.core.errors import BundleError
    from clearhead.core.files import read_json

    if not (out / "config.json").is_file():
        return
    about = read_json(out / "config.json", BundleError)
    if not isinstance(about, dict) or about.get("model_type") != "clearhead":
        raise UsageError("this folder holds another library's model", where=out, remedy="name another folder")
