"""Words that several architectures share: theirs -> ours."""

from clearhead.bundle.exchange.rules import Field, Theirs

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
GATED = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu"}
TIES = {True: "output", False: "none"}  # of a model of one stack


def padding(theirs: Theirs) -> int:
    """The id of padding in a model that names none: its end of text, which a mask hides all the same."""
    end = theirs.get("eos_token_id")
    first = (end[0] if isinstance(end, list) else end) or 0
    return int(first) if first < theirs.get("vocab_size", first + 1) else 0


VOCAB = ("source_vocab", "target_vocab")
PAD = Field("pad_token_id", "pad", padding)
