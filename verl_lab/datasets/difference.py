"""Which rows two versions do not share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from verl_lab.datasets.content import pick, rows_of
from verl_lab.datasets.digests import Digests, paired
from verl_lab.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.datasets.content import Part

_EXAMPLES = 5


@dataclass(frozen=True)
class RowChange:
    """One row that is not the same in both.

    Attributes
    ----------
    row_before, row_after
        Its number, counted from 0 over all files; None where it is not there.
    before, after
        The row; None where it is not there. Of a changed row, only the columns that differ.
    """

    what: Literal["added", "removed", "changed"]
    row_before: int | None
    row_after: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class RowDiff:
    """How the rows of two versions differ; the order of rows does not count.

    Attributes
    ----------
    changed
        Rows with the same key and other content; None where no key column was given.
    examples
        Up to five of each.
    """

    same: int
    added: int
    removed: int
    changed: int | None
    examples: tuple[RowChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether they hold the same rows."""
        return not (self.added or self.removed or self.changed)


def diff_rows(before: Sequence[Part], after: Sequence[Part], *, key: str | None = None) -> RowDiff:
    """Compare two versions row by row, with 32 bytes in memory for each row.

    Parameters
    ----------
    key
        A column that says which row is which; without it a changed row is one removed and one added.

    Raises
    ------
    NotFoundError
        A row has no such column.
    FormatError
        A file cannot be read.
    """
    old, old_keys = _digests(before, key)
    new, new_keys = _digests(after, key)
    same_old, same_new = paired(old.pairs, new.pairs)
    left_old, left_new = _others(len(old), same_old), _others(len(new), same_new)
    changed: list[tuple[int, int]] = []
    if old_keys is not None and new_keys is not None:
        was, now = paired(old_keys.pairs[left_old], new_keys.pairs[left_new])
        changed = sorted(zip(left_old[was].tolist(), left_new[now].tolist(), strict=True))
        left_old, left_new = np.delete(left_old, was), np.delete(left_new, now)
    gone: list[int] = left_old[:_EXAMPLES].tolist()
    came: list[int] = left_new[:_EXAMPLES].tolist()
    old_rows = pick(before, [*gone, *(was for was, _ in changed[:_EXAMPLES])])
    new_rows = pick(after, [*came, *(now for _, now in changed[:_EXAMPLES])])
    examples = [
        *(RowChange("added", None, row, None, new_rows[row]) for row in came),
        *(RowChange("removed", row, None, old_rows[row], None) for row in gone),
        *(_changed(was, now, old_rows[was], new_rows[now]) for was, now in changed[:_EXAMPLES]),
    ]
    return RowDiff(
        same=len(same_old),
        added=len(left_new),
        removed=len(left_old),
        changed=None if key is None else len(changed),
        examples=tuple(examples),
    )


def _digests(parts: Sequence[Part], key: str | None) -> tuple[Digests, Digests | None]:
    rows, keys = Digests(), Digests()
    for row in rows_of(parts):
        rows.add(row)
        if key is not None:
            if key not in row:
                raise NotFoundError.of("column", key, row, f"Row {len(rows) - 1} has none.")
            keys.add(row[key])
    return rows, None if key is None else keys


def _others(count: int, taken: Any) -> Any:
    """Return the numbers below ``count`` that are not taken, in order."""
    free = np.ones(count, dtype=bool)
    free[taken] = False
    return np.flatnonzero(free)


def _changed(was: int, now: int, before: dict[str, Any], after: dict[str, Any]) -> RowChange:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return RowChange(
        "changed",
        was,
        now,
        {name: before[name] for name in names if name in before},
        {name: after[name] for name in names if name in after},
    )
