"""Measurements as a small table: rows of plain values, and the few questions that verdicts ask of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from clearhead.core.errors import DataError

Value = float | int | str | bool | None
Cell = Mapping[str, Value]  # conditions of one piece of an experiment
Row = Mapping[str, Value]  # what was measured


class Rows(Sequence[Row]):
    """All rows of a question, in the order of its cells."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows": ...
    def __getitem__(self, index: int | slice) -> "Row | Rows":
        return Rows(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def where(self, **conditions: Value) -> "Rows":
        """The rows in which each of these columns has this value; a row without the column is left out."""
        return Rows(r for r in self._rows if all(k in r and r[k] == v for k, v in conditions.items()))

    def having(self, *columns: str) -> "Rows":
        """The rows that have all of these columns."""
        return Rows(row for row in self._rows if all(each in row for each in columns))

    def distinct(self, column: str) -> list[Any]:
        """The values of a column, each once, in the order in which they first come."""
        return list(dict.fromkeys(row[column] for row in self._rows if column in row))

    def column(self, name: str, **conditions: Value) -> list[float]:
        """A column of numbers, of the rows that meet the conditions and have it."""
        return [float(row[name]) for row in self.where(**conditions).having(name)]  # type: ignore[arg-type]

    def one(self, name: str, **conditions: Value) -> float:
        """The only number of a column under these conditions; a DataError where there is none, or more than one."""
        found = self.column(name, **conditions)
        if len(found) != 1:
            raise DataError(f"one number of {name!r} was expected", found=f"{len(found)} for {conditions}")
        return found[0]

    def mean(self, name: str, **conditions: Value) -> float:
        """The mean of a column under these conditions; a DataError where there is nothing."""
        found = self.column(name, **conditions)
        if not found:
            raise DataError(f"no number of {name!r}", found=f"nothing for {conditions}")
        return sum(found) / len(found)

    def paired(self, name: str, left: Cell, right: Cell, by: str = "seed") -> list[float]:
        """Differences left - right of a column between two conditions, one for each seed that both have."""
        first, second = (
            {row[by]: float(row[name]) for row in self.where(**side).having(name, by)}  # type: ignore[arg-type]
            for side in (left, right)
        )
        return [first[each] - second[each] for each in first if each in second]
