"""What benchmarks.training measures: the works, and who takes part in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

RECIPES = Path(__file__).parent.parent / "recipes"
NEVER = 1_000_000  # updates: beyond the end of every measurement
OURS = "clearhead"
ALONE = "clearhead, one process"

TRANSLATORS = ("torch.nn.Transformer", "transformers Marian", "x-transformers")
DECODERS = ("torch.nn.TransformerEncoder", "transformers GPT-2", "x-transformers decoder")
Settings = Mapping[str, object]  # overrides of a recipe
AS_PEERS: Settings = {  # positions and optimiser, whatever the recipe has: work that the peers do too
    "model.position": "sinusoidal",
    "train.optimizer": "{kind: adam, beta2: 0.98}",
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """One model on one text, for all contestants."""

    recipe: str  # a file of recipes/
    settings: Settings
    peers: tuple[str, ...]
    ours: Mapping[str, Settings]  # name -> further settings, by which no result changes
    text: str  # Multi30k or WikiText-2
    unit: str  # tokens/s, or MB
    warm: int  # updates that are not timed
    updates: int  # updates that are, where nobody asks for another number

    @property
    def memory(self) -> bool:
        """Whether memory is measured, not speed."""
        return self.unit == "MB"

    @property
    def trial(self) -> tuple[int, int]:
        """The updates between which a peer's settings are compared."""
        return 1, 1 + max(1, self.updates // 4)

    def timed(self, updates: int | None) -> int:
        """Updates that are timed; ours writes a line every `warm` updates, so their number is rounded up."""
        return self.warm * ceil((updates or self.updates) / self.warm)

    def overrides(self, precision: str, folder: Path, *, tiny: bool) -> list[str]:
        """What differs from the recipe; an update is two batches, and nothing but updates is ever due."""
        settings = {**AS_PEERS, **self.settings, "data.folder": folder.resolve(), "train.precision": precision}
        settings |= {f"train.{key}": NEVER for key in ("updates", "validate_every", "checkpoint_every")}
        settings |= {"train.log_every": self.warm, "train.metric": "loss", "train.accumulate": 2}
        return as_overrides({**settings, **(TINY if tiny else {})})


def as_overrides(settings: Settings) -> list[str]:
    """Settings as a command line has them."""
    return [f"{key}={value}" for key, value in settings.items()]


def sizes(width: int, heads: int, inner: int, encoder: int, decoder: int) -> dict[str, object]:
    """The settings of a model's sizes."""
    values = {"d_model": width, "heads": heads, "d_ff": inner, "encoder_layers": encoder, "decoder_layers": decoder}
    return {f"model.{key}": value for key, value in values.items()}


def translation(model: Settings, warm: int, updates: int) -> Work:
    """The speed of an encoder-decoder on Multi30k."""
    return Work(
        recipe="multi30k_en_de.yaml",
        settings=model,
        peers=TRANSLATORS,
        ours={OURS: {}},
        text="Multi30k",
        unit="target tokens/s",
        warm=warm,
        updates=updates,
    )


def memory(model: Settings) -> Work:
    """The memory of an encoder-decoder with 32,000 words; on Multi30k that takes every pair of bytes seen once."""
    vocabulary = {"tokenizer.joint.vocab_size": 32_000, "tokenizer.joint.min_frequency": 1}
    return Work(
        recipe="multi30k_en_de.yaml",
        settings={**model, **vocabulary},
        peers=TRANSLATORS,
        ours={OURS: {}, ALONE: {"train.processes": 1}},
        text="Multi30k",
        unit="MB",
        warm=1,
        updates=2,
    )


def decoder(model: Settings, length: int) -> Work:
    """The speed of a language model on WikiText-2, as the recipe's head describes it."""
    causal = {
        "objective": "causal",
        "model.head": "lm",
        "model.position": "learned",  # as the peers' are
        "model.length": length,
        "data.reading.length": length,
    }
    return Work(
        recipe="wikitext2.yaml",
        settings={**model, **causal},
        peers=DECODERS,
        ours={OURS: {}},
        text="WikiText-2",
        unit="tokens/s",
        warm=2,
        updates=8,
    )


SMALL, MIDDLE, LARGE = sizes(128, 4, 256, 4, 4), sizes(256, 8, 512, 3, 3), sizes(512, 8, 2048, 6, 6)
WORKS = {
    "d128_4+4": translation(SMALL, warm=4, updates=20),
    "d256_3+3": translation(MIDDLE, warm=4, updates=20),
    "d512_6+6": translation(LARGE, warm=2, updates=4),
    "decoder_10m": decoder(sizes(320, 5, 1280, 0, 6), length=256),  # 7.4 M in the blocks, 2.6 M in 8,000 words
    "memory_d256_3+3": memory(MIDDLE),
    "memory_d512_6+6": memory(LARGE),
}
TINY: Settings = {"model.d_model": 32, "model.heads": 2, "model.d_ff": 64, "train.batch_tokens": 512}
