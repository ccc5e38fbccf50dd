"""WordPiece, as in BERT: pieces chosen by likelihood gain, words cut by the longest match from the left."""

from collections.abc import Iterable

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from tokenizers.normalizers import Normalizer

from clearhead.text.base import TOKENIZERS, TokenizerKind, finished, require_room, require_size
from clearhead.text.normalization import Normalization, normalizer
from clearhead.text.special import BERT, with_extra
from clearhead.text.tokenizer import Tokenizer
from clearhead.text.wordpiece_trainer import Gain, wordpiece_vocabulary
from clearhead.text.words import count_words, covered


@TOKENIZERS.register("wordpiece")
class WordPieceKind(TokenizerKind):
    """Words at blanks and punctuation; `##` marks a piece inside a word; a word that cannot be cut is `[UNK]`
    as a whole.

    Decoding puts single spaces between words and takes the one before a punctuation mark away, as BERT does.
    A character that never began (or never continued) a word in the corpus cannot be written there.

    Args:
        vocab_size: tokens, special ones and single characters included; exact.
        min_frequency: a pair seen less often is not merged.
        gain: `ratio` or `total`, see `wordpiece_trainer`. `ratio` prefers rare pairs and fills the vocabulary
            with rare words unless `min_frequency` grows with the corpus; `total` needs about as few tokens as
            BPE.
        max_word: a longer word is `[UNK]`, in characters.
        coverage: share of the running characters that the vocabulary can write; see `covered`.
        normalization, lowercase: see `normalizer`; the defaults are those of uncased BERT.
        extra_tokens: further special tokens, for instance those of a chat template.

    Source: Devlin et al., 2019 (arXiv:1810.04805); training in `wordpiece_trainer`.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 8_000,
        min_frequency: int = 2,
        gain: Gain = "ratio",
        max_word: int = 100,
        coverage: float = 1.0,
        normalization: Normalization = "bert",
        lowercase: bool = True,
        extra_tokens: tuple[str, ...] = (),
    ) -> None:
        self.vocab_size, self.min_frequency, self.gain = vocab_size, min_frequency, gain
        self.max_word, self.coverage = max_word, coverage
        self.normalizer = normalizer(normalization, lowercase=lowercase)
        self.special = with_extra(BERT, extra_tokens)

    def train(self, texts: Iterable[str]) -> Tokenizer:
        words = pre_tokenizers.BertPreTokenizer()
        counts = covered(count_words(texts, self.normalizer, words), self.coverage)
        room = self.vocab_size - len(self.special)
        pieces = wordpiece_vocabulary(counts, room, min_frequency=self.min_frequency, gain=self.gain)
        require_room(self.vocab_size, len(self.special) + len(pieces))
        require_size(self.vocab_size, len(self.special) + len(pieces), self.min_frequency)
        return wordpiece_tokenizer([*self.special, *pieces], self.special, self.normalizer, max_word=self.max_word)


def wordpiece_tokenizer(
    vocabulary: list[str], special: list[str], normalize: Normalizer | None, *, max_word: int = 100
) -> Tokenizer:
    """A tokenizer over a given vocabulary, for instance the lines of a BERT `vocab.txt`."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    backend = Backend(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=max_word))
    if normalize is not None:
        backend.normalizer = normalize
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece("##", cleanup=True)
    return finished(backend, special)
