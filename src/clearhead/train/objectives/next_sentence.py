"""BERT's pretraining: masked tokens, and whether the second sentence follows the first.

Source: Devlin et al., 2018, arXiv:1810.04805, section 3.1.
"""

from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clearhead.data.corruption import Lexicon
from clearhead.data.corruption.base import Share
from clearhead.data.readings import SentencePair
from clearhead.data.store import Ids
from clearhead.data.text_batches import PairBatch, corrupted, laid
from clearhead.model import Transformer
from clearhead.model.head import Pretraining
from clearhead.text import Tokenizer
from clearhead.train.objectives.base import OBJECTIVES, Collate, Loss, TextObjective
from clearhead.train.objectives.likelihood import counted, negative_log_likelihood
from clearhead.train.objectives.masked import TOKENS, Choosing, Masking


@OBJECTIVES.register("next_sentence")
class NextSentence(TextObjective):
    """-log p(masked tokens) + weight * -log p(follows or not), summed over tokens and over pairs.

    BERT adds the two means; that is a weight of the masked tokens of a pair, some 15 % of a row.

    Args:
        choose, mask, random: see `Masking`.
        weight: what the decision about one pair counts, in masked tokens.
    """

    kinds = ("encoder-only",)
    heads = ("pretraining",)
    readings = ("sentence_pairs",)

    def __init__(
        self,
        *,
        choose: Choosing = TOKENS,
        mask: Share = 0.8,
        random: Share = 0.1,
        weight: Annotated[float, Field(ge=0.0)] = 19.0,
    ) -> None:
        self.masking, self.weight = Masking(choose, mask, random), weight

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        lexicon, pad = Lexicon.of(tokenizer), tokenizer.need("pad")
        cls, sep = tokenizer.need("cls"), tokenizer.need("sep")

        def collate(rows: Any, random: np.random.Generator) -> PairBatch:
            joined = [[_joined(each, cls, sep)] for each in rows]
            seen, chosen = self.masking.rows(joined, lexicon, random)
            batch = corrupted(joined, seen, chosen, width, pad)
            types = laid([[_types(each)] for each in rows], width, 0)
            follows = torch.tensor([int(not each.follows) for each in rows])
            return PairBatch(
                batch.tokens, batch.ids, batch.labels, batch.counted, batch.segments, batch.positions, types, follows
            )

        return collate

    def __call__(self, model: Transformer, batch: PairBatch) -> Loss:
        assert batch.follows is not None
        assert isinstance(model.head, Pretraining)
        hidden = model.encode(batch.ids, _valid(batch), segments=batch.types).hidden  # (batch, length, d_model)
        masked = negative_log_likelihood(model.head, counted(hidden, batch), counted(batch.labels, batch))
        scores = model.head.pairs(hidden).to(masked.dtype)  # (batch, 2)
        pairs = F.cross_entropy(scores, batch.follows, reduction="sum")
        right = (scores.argmax(dim=1) == batch.follows).to(masked.dtype).sum()
        each = batch.tokens / len(scores)  # the trainer divides sums by the tokens, these are means over pairs
        metrics = {"masked_loss": masked.detach(), "pair_loss": each * pairs.detach(), "pair_accuracy": each * right}
        return Loss(masked + self.weight * pairs, batch.tokens, metrics)


def _joined(pair: SentencePair, cls: int, sep: int) -> Ids:
    return np.concatenate([[cls], pair.first, [sep], pair.second, [sep]])


def _types(pair: SentencePair) -> Ids:
    return np.repeat([0, 1], [len(pair.first) + 2, len(pair.second) + 1])


def _valid(batch: PairBatch) -> Tensor | None:
    return None if batch.segments is None else batch.segments > 0
