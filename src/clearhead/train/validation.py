"""How good a translator is right now: loss on the validation pairs, BLEU of its own translations, samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clearhead.core.batching import cut
from clearhead.core.errors import DataError
from clearhead.data.batches import Frame, translation_batch
from clearhead.data.sources import Pair
from clearhead.generate import SearchConfig, search_all
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives import Translation
from clearhead.train.scores import score_translations


@dataclass
class Translations:
    """A set of pairs held in memory, and what a model makes of them."""

    pairs: Sequence[Pair]
    source: Tokenizer
    target: Tokenizer
    language: str = "en"  # of the target, for tokenising before BLEU
    frame: Frame | None = None  # what stands round a source; None = an end of sentence after it

    @classmethod
    def read(
        cls, pairs: Iterable[Pair], source: Tokenizer, target: Tokenizer, language: str, frame: Frame | None = None
    ) -> "Translations":
        """Hold the pairs that have a text on both sides."""
        kept = [each for each in pairs if each.source.strip() and each.target.strip()]
        return cls(kept, source, target, language, frame)

    def require_reach(self, limit: int | None) -> None:
        """Refuse a pair that the model cannot read, with the place it comes from."""
        if limit is None:
            return
        for pair in self.pairs:
            longest = max(len(self.source.encode(pair.source)), len(self.target.encode(pair.target)))
            if longest >= limit:
                raise DataError(
                    "this pair is longer than the model can read",
                    where=pair.where,
                    found=f"{longest:,} tokens",
                    expected=f"fewer than {limit:,}",
                    remedy="split the sentence or leave it out",
                )

    def loss(self, model: Transformer, budget: int = 4_096) -> dict[str, float]:
        """Mean negative log-likelihood in nats per target token (end of sentence included), and its exponential."""
        sources = self.source.encode_batch([each.source for each in self.pairs])
        targets = self.target.encode_batch([each.target for each in self.pairs])
        order = sorted(range(len(sources)), key=lambda i: (len(targets[i]), len(sources[i])))
        total, count = 0.0, 0
        objective = Translation(label_smoothing=0.0)
        with torch.inference_mode():
            for part in cut([max(len(sources[i]), len(targets[i])) + 1 for i in order], budget):
                batch = translation_batch(
                    [np.asarray(sources[i], dtype=np.int64) for i in order[part]],
                    [np.asarray(targets[i], dtype=np.int64) for i in order[part]],
                    pad=self.target.need("pad"),
                    bos=self.target.need("bos"),
                    eos=self.target.need("eos"),
                    frame=self.frame,
                )
                loss = objective(model, batch.to(model.output.device))
                total, count = total + loss.value.item(), count + loss.count
        nats = total / max(1, count)
        return {"loss": nats, "perplexity": float(np.exp(min(nats, 700.0)))}

    def translate(self, model: Transformer, search: SearchConfig, limit: int = 0) -> list[str]:
        """The best translation of each source, of the first `limit` ones if a limit is given."""
        texts = [each.source for each in self.pairs[: limit or None]]
        before, after = self.frame or ([], [self.source.need("eos")])
        sources = [[*before, *ids, *after] for ids in self.source.encode_batch(texts)]
        found = search_all(model, sources, search, bos=self.target.need("bos"), eos=self.target.need("eos"))
        return self.target.decode_batch([each[0].tokens for each in found])

    def scores(self, model: Transformer, search: SearchConfig, limit: int = 0) -> dict[str, float | str]:
        """The corpus scores of the translations of the first `limit` pairs, or of all."""
        return self.judged(self.translate(model, search, limit))

    def judged(self, outputs: Sequence[str]) -> dict[str, float | str]:
        """The corpus scores of translations of the first pairs."""
        return score_translations(outputs, [each.target for each in self.pairs[: len(outputs)]], self.language)

    def samples(self, outputs: Sequence[str], count: int = 3) -> list[dict[str, str]]:
        """A few of these translations to read, always of the same pairs."""
        places = sorted({index * len(outputs) // count for index in range(count)}) if outputs else []
        chosen = [(self.pairs[place], outputs[place]) for place in places]
        return [{"source": pair.source, "output": output, "reference": pair.target} for pair, output in chosen]
