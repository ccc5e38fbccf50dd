"""Each character is a token, blanks included."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from clearhead.text.base import TOKENIZERS, TokenizerKind, corpus, empty_corpus, finished, require_room
from clearhead.text.normalization import Normalization, normalizer
from clearhead.text.special import PLAIN, with_extra
from clearhead.text.tokenizer import Tokenizer


@TOKENIZERS.register("char")
class CharKind(TokenizerKind):
    """The characters of a corpus by descending count, ties by code point; any other one is `<unk>`.

    Args:
        vocab_size: the largest vocabulary, special tokens included; a corpus with fewer characters gives a
            smaller one.
        min_frequency: a rarer character is left out.
        normalization, lowercase: see `normalizer`; without them a text of known characters comes back
            exactly.
        extra_tokens: further special tokens, for instance those of a chat template.
    """

    exact = False

    def __init__(
        self,
        *,
        vocab_size: int = 20_000,
        min_frequency: int = 1,
        normalization: Normalization = "none",
        lowercase: bool = False,
        extra_tokens: tuple[str, ...] = (),
    ) -> None:
        self.vocab_size, self.min_frequency = vocab_size, min_frequency
        self.normalizer = normalizer(normalization, lowercase=lowercase)
        self.special = with_extra(PLAIN, extra_tokens)

    def train(self, texts: Iterable[str]) -> Tokenizer:
        require_room(self.vocab_size, len(self.special) + 1)
        characters = self._frequent(self._counts(texts))[: self.vocab_size - len(self.special)]
        # A BPE model without merges cuts into characters twice as fast as a word model behind a splitter.
        vocabulary = {token: index for index, token in enumerate([*self.special, *characters])}
        backend = Backend(models.BPE(vocabulary, [], unk_token="<unk>"))
        if self.normalizer is not None:
            backend.normalizer = self.normalizer
        backend.decoder = decoders.Fuse()
        return finished(backend, self.special)

    def _counts(self, texts: Iterable[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for text in corpus(texts):
            counts.update(text if self.normalizer is None else self.normalizer.normalize_str(text))
        return counts

    def _frequent(self, counts: Counter[str]) -> list[str]:
        ranked = sorted(counts, key=lambda character: (-counts[character], character))
        frequent = [character for character in ranked if counts[character] >= self.min_frequency]
        if not frequent:
            raise empty_corpus()
        return frequent
