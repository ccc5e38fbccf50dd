"""clearhead demo: the main job from nothing: train a Chinese-English Transformer and translate with it."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.cli.options import print_json
from clearhead.core.errors import UsageError

QUESTION = "我现在爱你"


def command(
    settings: Annotated[list[str] | None, typer.Argument(help="Overrides such as train.minutes=20.")] = None,
    out: Annotated[Path, typer.Option(help="Run folder; a run that was interrupted goes on.")] = Path("runs/demo"),
    recipe: Annotated[Path, typer.Option(help="The recipe.")] = Path("demo"),
) -> None:
    """Learn to translate Chinese into English in a few minutes, then translate sentences never seen in training."""
    started = time.perf_counter()
    from clearhead.apply import Model
    from clearhead.cli.options import recipe_path
    from clearhead.core.recipe import read_recipe
    from clearhead.data.sources import SOURCES
    from clearhead.train import Recipe, run

    plan = read_recipe(recipe_path(recipe), settings or [], Recipe)
    if plan.data.test is None:
        raise UsageError("the demonstration needs held-out pairs", where=recipe, remedy="give data.test")
    bundle = run(plan, out, resume=True)
    if bundle is None:
        raise typer.Exit(130)
    model = Model(bundle)
    unseen = list(SOURCES.build(plan.data.test, Path(plan.data.folder)))[:10]
    outputs = model.translate([QUESTION, *(each.source for each in unseen)])
    print("\nTen sentences that the model has never seen, with combinations of words it has never seen:\n")
    for pair, output in zip(unseen, outputs[1:], strict=True):
        mark = "=" if output == pair.target else "≠"
        print(f"  {pair.source}\n    reference  {pair.target}\n  {mark} output     {output}\n")
    scores: dict[str, Any] = bundle.history
    print(f"BLEU on {scores['test_sentences']:,} held-out sentences: {scores['test_bleu']:.2f}")
    print(f"  ({scores['test_bleu_signature']})")
    print(f"{QUESTION} → {outputs[0]}\n")
    print("Try next:")
    print(f"  clearhead translate {out} 他昨天买了一本书。")
    print(f"  open {out / 'report.html'} in a browser: learning curve, samples, attention maps")
    print("  clearhead train recipes/multi30k_en_de.yaml data.folder=data/multi30k   # a real corpus\n")
    seconds = round(time.perf_counter() - started, 1)
    print_json({"bleu": round(scores["test_bleu"], 2), "seconds": seconds, "translation": outputs[0]})
