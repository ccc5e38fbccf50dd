"""The unigram model over pieces (Kudo, 2018, arXiv:1804.10959), with the visible space of SentencePiece."""

import json
from collections.abc import Iterable

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from clearhead.text.base import TOKENIZERS, TokenizerKind, finished, require_room, require_size
from clearhead.text.normalization import Normalization, normalizer, single_spaces
from clearhead.text.special import PLAIN, opening, with_extra
from clearhead.text.tokenizer import Tokenizer
from clearhead.text.words import character_counts, count_words, covered, repeated

Piece = tuple[str, float]  # the piece and its log-probability in nats


@TOKENIZERS.register("unigram")
class UnigramKind(TokenizerKind):
    """A text is cut into the most probable pieces; spaces belong to them, as `▁`; unknown characters are `<unk>`.

    Decoding gives the text back up to blanks: one space between words, none at the ends.

    Args:
        vocab_size: tokens, special ones and single characters included; exact.
        max_piece: the longest piece, in characters.
        coverage: share of the running characters that the vocabulary can write; see `covered`.
        normalization, lowercase: see `normalizer`.
        extra_tokens: further special tokens, for instance those of a chat template.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 8_000,
        max_piece: int = 16,
        coverage: float = 1.0,
        normalization: Normalization = "none",
        lowercase: bool = False,
        extra_tokens: tuple[str, ...] = (),
    ) -> None:
        self.vocab_size, self.max_piece, self.coverage = vocab_size, max_piece, coverage
        self.normalizer = normalizer(normalization, lowercase=lowercase, then=single_spaces())
        self.special = with_extra(PLAIN, extra_tokens)
        # The special tokens are pieces of the model: only a cut keeps a literal `<eos>` from matching one.
        unforged = pre_tokenizers.Split(Regex(opening(self.special)), "isolated")
        self.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), unforged])

    def train(self, texts: Iterable[str]) -> Tokenizer:
        counts = covered(count_words(texts, self.normalizer, self.pre_tokenizer), self.coverage)
        # One more than the characters: given no room besides them, the library overshoots.
        require_room(self.vocab_size, len(self.special) + len(character_counts(counts)) + 1)
        backend = Backend(models.Unigram())
        backend.train_from_iterator(repeated(counts), self._trainer())
        require_size(self.vocab_size, backend.get_vocab_size())
        return self._assembled(_canonical(json.loads(backend.to_str())["model"]["vocab"], len(self.special)))

    def _trainer(self) -> trainers.UnigramTrainer:
        return trainers.UnigramTrainer(
            vocab_size=self.vocab_size,
            max_piece_length=self.max_piece,
            special_tokens=self.special,
            unk_token="<unk>",
            show_progress=False,
        )

    def _assembled(self, pieces: list[Piece]) -> Tokenizer:
        backend = Backend(models.Unigram(pieces, unk_id=self.special.index("<unk>")))
        if self.normalizer is not None:
            backend.normalizer = self.normalizer
        backend.pre_tokenizer = self.pre_tokenizer
        backend.decoder = decoders.Metaspace()
        return finished(backend, self.special)


def _canonical(vocabulary: list[list[str | float]], special: int) -> list[Piece]:
    """The library's pieces in an order and with scores that do not depend on the order of its hash tables.

    It sums probabilities in random order, which changes the last digits, and it ranks the characters that no
    piece needed at random, 1e-4 nats apart from the lowest score up. Here scores have six decimals, these
    characters share the lowest score, and pieces go by descending score, then by code point.
    """
    pieces = [(str(piece), float(score)) for piece, score in vocabulary]
    learned, lowest = pieces[special:], min(score for _, score in pieces[special:])
    settled = [(piece, round(lowest if _arbitrary(piece, score - lowest) else score, 6)) for piece, score in learned]
    return pieces[:special] + sorted(settled, key=lambda each: (-each[1], each[0]))


def _arbitrary(piece: str, above: float) -> bool:
    steps = above / 1e-4
    return len(piece) == 1 and steps < 1e5 and abs(steps - round(steps)) < 1e-4
