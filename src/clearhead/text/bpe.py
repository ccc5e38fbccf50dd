"""Byte pair encoding over characters, the end of a word marked (Sennrich et al., 2016, arXiv:1508.07909)."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from clearhead.text.base import TOKENIZERS, TokenizerKind, finished, require_room, require_size
from clearhead.text.normalization import Normalization, normalizer
from clearhead.text.special import PLAIN, opening, with_extra
from clearhead.text.tokenizer import Tokenizer
from clearhead.text.words import count_words, covered, repeated

END = "</w>"


@TOKENIZERS.register("bpe")
class BpeKind(TokenizerKind):
    """Frequent neighbours among the characters of a word are merged; its last symbol carries `</w>`.

    Decoding gives the text back up to blanks: one space between words. As in the paper, a character that
    never ended (or never stood inside) a word in the corpus is `<unk>` there.

    Args:
        vocab_size: tokens, special ones and single characters included; exact.
        min_frequency: a pair seen less often is not merged. Of equally frequent pairs the one with the lower
            ids is.
        split_punctuation: make each punctuation mark a word, as the paper's tokenised text had it; `dog.`
            then shares `dog</w>` with `dog`, but comes back as `dog .`.
        coverage: share of the running characters that the vocabulary can write; see `covered`.
        normalization, lowercase: see `normalizer`.
        extra_tokens: further special tokens, for instance those of a chat template.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 8_000,
        min_frequency: int = 2,
        split_punctuation: bool = False,
        coverage: float = 1.0,
        normalization: Normalization = "none",
        lowercase: bool = False,
        extra_tokens: tuple[str, ...] = (),
    ) -> None:
        self.vocab_size, self.min_frequency, self.coverage = vocab_size, min_frequency, coverage
        self.normalizer = normalizer(normalization, lowercase=lowercase)
        self.special = with_extra(PLAIN, extra_tokens)
        punctuation = [pre_tokenizers.Punctuation("isolated")] if split_punctuation else []
        self.splitters = [pre_tokenizers.WhitespaceSplit(), *punctuation]

    def train(self, texts: Iterable[str]) -> Tokenizer:
        # Learned whole, the literal `<eos>` or `x</w>` of a text would share the id of the token of that name.
        unforged = pre_tokenizers.Split(Regex(opening([*self.special, END])), "isolated")
        counts = count_words(texts, self.normalizer, pre_tokenizers.Sequence([*self.splitters, unforged]))
        return self._learned(covered(counts, self.coverage))

    def _learned(self, counts: Mapping[str, int]) -> Tokenizer:
        symbols = [*self.special, *_alphabet(counts)]
        require_room(self.vocab_size, len(symbols))
        backend = Backend(models.BPE())
        backend.train_from_iterator(repeated(counts), self._trainer(symbols))
        require_size(self.vocab_size, backend.get_vocab_size(), self.min_frequency)
        return self._assembled(json.loads(backend.to_str())["model"])

    def _trainer(self, symbols: list[str]) -> trainers.BpeTrainer:
        return trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=symbols,  # all of them: left alone, the library numbers `x</w>` in random order
            end_of_word_suffix=END,
            show_progress=False,
        )

    def _assembled(self, model: dict[str, Any]) -> Tokenizer:
        merges = [(left, right) for left, right in model["merges"]]
        backend = Backend(models.BPE(model["vocab"], merges, unk_token="<unk>", end_of_word_suffix=END))
        if self.normalizer is not None:
            backend.normalizer = self.normalizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(self.splitters)
        backend.decoder = decoders.BPEDecoder(suffix=END)
        return finished(backend, self.special)


def _alphabet(counts: Mapping[str, int]) -> list[str]:
    """The symbols that words start out as: each character in code point order, then those that end a word."""
    inside = {character for word in counts for character in word}
    return [*sorted(inside), *(character + END for character in sorted({word[-1] for word in counts}))]
