"""Counting the words of a corpus, which is all that the trainers of subwords look at."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from clearhead.core.errors import ConfigError
from clearhead.text.base import corpus, empty_corpus


def count_words(texts: Iterable[str], normalizer: Normalizer | None, pre_tokenizer: PreTokenizer) -> Counter[str]:
    """How often each word stands in the corpus, in the order of first appearance.

    Raises:
        TokenizerError: there is no word at all.
    """
    counts: Counter[str] = Counter()
    for text in corpus(texts):
        normal = text if normalizer is None else normalizer.normalize_str(text)
        counts.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normal))
    if not counts:
        raise empty_corpus()
    return counts


def covered(counts: Mapping[str, int], coverage: float) -> Counter[str]:
    """The words cut at their rare characters, so that a vocabulary need not hold these.

    Args:
        counts: occurrences of each word.
        coverage: the share of the running characters to keep, from the most frequent down (ties by code
            point); 1 keeps all.
    """
    if not 0 < coverage <= 1:
        raise ConfigError("coverage is a share of the characters", found=coverage, expected="above 0, at most 1")
    if coverage == 1:
        return Counter(counts)
    kept = _frequent(character_counts(counts), coverage)
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        spaced = "".join(character if character in kept else "\0" for character in word)
        for part in spaced.split("\0"):
            parts[part] += count
    del parts[""]
    return parts


def character_counts(counts: Mapping[str, int]) -> Counter[str]:
    """How often each character stands in the corpus."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    return characters


def repeated(counts: Mapping[str, int], most: int = 10_000) -> Iterator[list[str]]:
    """Each word as often as it stands in the corpus, in lists of bounded length, for the library's trainers."""
    for word, count in counts.items():
        for start in range(0, count, most):
            yield [word] * min(most, count - start)


def _frequent(characters: Counter[str], coverage: float) -> set[str]:
    missing = coverage * characters.total()
    kept = set()
    for character in sorted(characters, key=lambda each: (-characters[each], each)):
        if missing <= 0:
            break
        kept.add(character)
        missing -= characters[character]
    return kept
