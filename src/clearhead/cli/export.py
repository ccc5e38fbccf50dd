"""clearhead export: a bundle becomes a folder that another engine opens."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.cli.options import AsJson, ModelFolder, print_json, print_table


def command(
    model: ModelFolder,
    out: Annotated[Path, typer.Argument(help="New folder.", metavar="OUT")],
    to: Annotated[
        str, typer.Option(help="hf (Hugging Face transformers), ctranslate2, gguf (llama.cpp) or onnx.")
    ] = "hf",
    quantization: Annotated[
        str | None,
        typer.Option(help="Precision of the weights: float32, float16 or int8, as far as the engine has it."),
    ] = None,
    tokenizer: Annotated[bool, typer.Option(help="Write the tokenizer too; gguf can say byte_bpe alone.")] = True,
    check: Annotated[bool, typer.Option(help="Compare with the real engine, where it is installed.")] = True,
    json: AsJson = False,
) -> None:
    """Export a model for another engine, and let that engine say that it computes the same.

    A model that the engine has no words for is refused with the reason before anything is written. What the engines
    need is installed by pip install 'clearhead[export]'; gguf is checked where llama-cpp-python is installed too.

    Example: clearhead export runs/demo demo-ct2 --to ctranslate2 --quantization int8
    """
    from clearhead.bundle import Bundle
    from clearhead.bundle.exchange.engines import export_to

    facts = export_to(Bundle.load(model), out, to, quantization=quantization, tokenizer=tokenizer, check=check)
    print_table({name: _shown(name, value) for name, value in facts.items()})
    if json:
        print_json(facts)


def _shown(name: str, value: Any) -> Any:
    """A difference of 1e-7 is not shown as 0, and a speed without its fractions."""
    if value is None:
        return "not measured"
    if not isinstance(value, float):
        return value
    return f"{value:.2e}" if "difference" in name else f"{value:,.0f}"
