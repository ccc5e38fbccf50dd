"""Does our training reach at least the quality of torch.nn.Transformer in a plain loop, and in what time?

Both learn from the same token ids, batches in the same order, schedule, smoothing and dropout rate, then translate
greedily; ours also with its own settings (averaged weights, beams). Needs a finished run:

    clearhead train tatoeba_zh_en data.folder=FOLDER --out runs/tatoeba
    python -m benchmarks.translation_quality runs/tatoeba
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.report import Row, publish
from benchmarks.torch_translator import Plan, TorchTranslator, fastest_setting, train
from clearhead.apply import load
from clearhead.core.devices import set_threads
from clearhead.core.recipe import read_recipe
from clearhead.core.seeds import seed_everything
from clearhead.data.batches import TranslationBatch
from clearhead.data.buckets import Place
from clearhead.data.sources import SOURCES
from clearhead.data.store import open_stores
from clearhead.generate import SearchConfig
from clearhead.train import Recipe
from clearhead.train.scores import score_translations
from clearhead.train.stream import batch_stream
from clearhead.train.validation import Translations


def main() -> None:
    """Train the peer on the data of a finished run and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the peer; 0 = all cores")
    parser.add_argument("--json", action="store_true", help="kept for uniformity: the last line is always JSON")
    arguments = parser.parse_args()
    run: Path = arguments.run
    set_threads(arguments.threads)
    recipe = read_recipe(run / "recipe.yaml", [], Recipe)
    ours = load(run)
    sets = {name: held_out(recipe, ours.bundle, name) for name in ("valid", "test")}
    peer = TorchTranslator(ours.bundle.model.config)
    seed_everything(recipe.seed)
    plan = plan_of(recipe)
    setting = fastest_setting(peer, list(islice(batches(recipe, run, ours.bundle), 6)), plan)
    seconds = train(peer, batches(recipe, run, ours.bundle), plan, setting)
    peer.eval()
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    for name, pairs in sets.items():
        scores = {
            "clearhead, greedy": bleu(pairs, pairs.translate(ours.bundle.model, SearchConfig(beams=1))),
            f"clearhead, {recipe.search.beams} beams": bleu(pairs, pairs.translate(ours.bundle.model, recipe.search)),
            "torch.nn.Transformer, greedy": bleu(pairs, peer_outputs(peer, pairs)),
        }
        rows += [row(f"{run.name} {name}", system, value, "BLEU", setting) for system, value in scores.items()]
        ratios[f"{run.name} {name}, greedy BLEU"] = scores["clearhead, greedy"] / scores["torch.nn.Transformer, greedy"]
    own = float(ours.bundle.history["training_seconds"])
    times = {"clearhead": own, "torch.nn.Transformer": seconds}
    rows += [row("training time", system, value, "s", setting) for system, value in times.items()]
    publish(f"Translation quality, {run.name}", f"python -m benchmarks.translation_quality {run}", rows, ratios)


def held_out(recipe: Recipe, bundle: Any, name: str) -> Translations:
    """The validation or test pairs of a recipe."""
    pairs = SOURCES.build(getattr(recipe.data, name), Path(recipe.data.folder))
    return Translations.read(pairs, bundle.source, bundle.target, recipe.data.language)


def batches(recipe: Recipe, run: Path, bundle: Any) -> Iterator[TranslationBatch]:
    """The run's own batches from their beginning."""
    updates = batch_stream(recipe, open_stores(run / "data", 2), (bundle.source, bundle.target), Place())
    return (batch for update, _ in updates for batch in update)


def plan_of(recipe: Recipe) -> Plan:
    """The recipe's schedule for the plain loop."""
    train = recipe.train
    return Plan(
        updates=train.updates,
        rate=train.learning_rate,
        warmup=int(train.schedule.options["warmup"]),
        smoothing=float(recipe.objective.options["label_smoothing"]),
        clip=train.clip,
    )


def peer_outputs(peer: TorchTranslator, pairs: Translations) -> list[str]:
    """Greedy translations by the peer."""
    end = pairs.source.need("eos")
    sources = [[*ids, end] for ids in pairs.source.encode_batch([each.source for each in pairs.pairs])]
    found = peer.greedy(sources, pairs.target.need("bos"), pairs.target.need("eos"))
    return pairs.target.decode_batch(found)


def bleu(pairs: Translations, outputs: list[str]) -> float:
    """Cased sacreBLEU."""
    return float(score_translations(outputs, [each.target for each in pairs.pairs], pairs.language)["bleu"])


def row(work: str, system: str, value: float, unit: str, setting: str) -> Row:
    precision = setting if system.startswith("torch") else "as chosen by the run"
    return {"work": work, "system": system, "precision": precision, "value": value, "unit": unit}


if __name__ == "__main__":
    main()
