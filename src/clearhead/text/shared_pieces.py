"""A model of SentencePiece over ids that another file gives its pieces, as OPUS-MT has them.

Source and target each have a model of their own, and one table of ids holds the pieces of both. So a tokenizer of one
side has places that its model cannot choose, though it can write them as text.
"""

from collections.abc import Mapping, Sequence

from tokenizers import AddedToken, Regex, decoders, models, normalizers
from tokenizers import Tokenizer as Backend

from clearhead.core.errors import TokenizerError
from clearhead.text.sentencepiece import NORMAL, UNIGRAM, USER_DEFINED, PieceModel

FOREIGN = "\U0010ffff"  # no character: set before what this side cannot choose, taken away by the decoder
BLANK = "▁"
UNKNOWN_PENALTY = 10.0  # nats below the worst piece that a character costs which is none


def shared_unigram(model: PieceModel, ids: Mapping[str, int], special: Sequence[str]) -> Backend:
    """The unigram model of one side, with the ids of the table; pieces that the table lacks are left out.

    Args:
        model: of this side.
        ids: piece -> id, of both sides; codes of languages (`>>fra<<`) are tokens of their own.
        special: the special tokens, `<unk>` among them.

    Raises:
        TokenizerError: the model is not a unigram model, or the table has no `<unk>`.
    """
    if model.model_type != UNIGRAM or "<unk>" not in ids:
        found = f"model_type {model.model_type}" if "<unk>" in ids else "no <unk> in the table of ids"
        raise TokenizerError("pieces that cannot be read", found=found, expected="a unigram model and a table of ids")
    backend = Backend(models.Unigram(_placed(model, ids, special), unk_id=ids["<unk>"]))
    backend.normalizer = _normalizer(model)
    plain = [decoders.Replace(FOREIGN, ""), decoders.Metaspace(BLANK), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*plain, decoders.Replace(Regex("^ | $"), "")])
    codes = [token for token in ids if token.startswith(">>") and token.endswith("<<")]
    backend.add_tokens([AddedToken(token, normalized=False) for token in codes])
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return backend


def _placed(model: PieceModel, ids: Mapping[str, int], special: Sequence[str]) -> list[tuple[str, float]]:
    """The pieces at their ids. Special tokens and codes keep their text, and score too high to be the worst."""
    scores = {each.text: each.score for each in model.pieces if each.type == NORMAL}
    worst = min(scores.values(), default=0.0)
    scores |= {each.text: 0.0 for each in model.pieces if each.type == USER_DEFINED}  # always taken whole
    # A character that is the other side's alone has its id here too, but costs what an unknown one does.
    scores = {text: worst - UNKNOWN_PENALTY for text in ids if len(text) == 1} | scores
    places = [(f"{FOREIGN}{index}", 0.0) for index in range(1 + max(ids.values()))]
    for text, index in ids.items():
        plain = text in scores or text in special or text.startswith(">>")
        # Six decimals, as a float32 has: the library's reader of tokenizer.json may change the last digit of more.
        places[index] = (text if plain else FOREIGN + text, round(scores.get(text, 0.0), 6))
    return places


def _normalizer(model: PieceModel) -> normalizers.Normalizer:
    """The rules that the file brings compiled (nmt_nfkc, mostly), then the blanks."""
    try:
        rules = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    except Exception as problem:  # the library raises nothing narrower
        raise TokenizerError("damaged rules of normalisation", found=str(problem)) from None
    single = [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex("^ | $"), "")]
    prefix = [normalizers.Prepend(" ")] if model.dummy_prefix else []
    visible = [normalizers.Replace(FOREIGN, "\ufffd"), normalizers.Replace(" ", BLANK)]
    return normalizers.Sequence([*rules, *(single if model.single_blanks else []), *prefix, *visible])
