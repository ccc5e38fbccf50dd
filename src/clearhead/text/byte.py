"""Each byte of the UTF-8 text is a token: nothing to learn, nothing unknown (ByT5, arXiv:2105.13626)."""

from collections.abc import Iterable

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from clearhead.text.alphabet import byte_alphabet
from clearhead.text.base import TOKENIZERS, TokenizerKind, finished
from clearhead.text.normalization import Normalization, normalizer
from clearhead.text.special import PLAIN, with_extra
from clearhead.text.tokenizer import Tokenizer


@TOKENIZERS.register("byte")
class ByteKind(TokenizerKind):
    """256 bytes after the special tokens: byte `b` has the id `len(special) + b`.

    Args:
        normalization, lowercase: see `normalizer`; without them any text comes back exactly.
        extra_tokens: further special tokens, for instance those of a chat template.
    """

    learns = False

    def __init__(
        self,
        *,
        normalization: Normalization = "none",
        lowercase: bool = False,
        extra_tokens: tuple[str, ...] = (),
    ) -> None:
        self.normalization, self.lowercase = normalization, lowercase
        self.special = with_extra(PLAIN, extra_tokens)

    def train(self, texts: Iterable[str] = ()) -> Tokenizer:
        """The tokenizer; the texts are not read."""
        vocabulary = {token: index for index, token in enumerate([*self.special, *byte_alphabet()])}
        backend = Backend(models.BPE(vocabulary, []))
        backend.normalizer = normalizer(self.normalization, lowercase=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        return finished(backend, self.special)
