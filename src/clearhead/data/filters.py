"""Which pairs are fit to learn from; what is dropped is counted by its reason."""

from collections import Counter

from pydantic import Field, PositiveInt

from clearhead.core.recipe import Section


class FilterConfig(Section):
    """Bounds that a training pair must keep; validation and test data are never filtered."""

    max_tokens: PositiveInt = 256  # of the source and of the target, end of sentence not counted
    max_ratio: float = Field(9.0, gt=1.0)  # longer side over shorter side, in tokens
    short: PositiveInt = 8  # a pair whose longer side has at most so many tokens may have any ratio


class Filter:
    """Decide pair by pair and remember how many went and why."""

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self.kept = 0
        self.dropped: Counter[str] = Counter()

    def __call__(self, source: list[int], target: list[int]) -> bool:
        """True if the pair of token ids stays."""
        reason = self._reason(len(source), len(target))
        if reason is None:
            self.kept += 1
        else:
            self.dropped[reason] += 1
        return reason is None

    def _reason(self, source: int, target: int) -> str | None:
        shorter, longer = sorted((source, target))
        if shorter == 0:
            return "empty side"
        if longer > self.config.max_tokens:
            return f"more than {self.config.max_tokens} tokens"
        if longer > self.config.short and longer > self.config.max_ratio * shorter:
            return f"length ratio above {self.config.max_ratio:g}"
        return None

    def report(self) -> str:
        """One line: how many pairs stay, how many go, and why."""
        reasons = ", ".join(f"{count:,} with {reason}" for reason, count in sorted(self.dropped.items()))
        return f"{self.kept:,} pairs" + (f"; dropped {reasons}" if reasons else "; none dropped")
