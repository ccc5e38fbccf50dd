"""Scores: accuracy and F1 of classes; BLEU with its signature, chrF, and the lower-cased BLEU of the literature."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacremoses import MosesPunctNormalizer, MosesTokenizer

Classes = npt.NDArray[np.int64]


def score_translations(
    outputs: Sequence[str], references: Sequence[str], language: str = "en"
) -> dict[str, float | str]:
    """Corpus scores of outputs against one reference each.

    Args:
        outputs, references: raw text, one sentence each.
        language: code of the target language; `zh` is cut to characters, others as 13a.

    Returns:
        bleu, bleu_signature, chrf (0 to 100), and bleu_tokenized_lowercased: Moses-normalised, -tokenised and
        lower-cased text on both sides, 4-gram BLEU without smoothing, as multi-bleu.perl.
    """
    bleu = BLEU(tokenize="zh" if language.startswith("zh") else "13a")
    chrf = CHRF()
    plain = BLEU(tokenize="none", force=True, smooth_method="none")
    prepared = [[moses(each, language).lower() for each in side] for side in (outputs, references)]
    return {
        "bleu": bleu.corpus_score(list(outputs), [list(references)]).score,
        "bleu_signature": str(bleu.get_signature()),
        "chrf": chrf.corpus_score(list(outputs), [list(references)]).score,
        "bleu_tokenized_lowercased": plain.corpus_score(prepared[0], [prepared[1]]).score,
    }


def moses(text: str, language: str) -> str:
    """Normalise punctuation and tokenise like the Moses scripts; tokens separated by one space."""
    normalizer, tokenizer = _moses_tools(language)
    return str(tokenizer.tokenize(normalizer.normalize(text), return_str=True, escape=False))


@lru_cache(maxsize=8)
def _moses_tools(language: str) -> tuple[MosesPunctNormalizer, MosesTokenizer]:
    return MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)


def score_classes(found: Classes, right: Classes) -> dict[str, float]:
    """Accuracy, and F1 as the plain mean over the classes that occur in either; both from 0 to 1.

    Args:
        found, right: (texts,) numbers of classes.
    """
    classes = np.union1d(found, right)
    hits = np.array([((found == each) & (right == each)).sum() for each in classes])
    given = np.array([(found == each).sum() + (right == each).sum() for each in classes])
    return {"accuracy": float((found == right).mean()), "macro_f1": float((2 * hits / given).mean())}
