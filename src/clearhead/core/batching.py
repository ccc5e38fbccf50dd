"""Cutting rows of different length into batches within a budget of padded tokens."""

from collections.abc import Iterator, Sequence


def cut(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Slices of consecutive rows whose padded size, rows times longest length, stays within the budget.

    A single row longer than the budget makes a batch of its own. Count the special tokens that a batch adds.
    """
    start = longest = 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if index > start and (index - start + 1) * longest > budget:
            yield slice(start, index)
            start, longest = index, length
    if start < len(lengths):
        yield slice(start, len(lengths))
