"""What a training works on: tokenizers, token stores, held-out pairs. Each is found where an earlier part left it."""

from dataclasses import dataclass
from pathlib import Path

from clearhead.core.errors import DataError
from clearhead.data.sources import SOURCES, Pair
from clearhead.data.store import Store
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.prepare import prepare_stores, prepare_tokenizers, require_reach
from clearhead.train.recipe import Recipe
from clearhead.train.validation import Translations


@dataclass(frozen=True)
class Materials:
    """Everything but the model."""

    source: Tokenizer
    target: Tokenizer
    stores: list[Store]  # training pairs: sources, targets
    valid: Translations
    test: Translations | None  # scored once, at the end

    def require_reach(self, model: Transformer) -> None:
        """Refuse pairs that are longer than the model's positions."""
        require_reach(self.stores, model.longest_target)
        for each in (self.valid, self.test):
            if each is not None:
                each.require_reach(model.longest_target)


def gather(recipe: Recipe, out: Path) -> Materials:
    """Read the held-out pairs, then learn or load the tokenizers and write or open the stores."""
    held_out = {name: _held_out(recipe, name) for name in ("valid", "test")}
    pairs = SOURCES.build(recipe.data.train, Path(recipe.data.folder))
    source, target = prepare_tokenizers(recipe.tokenizer, pairs, out)
    stores = prepare_stores(pairs, source, target, recipe.data.filter, out / "data")
    valid, test = (Translations.read(each, source, target, recipe.data.language) for each in held_out.values())
    return Materials(source, target, stores, valid, test if test.pairs else None)


def _held_out(recipe: Recipe, name: str) -> list[Pair]:
    """Read before anything is learned: a mistake in the test data must not show after hours of training."""
    if getattr(recipe.data, name) is None:
        return []
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
