"""What an exported config.json says beside the words of the other library, under the key `clearhead`.

The other library keeps keys that it does not know. So what it has no word for (rates of dropout, settings of a search,
history, how a config was spelled) comes back when the folder is imported again.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clearhead.bundle.bundle import Bundle, damaged
from clearhead.bundle.exchange.tokenizers import bare
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig
from clearhead.text import Tokenizer

EXTRAS = "clearhead"


@dataclass(frozen=True)
class Extras:
    """A bundle without weights and vocabularies."""

    model: ModelConfig
    search: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    special: list[dict[str, str]] = field(default_factory=list)  # roles that were given to source and target
    template: list[bool] = field(default_factory=list)  # whether each had a template of its own

    @classmethod
    def of(cls, bundle: Bundle) -> "Extras":
        """What an export has to add."""
        both = list(bundle.tokenizers.values())
        template = [each.backend.post_processor is not None for each in both]
        return cls(bundle.model.config, bundle.search, bundle.history, [each.given for each in both], template)

    @classmethod
    def read(cls, document: Any, where: Path) -> "Extras | None":
        """What an export added to a config.json; None in the files of others."""
        if document is None:
            return None
        kinds = {"model": dict, "search": dict, "history": dict, "special": list, "template": list}
        if not isinstance(document, dict) or any(not isinstance(document.get(key), kinds[key]) for key in kinds):
            raise BundleError("damaged config", where=f"{where}, {EXTRAS}", found=document)
        try:
            return cls(
                **{key: document[key] for key in kinds} | {"model": ModelConfig.model_validate(document["model"])}
            )
        except ValidationError as error:
            raise damaged(error, where) from None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "model": self.model.model_dump(mode="json")}

    def restored(self, source: Tokenizer, target: Tokenizer) -> tuple[Tokenizer, Tokenizer]:
        """The tokenizers as they were before the export."""
        found = [source] if len(self.special) < 2 else [source, target]
        asked = zip(found, self.special, self.template, strict=False)
        before = [bare(each, special, template=template) for each, special, template in asked]
        return before[0], before[-1]
