"""The tokenizer of a model that came without one: everything that needs text says so."""

from tokenizers import Tokenizer as Backend

from clearhead.core.errors import TokenizerError
from clearhead.text.tokenizer import Tokenizer


class NoTokenizer(Tokenizer):
    """Has no token and reads no text; the model beside it answers ids with logits."""

    def __init__(self) -> None:
        self.pad = self.unk = self.bos = self.eos = self.mask = self.cls = self.sep = None
        self.given, self.special_ids, self.vocab_size = {}, frozenset(), 0

    @property
    def backend(self) -> Backend:  # type: ignore[override]  # an attribute there, a refusal here
        """There is none: whoever asks for it gets a TokenizerError."""
        raise _missing()

    def need(self, role: str) -> int:
        raise _missing()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoTokenizer)

    def __hash__(self) -> int:
        return hash(NoTokenizer)

    def __reduce__(self) -> tuple[object, ...]:
        return NoTokenizer, ()

    def __repr__(self) -> str:
        return "NoTokenizer()"


def _missing() -> TokenizerError:
    remedy = "give it ids and take its logits, or import it again with its tokenizer.json beside the weights"
    return TokenizerError("this model came without a tokenizer: it reads no text", remedy=remedy)


NO_TOKENIZER = NoTokenizer()
