"""A loaded model as its user sees it: text in, text out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from clearhead.bundle import Bundle, damaged
from clearhead.core.devices import pick_device
from clearhead.core.errors import DataError, ModelError
from clearhead.generate import Hypothesis, SearchConfig, search_all


def load(folder: str | Path, *, device: str = "cpu") -> "Model":
    """Open the bundle of a run or an export; a BundleError names what is missing or damaged."""
    bundle = Bundle.load(Path(folder))
    try:
        return Model(bundle, device=device)
    except ValidationError as error:
        raise damaged(error, Path(folder) / "generation_config.json") from None


class Model:
    """A bundle ready for use.

    Args:
        bundle: model and tokenizers.
        device: where to compute; `auto` takes a GPU if there is one.
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        self.bundle = bundle
        self.device = pick_device(device)
        bundle.model.to(self.device).eval()
        self.search = SearchConfig.model_validate(bundle.search)

    def translate(self, texts: Sequence[str], search: SearchConfig | None = None) -> list[str]:
        """The best translation of each text; a text of nothing but white space gives an empty one.

        Args:
            texts: one sentence each.
            search: other settings than those the bundle came with.

        Raises:
            ModelError: this is no encoder-decoder.
            DataError: a text is longer than the model was made for; names its place, counted from 1.
        """
        return [found[0][0] for found in self.n_best(texts, search)]

    def n_best(
        self,
        texts: Sequence[str],
        search: SearchConfig | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[list[tuple[str, Hypothesis]]]:
        """Translations of each text, best first, each with its tokens and scores."""
        if isinstance(texts, str):
            raise DataError("one string is not a list of texts", remedy="pass [text]")
        model, source, target = self.bundle.model, self.bundle.source, self.bundle.target
        if model.config.kind != "encoder-decoder":
            remedy = "take a model that was trained to translate"
            raise ModelError(f"this model is {model.config.kind}: it does not translate", remedy=remedy)
        ids = source.encode_batch(list(texts))
        before, after = self.bundle.history.get("source_frame") or ([], [source.need("eos")])
        self._check_lengths(ids, model.config.length - len(before) - len(after))
        spoken = [index for index, each in enumerate(ids) if each and not texts[index].isspace()]
        found = search_all(
            model,
            [[*before, *ids[index], *after] for index in spoken],
            search or self.search,
            bos=target.need("bos"),
            eos=target.need("eos"),
            progress=progress,
        )
        results: list[list[tuple[str, Hypothesis]]] = [[("", Hypothesis([], 0.0, 0.0))] for _ in texts]
        for index, hypotheses in zip(spoken, found, strict=True):
            decoded = target.decode_batch([each.tokens for each in hypotheses])
            results[index] = list(zip(decoded, hypotheses, strict=True))
        return results

    @torch.inference_mode()
    def logits(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """Logits of a batch without padding.

        Args:
            tokens: (batch, length) int64, what the decoder reads (an encoder-only model: what it reads).
            source: (batch, source) int64, for an encoder-decoder.

        Returns:
            (batch, length, vocab), unnormalised log-probabilities of the next token (encoder-only: of each token).
        """
        model = self.bundle.model
        kind = model.config.kind
        if (source is not None) != (kind == "encoder-decoder"):
            remedy = "pass source=" if source is None else "leave source out"
            raise ModelError(f"what this model reads does not fit: it is {kind}", remedy=remedy)
        tokens = tokens.to(self.device)
        if kind == "encoder-only":
            return model.logits(model.encode(tokens).hidden)
        memory = None if source is None else model.encode(source.to(self.device))
        return model.logits(model.decode(tokens, memory))

    @staticmethod
    def _check_lengths(ids: Sequence[Sequence[int]], room: int) -> None:
        for number, each in enumerate(ids, start=1):
            if len(each) > room:
                raise DataError(
                    "this sentence is longer than the model was made for",
                    where=f"text {number}",
                    found=f"{len(each):,} tokens",
                    expected=f"fewer than {room + 1:,}",
                    remedy="split it into sentences, one a line",
                )
