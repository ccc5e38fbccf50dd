"""A loaded model as its user sees it: text in, text out."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from clearhead.apply.chat import ChatTemplate, Message
from clearhead.apply.completing import Answer, Completer, Wish, beginning, opening, require_texts
from clearhead.apply.scoring import TokenScores, score_tokens
from clearhead.apply.speculating import Speculation, Speculator
from clearhead.bundle import Bundle, damaged
from clearhead.core.devices import pick_device
from clearhead.core.errors import BundleError, DataError, ModelError
from clearhead.core.files import read_text
from clearhead.core.registry import Choice
from clearhead.generate import Hypothesis, SamplingConfig, SearchConfig, search_each
from clearhead.generate.engine import EngineConfig
from clearhead.generate.request import Request
from clearhead.model import Transformer
from clearhead.model.packing import PRODUCTS, packed

EXACT = "float32"
Found = list[tuple[str, Hypothesis]]  # translations of one text, best first, each with its tokens and scores


def load(
    folder: str | Path, *, device: str = "cpu", engine: EngineConfig | None = None, weights: str = EXACT
) -> "Model":
    """Open the bundle of a run or an export; a BundleError names what is missing or damaged."""
    bundle = Bundle.load(Path(folder))
    template = Path(folder) / "chat_template.jinja"
    if template.is_file():
        bundle.history["chat_template"] = read_text(template, BundleError)
    try:
        return Model(bundle, device=device, engine=engine, weights=weights)
    except ValidationError as error:
        raise damaged(error, Path(folder) / "generation_config.json") from None


class Model:
    """A bundle ready for use.

    Args:
        bundle: model and tokenizers.
        device: where to compute; `auto` takes a GPU if there is one.
        engine: cache and limits of what continues texts.
        weights: how matrices are multiplied when texts are written: float32, or int8 on a CPU.

    Raises:
        ConfigError: unknown weights.
        ModelError: int8 weights on another device than a CPU.
    """

    def __init__(
        self, bundle: Bundle, *, device: str = "cpu", engine: EngineConfig | None = None, weights: str = EXACT
    ) -> None:
        self.bundle, self.engine = bundle, engine or EngineConfig()
        self.device, self.weights = pick_device(device), PRODUCTS.check(Choice(kind=weights))
        if self.device.type != "cpu" and weights != EXACT:
            raise ModelError(f"{weights} weights are for a CPU", found=self.device, remedy=f"use {EXACT} weights")
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
    ) -> list[Found]:
        """Translations of each text, best first, each with its tokens and scores."""
        results: list[Found] = [[] for _ in require_texts(texts)]
        for done, (index, each) in enumerate(self.translations(texts, search), start=1):
            results[index] = each
            progress(done)
        return results

    def translations(self, texts: Sequence[str], search: SearchConfig | None = None) -> Iterator[tuple[int, Found]]:
        """The same as soon as they are found, not in order: the place of a text, from 0, and its translations."""
        sources = self.sources(texts)
        bos, *forced = beginning(self.bundle)
        spoken = [index for index, each in enumerate(sources) if each]
        silent = [index for index, each in enumerate(sources) if not each]
        found = search_each(
            self.writer,
            [sources[index] for index in spoken],
            search or self.search,
            bos=bos,
            eos=self.bundle.target.need("eos"),
            forced=forced,
        )
        return chain(((index, [("", Hypothesis([], 0.0, 0.0))]) for index in silent), self._decoded(spoken, found))

    def sources(self, texts: Sequence[str]) -> list[list[int]]:
        """What the encoder reads of each text; nothing of one without words. Errors as those of `translate`."""
        kind, length = self.bundle.model.config.kind, self.bundle.model.config.length
        if kind != "encoder-decoder":
            remedy = "take a model that was trained to translate"
            raise ModelError(f"this model is {kind}: it does not translate", remedy=remedy)
        ids = self.bundle.source.encode_batch(require_texts(texts))
        before, after = self.bundle.source_frame
        self._check_lengths(ids, length - len(before) - len(after))
        spoken = [bool(each) and not text.isspace() for text, each in zip(texts, ids, strict=True)]
        return [[*before, *each, *after] if speaks else [] for each, speaks in zip(ids, spoken, strict=True)]

    def begin_with(self, token: str) -> None:
        """Let every target begin with a token from now on, such as that of the language to translate into.

        Raises:
            TokenizerError: the vocabulary has no such token.
        """
        history = self.bundle.history
        known = {**history.get("token_ids", {}), "forced_bos": self.bundle.target.token_id(token)}
        self.bundle.history = {**history, "token_ids": known}

    def token_scores(self, text: str, tokens: Sequence[int], *, top: int = 0) -> TokenScores:
        """How probable each token of a translation is, and so many most probable ones in its place."""
        (source,) = self.sources([text])
        return score_tokens(self.bundle, source, tokens, top=top)

    def _decoded(
        self, places: Sequence[int], found: Iterable[tuple[int, list[Hypothesis]]]
    ) -> Iterator[tuple[int, Found]]:
        for index, hypotheses in found:
            decoded = self.bundle.target.decode_batch([each.tokens for each in hypotheses])
            yield places[index], list(zip(decoded, hypotheses, strict=True))

    def stream_translation(self, text: str, search: SearchConfig | None = None) -> Generator[str, None, None]:
        """The translation of one text by greedy search, in pieces, as they come; errors as those of `translate`.

        Args:
            text: one sentence.
            search: other limits of the length than those the bundle came with.
        """
        (source,) = self.sources([text])
        most = (search or self.search).limit(len(source)) + 1 - len(beginning(self.bundle))  # what is forced counts
        greedy = SamplingConfig(temperature=0.0)
        return self.stream(text, max_tokens=max(1, most), sampling=greedy) if source else _nothing()

    # --- texts that are continued ---

    def generate(
        self,
        text: str,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
        speculation: Speculation | None = None,
    ) -> str:
        """The continuation of a text, or what an encoder-decoder makes of it.

        Args:
            text: what the model reads first; it is no part of the answer.
            max_tokens: the most tokens; None = as many as the model's context has room for.
            stop: strings that end the answer and are no part of it.
            sampling: how tokens are chosen; None = drawn from the model's own distribution.
            speculation: how to guess ahead, which is faster and draws from the same distribution; None = not at all.

        Raises:
            DataError: the text is longer than the model's context.
            ModelError: an encoder-only model, one that does not go with the speculation, or an answer that failed.
        """
        pieces = self.stream(text, max_tokens=max_tokens, stop=stop, sampling=sampling, speculation=speculation)
        return "".join(pieces)

    def stream(
        self,
        text: str,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
        speculation: Speculation | None = None,
    ) -> Generator[str, None, None]:
        """The same in pieces, as they come; arguments and errors as those of `generate`."""
        wish = Wish(max_tokens=max_tokens, stop=stop, sampling=sampling or SamplingConfig())
        return self._writing(speculation).stream(self.completer.request(text, wish), wish)

    def complete(
        self,
        texts: Sequence[str],
        wish: Wish | None = None,
        progress: Callable[[int], None] = lambda done: None,
        *,
        speculation: Speculation | None = None,
    ) -> list[list[Answer]]:
        """All answers to many texts, with their tokens, log-probabilities and times.

        They are computed side by side; with a speculation one after the other.

        Raises:
            DataError: a text that cannot be continued; names its place, counted from 1.
        """
        wanted = wish or Wish()
        requests = [self._request(number, each, wanted) for number, each in enumerate(require_texts(texts), start=1)]
        return self._writing(speculation).complete(requests, wanted, progress)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
        speculation: Speculation | None = None,
    ) -> Generator[str, None, None]:
        """The answer to a conversation in pieces, by the chat template of the model or a plain one.

        Args:
            messages: {"role": "user", "content": "..."}, the oldest first; other arguments as those of `generate`.
        """
        stops = [*stop, *self.template.stops]
        wish = Wish(max_tokens=max_tokens, stop=stops, sampling=sampling or SamplingConfig())
        request = self.completer.continuing(self.conversation(messages), wish)
        return self._writing(speculation).stream(request, wish)

    def conversation(self, messages: Sequence[Message]) -> list[int]:
        """The prompt that a conversation is for this model; its answer ends at `template.stops`, if not before.

        Raises:
            ModelError: a model that cannot converse.
            DataError: no messages, or one without role or content.
        """
        self.require_chat()
        start = opening(self.bundle) if self.template.plain else []  # a template of its own begins as it likes
        return [*start, *self.template.prompt(messages)]

    def require_chat(self) -> None:
        """Refuse with a ModelError a model that cannot converse."""
        kind = self.bundle.model.config.kind
        if kind != "decoder-only":
            raise ModelError(f"this model is {kind}: it does not converse", remedy="take a decoder-only model")

    @cached_property
    def completer(self) -> Completer:
        """The engine behind `generate`, `stream`, `complete` and `chat`."""
        return Completer(self.bundle, self.engine, model=self.writer)

    @cached_property
    def writer(self) -> Transformer:
        """The model that searches and the engine compute with: on a CPU a packed one, which shares what it can."""
        model = self.bundle.model
        return packed(model, self.weights) if self.device.type == "cpu" and model.config.decoder_layers else model

    def _writing(self, speculation: Speculation | None) -> Completer | Speculator:
        """Who answers requests."""
        return self.completer if speculation is None else Speculator(self.completer, speculation)

    @cached_property
    def template(self) -> ChatTemplate:
        """How a conversation becomes a prompt."""
        return ChatTemplate(self.bundle.target, self.bundle.history.get("chat_template"))

    def _request(self, number: int, text: str, wish: Wish) -> Request:
        """A text's request, checked."""
        try:
            request = self.completer.request(text, wish)
            self.completer.engine.admission.check(request)
        except DataError as error:
            raise DataError(
                error.what, where=f"text {number}", found=error.found, expected=error.expected, remedy=error.remedy
            ) from None
        return request

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


def _nothing() -> Generator[str, None, None]:
    """A stream that ends at once."""
    yield from ()
