"""A whole run: recipe in, bundle out. Each stage finds what an earlier part of the run has left.

recipe.yaml ─ tokenizers ─ token stores ─ Trainer.fit ─ best or averaged weights ─ bundle, scores, report
"""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clearhead.bundle import Bundle
from clearhead.core.devices import autocast, pick_device, pick_dtype, set_threads
from clearhead.core.errors import ConfigError, DataError
from clearhead.core.progress import clock, say
from clearhead.core.recipe import write_recipe
from clearhead.core.seeds import derive, seed_everything
from clearhead.data.batches import TranslationBatch, translation_batch
from clearhead.data.buckets import Buckets, Place
from clearhead.data.sources import SOURCES, Pair
from clearhead.data.store import Ids, Store
from clearhead.generate import SearchConfig
from clearhead.model import Transformer
from clearhead.text import SubwordSampler, Tokenizer
from clearhead.train.checkpoint import Checkpoints, State
from clearhead.train.folder import open_folder
from clearhead.train.metrics import Record
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.prepare import prepare_stores, prepare_tokenizers, require_reach
from clearhead.train.recipe import Recipe
from clearhead.train.report import write_report
from clearhead.train.trainer import Trainer
from clearhead.train.validation import Translations


def run(recipe: Recipe, out: Path, *, resume: bool = False) -> Bundle | None:
    """Train from raw text to a bundle in `out`.

    Returns:
        The bundle, or None if the run was asked to stop; `resume` continues it later.
    """
    if recipe.model.kind != "encoder-decoder":
        remedy = "set model.encoder_layers and model.decoder_layers to 1 or more"
        raise ConfigError("translation needs an encoder-decoder", where="model", found=recipe.model.kind, remedy=remedy)
    with open_folder(recipe, out, resume=resume):
        return _run(recipe, out)


def _run(recipe: Recipe, out: Path) -> Bundle | None:
    threads = set_threads(recipe.train.threads)
    device = pick_device(recipe.train.device)
    dtype = pick_dtype(recipe.train.precision, device)
    seed_everything(recipe.seed)
    folder = Path(recipe.data.folder)
    held_out = {name: _held_out(recipe, name) for name in ("valid", "test") if getattr(recipe.data, name) is not None}
    pairs = SOURCES.build(recipe.data.train, folder)
    source, target = prepare_tokenizers(recipe.tokenizer, pairs, out)
    stores = prepare_stores(pairs, source, target, recipe.data.filter, out / "data")
    valid, *others = (Translations.read(each, source, target, recipe.data.language) for each in held_out.values())
    model = build_model(recipe, source, target).to(device)
    require_reach(stores, model.longest_target)
    for each in (valid, *others):
        each.require_reach(model.longest_target)
    parameters = sum(each.numel() for each in model.parameters())
    say(
        f"{model.config.kind}, {parameters:,} parameters, vocabulary {source.vocab_size:,} and "
        f"{target.vocab_size:,}; {device}, {str(dtype).removeprefix('torch.')}, {threads} threads"
    )
    checkpoints = Checkpoints(out / "checkpoints", recipe.train.keep, recipe.train.checkpoint_every)

    def validate() -> dict[str, Any]:
        with autocast(device, dtype):
            metrics: dict[str, Any] = valid.loss(model)
            if recipe.train.metric == "bleu":
                scores = valid.scores(model, SearchConfig(beams=1), recipe.train.bleu_sentences)
                metrics |= {"bleu": scores["bleu"], "bleu_lowercased": scores["bleu_tokenized_lowercased"]}
        metrics["metric"] = metrics["bleu"] if recipe.train.metric == "bleu" else -metrics["loss"]
        return metrics

    state = Trainer(
        recipe=recipe,
        model=model.train(),
        objective=OBJECTIVES.build(recipe.objective),
        batches=lambda place: batch_stream(recipe, stores, (source, target), place),
        validate=validate,
        checkpoints=checkpoints,
        record=lambda update: Record(out, update),
        device=device,
        dtype=dtype,
    ).fit()
    if state.update < state.updates and not state.stopped:
        say(f"stopped after update {state.update}; continue with --resume")
        return None
    return finish(recipe, out, model.eval(), valid, checkpoints, state, source, target)


def _held_out(recipe: Recipe, name: str) -> list[Pair]:
    """Read before anything is learned: a mistake in the test data must not show after hours of training."""
    pairs = list(SOURCES.build(getattr(recipe.data, name), Path(recipe.data.folder)))
    if not any(each.source.strip() and each.target.strip() for each in pairs):
        remedy = "check the path and the columns"
        raise DataError("no pair with a text on both sides", where=f"data.{name}", remedy=remedy)
    return pairs


