"""Language modelling: each token given those before it (Radford et al., 2018; Bengio et al., 2003)."""

from clearhead.data.text_batches import TextBatch, shifted
from clearhead.model import AttentionMask, Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.base import OBJECTIVES, Collate, Loss, TextObjective
from clearhead.train.objectives.likelihood import counted, negative_log_likelihood, padding


@OBJECTIVES.register("causal")
class Causal(TextObjective):
    """-log p(text), each token given the tokens of its document before it in the same row."""

    shift = 1
    likelihood = True

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        pad = tokenizer.need("pad")
        return lambda rows, random: shifted(rows, width, pad)

    def __call__(self, model: Transformer, batch: TextBatch) -> Loss:
        mask = AttentionMask(causal=True, segments=batch.segments)
        valid = padding(model, batch)
        hidden = model.decode(batch.ids, valid=valid, mask=mask, positions=batch.positions)  # (batch, length, d_model)
        value = negative_log_likelihood(model.head, counted(hidden, batch), counted(batch.labels, batch))
        return Loss(value, batch.tokens)
