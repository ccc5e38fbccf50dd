"""clearhead export: a bundle becomes a folder that the transformers library opens."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.cli.import_hf import print_facts
from clearhead.cli.options import AsJson, ModelFolder
from clearhead.core.errors import UsageError

FORMATS = ("hf",)


def command(
    model: ModelFolder,
    out: Annotated[Path, typer.Argument(help="New folder.", metavar="OUT")],
    to: Annotated[str, typer.Option(help="hf = the layout of Hugging Face transformers.")] = "hf",
    check: Annotated[bool, typer.Option(help="Compare logits with transformers, where it is installed.")] = True,
    json: AsJson = False,
) -> None:
    """Export a model, tokenizer included, for AutoModel...from_pretrained and all that reads its folders.

    A model that no architecture there computes is refused with the reason.

    Example: clearhead export runs/demo demo-hf --to hf
    """
    from clearhead.bundle import Bundle
    from clearhead.bundle.exchange import export_model, witness

    if to not in FORMATS:
        raise UsageError("no such format", found=to, expected=f"one of {', '.join(FORMATS)}")
    bundle = Bundle.load(model)
    done = export_model(bundle, out)
    facts: dict[str, Any] = {"architecture": done.name, "kind": bundle.model.config.kind}
    facts |= {"tokenizers": len(bundle.tokenizers)}
    facts |= witness(out, done.name, done.architecture, bundle.model, check=check)
    print_facts(facts, json)