def build_model(recipe: Recipe, source: Tokenizer, target: Tokenizer) -> Transformer:
    """The recipe's model with the vocabularies of the tokenizers."""
    values = recipe.model.model_dump(mode="json") | {
        "source_vocab": source.vocab_size,
        "target_vocab": target.vocab_size,
        "pad": target.need("pad"),
    }
    return Transformer(type(recipe.model).model_validate(values))


def batch_stream(
    recipe: Recipe, stores: list[Store], tokenizers: Sequence[Tokenizer], place: Place
) -> Iterator[tuple[TranslationBatch, Place]]:
    """Collated batches without end, from a place on; `tokenizers`: of the source and of the target."""
    target = tokenizers[-1]
    ids = {"pad": target.need("pad"), "bos": target.need("bos"), "eos": target.need("eos")}
    order = Buckets(stores, budget=recipe.train.batch_tokens, seed=derive(recipe.seed, "data"))
    spell = spelling(recipe, tokenizers)
    for rows, after in order.batches(place):
        sides = [[store[int(row)] for row in rows] for store in stores]
        source, labels = spell(sides, after)
        yield translation_batch(source, labels, **ids), after


def spelling(recipe: Recipe, tokenizers: Sequence[Tokenizer]) -> Callable[[list[list[Ids]], Place], list[list[Ids]]]:
    """How the ids of a batch are spelled: as they lie in the store, or anew with BPE-dropout.

    The draws depend on seed and place alone, so a resumed run draws the same spellings.
    """
    dropout = recipe.data.subword_dropout
    if not dropout:
        return lambda sides, place: sides
    samplers = [SubwordSampler(each, dropout=dropout) for each in tokenizers]

    def anew(sides: list[list[Ids]], place: Place) -> list[list[Ids]]:
        draw = random.Random(derive(recipe.seed, "subwords", place.epoch, place.batch))
        texts = [
            each.decode_batch([ids.tolist() for ids in side]) for each, side in zip(tokenizers, sides, strict=True)
        ]
        return [
            [np.asarray(sampler.sample(text, draw), dtype=np.int64) for text in side]
            for sampler, side in zip(samplers, texts, strict=True)
        ]

    return anew


def finish(
    recipe: Recipe,
    out: Path,
    model: Transformer,
    valid: Translations,
    checkpoints: Checkpoints,
    state: State,
    source: Tokenizer,
    target: Tokenizer,
) -> Bundle:
    """Take the averaged or the best weights, whichever does better on the validation pairs, and save the bundle."""

    def quality() -> dict[str, Any]:
        scores = valid.scores(model, recipe.search) if recipe.train.metric == "bleu" else {}
        return {**valid.loss(model), **scores}

    def rank(metrics: dict[str, Any]) -> float:
        return float(metrics["bleu"]) if recipe.train.metric == "bleu" else -float(metrics["loss"])

    count = checkpoints.load_average(model)
    averaged = quality()
    checkpoints.load_best(model)
    best = quality()
    history: dict[str, Any] = {
        "name": out.name,
        "language": recipe.data.language,
        "parameters": sum(each.numel() for each in model.parameters()),
        "updates": state.update,
        "training_seconds": round(state.seconds, 1),
    }
    if rank(averaged) >= rank(best):
        checkpoints.load_average(model)
        history["weights"] = f"average of the last {count} checkpoints"
    else:
        history["weights"] = f"best validation, update {state.best_update}"
    chosen = max(averaged, best, key=rank)
    history |= {f"valid_{name}": value for name, value in chosen.items()}
    say(f"weights: {history['weights']} (averaged {rank(averaged):.3f}, best {rank(best):.3f})")
    pairs = valid
    if recipe.data.test is not None:
        test = SOURCES.build(recipe.data.test, Path(recipe.data.folder))
        pairs = Translations.read(test, source, target, recipe.data.language)
        scores = {**pairs.loss(model), **pairs.scores(model, recipe.search), "sentences": len(pairs.pairs)}
        history |= {f"test_{name}": value for name, value in scores.items()}
    bundle = Bundle(model, source, target, recipe.search.model_dump(mode="json"), history)
    bundle.save(out)
    write_report(out, bundle, pairs.pairs, write_recipe(recipe))
    say(f"bundle written to {out} after {clock(state.seconds)} of training")
    return bundle
