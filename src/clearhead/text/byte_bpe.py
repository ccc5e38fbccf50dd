"""Byte pair encoding over the bytes of UTF-8, as in GPT-2 (Radford et al., 2019, section 2.2)."""

from collections.abc import Iterable

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from clearhead.text.alphabet import byte_alphabet
from clearhead.text.base import TOKENIZERS, TokenizerKind, corpus, finished, require_room, require_size
from clearhead.text.normalization import Normalization, normalizer
from clearhead.text.special import PLAIN, opening, with_extra
from clearhead.text.tokenizer import Tokenizer


@TOKENIZERS.register("byte_bpe")
class ByteBpeKind(TokenizerKind):
    """Frequent neighbours among bytes are merged; every text can be written and comes back exactly.

    Args:
        vocab_size: tokens, special ones and the 256 bytes included; exact.
        min_frequency: a pair seen less often is not merged.
        prefix_space: put a space before each text, so that its first word is the same token as inside;
            `decode` takes it away again, so decode from the first id of a text on, not from its middle.
        normalization, lowercase: see `normalizer`.
        extra_tokens: further special tokens, for instance those of a chat template.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 8_000,
        min_frequency: int = 2,
        prefix_space: bool = False,
        normalization: Normalization = "none",
        lowercase: bool = False,
        extra_tokens: tuple[str, ...] = (),
    ) -> None:
        self.vocab_size, self.min_frequency, self.prefix_space = vocab_size, min_frequency, prefix_space
        prefix = [normalizers.Prepend(" ")] if prefix_space else []
        self.normalizer = normalizer(normalization, lowercase=lowercase, then=prefix)
        self.special = with_extra(PLAIN, extra_tokens)

    def train(self, texts: Iterable[str]) -> Tokenizer:
        require_room(self.vocab_size, len(self.special) + 256)
        backend = Backend(models.BPE())
        if self.normalizer is not None:
            backend.normalizer = self.normalizer
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([words, _cut(self.special)])
        backend.train_from_iterator(corpus(texts), self._trainer())
        require_size(self.vocab_size, backend.get_vocab_size(), self.min_frequency)
        backend.pre_tokenizer = words
        backend.decoder = self._decoder()
        return finished(backend, self.special)

    def _trainer(self) -> trainers.BpeTrainer:
        return trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=self.special,
            initial_alphabet=byte_alphabet(),
            show_progress=False,
        )

    def _decoder(self) -> decoders.Decoder:
        if not self.prefix_space:
            return decoders.ByteLevel()
        return decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])


def _cut(special: list[str]) -> pre_tokenizers.PreTokenizer:
    """Keeps the literal of a special token in the corpus from becoming one token; only for training."""
    return pre_tokenizers.Split(Regex(opening(special)), "isolated")
