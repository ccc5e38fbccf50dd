"""The README of a bundle: what the model is, how it was trained, what it scores. Every number comes from the run."""

from typing import Any

from clearhead.model import Transformer


def model_card(model: Transformer, history: dict[str, Any]) -> str:
    """Markdown with a model-card header as model hubs read it."""
    config = model.config
    parameters = sum(each.numel() for each in model.parameters())
    lines = [
        "---",
        "library_name: clearhead",
        "---",
        f"# {history.get('name', 'A Clearhead model')}",
        "",
        f"A Transformer, {config.kind}: {config.encoder_layers} + {config.decoder_layers} layers, d_model "
        f"{config.d_model}, {config.heads} heads, d_ff {config.d_ff}, {parameters:,} parameters.",
        "",
        "```python",
        "import clearhead",
        "",
        'model = clearhead.load("path/to/this/folder")',
        'print(model.translate(["..."]))',
        "```",
        "",
    ]
    rows = [(key, value) for key, value in history.items() if isinstance(value, (int, float, str)) and key != "name"]
    if rows:
        lines += ["| | |", "|---|---|", *(f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in rows), ""]
    return "\n".join(lines)


def _shown(value: float | str) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
