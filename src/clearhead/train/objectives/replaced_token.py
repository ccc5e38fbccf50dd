"""Replaced-token detection: a small generator writes words into gaps, the model finds them.

Source: Clark et al., 2020, ELECTRA, arXiv:2003.10555, section 2.
"""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from clearhead.core.registry import Choice
from clearhead.data.text_batches import TextBatch
from clearhead.model import ModelConfig, Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.base import OBJECTIVES, Collate, Loss, TextObjective
from clearhead.train.objectives.likelihood import counted, negative_log_likelihood, read_both_ways
from clearhead.train.objectives.masked import Masked


class Contest(nn.Module):
    """A discriminator and the generator that it is trained against, which share one table of word vectors."""

    def __init__(self, discriminator: Transformer, generator: Transformer) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.config = discriminator.config
        table = discriminator.encoder.embedding.matrix()
        generator.encoder.embedding.table = table
        generator.head.matrix = generator.output = table


@OBJECTIVES.register("replaced_token")
class ReplacedToken(TextObjective):
    """The generator's masked-token loss plus `weight` times the discriminator's loss over all tokens.

    ELECTRA adds the two means. Here both are sums, so that parts of a batch add up exactly: the discriminator's sum is
    scaled by the share of tokens that are masked on average.

    Args:
        rate: share of tokens that are masked.
        weight: of the discriminator (the paper: 50).
        d_model, heads, d_ff, layers: of the generator (the paper: a quarter to a half of the widths, all layers).
    """

    kinds = ("encoder-only",)
    heads = ("tokens",)

    def __init__(
        self,
        *,
        rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15,
        weight: Annotated[float, Field(ge=0.0)] = 50.0,
        d_model: PositiveInt = 64,
        heads: PositiveInt = 2,
        d_ff: PositiveInt = 256,
        layers: PositiveInt = 2,
    ) -> None:
        self.rate, self.weight = rate, weight
        self.sizes = {"d_model": d_model, "heads": heads, "d_ff": d_ff, "encoder_layers": layers}
        self.masked = Masked(choose=Choice(kind="token", options={"rate": rate}), mask=1.0, random=0.0)

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        return self.masked.collator(tokenizer, width)

    def learner(self, model: Transformer) -> nn.Module:
        width = model.encoder.embedding.width
        same = {"kv_heads": None, "d_head": None, "head": "mlm", "tie": "output"}
        changes = {**self.sizes, **same, "embedding": {"kind": "factorised", "width": width}}
        generator = Transformer(ModelConfig.model_validate(model.config.model_dump(mode="json") | changes))
        return Contest(model, generator.to(model.output.device, model.output.dtype))

    def product(self, learner: Any) -> Transformer:
        model: Transformer = learner.discriminator
        return model

    def __call__(self, model: Contest, batch: TextBatch) -> Loss:
        hidden = counted(read_both_ways(model.generator, batch), batch)  # (tokens, d_model of the generator)
        written = negative_log_likelihood(model.generator.head, hidden, counted(batch.labels, batch))
        read = filled(batch, sampled(model.generator.logits(hidden.detach())))
        scores = model.discriminator.logits(read_both_ways(model.discriminator, read))[..., 0].to(written.dtype)
        found, accuracy = detection(scores, read, batch)
        metrics = {
            "generator_loss": written.detach(),
            "detection_loss": self.rate * found.detach(),
            "detection_accuracy": batch.tokens * accuracy,
        }
        return Loss(written + self.weight * self.rate * found, batch.tokens, metrics)


@torch.no_grad()
def sampled(logits: Tensor) -> Tensor:
    """One token from each distribution, (tokens, vocab) -> (tokens,)."""
    return torch.multinomial(logits.float().softmax(dim=-1), 1)[:, 0]


def filled(batch: TextBatch, words: Tensor) -> TextBatch:
    """The text with `words` in its gaps; (tokens,)."""
    ids = batch.labels.masked_scatter(batch.counted, words)
    return TextBatch(batch.tokens, ids, batch.labels, batch.counted, batch.segments, batch.positions)


def detection(scores: Tensor, read: TextBatch, batch: TextBatch) -> tuple[Tensor, Tensor]:
    """Sum of -log p(replaced or not) over all tokens but padding, and the share that is decided right.

    Args:
        scores: (batch, length), above 0 = replaced.
        read: what the discriminator read; a token that the generator guessed right counts as real.
        batch: what stood there.
    """
    real = torch.ones_like(batch.counted) if batch.segments is None else batch.segments > 0
    replaced = (read.ids != batch.labels)[real].to(scores.dtype)  # (tokens,)
    found = F.binary_cross_entropy_with_logits(scores[real], replaced, reduction="sum")
    right = ((scores[real] > 0) == (replaced > 0)).to(scores.dtype).mean()
    return found, right
