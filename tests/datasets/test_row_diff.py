"""Which rows two versions do not share, whatever their order."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.errors import NotFoundError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab


def test_counts_are_those_of_a_multiset(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path], dice: random.Random, rounds: Callable[[int], int]
) -> None:
    for _ in range(rounds(200)):
        rows = [[{"a": dice.randrange(12), "b": dice.choice("xy")} for _ in range(dice.randrange(1, 40))] for _ in "12"]
        one, two = (Counter(json.dumps(row) for row in each) for each in rows)
        files = [write_rows(tmp_path / f"{n}.jsonl", each) for n, each in enumerate(rows)]
        found = lab.datasets.diff(*files)
        assert found.added == (two - one).total()
        assert found.removed == (one - two).total()
        assert found.same == (one & two).total()
        assert found.changed is None
        assert found.is_empty == (one == two)
        added = [change.after for change in found.examples if change.what == "added"]
        assert len(added) == min(5, found.added)
        assert all(json.dumps(row) in two - one for row in added)


def test_with_a_key_changed_rows_are_told_with_what_changed(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    before = [{"id": n, "text": f"t{n}", "same": 1} for n in range(100)]
    after: list[dict[str, Any]] = [dict(row) for row in reversed(before) if row["id"] != 7]
    after[3]["text"] = "new"
    after.append({"id": 500, "text": "added", "same": 1})
    one, two = write_rows(tmp_path / "1.jsonl", before), write_rows(tmp_path / "2.jsonl", after)
    found = lab.datasets.diff(one, two, key="id")
    assert (found.same, found.added, found.removed, found.changed) == (98, 1, 1, 1)
    changed = next(change for change in found.examples if change.what == "changed")
    assert (changed.row_before, changed.row_after) == (96, 3)
    assert (changed.before, changed.after) == ({"text": "t96"}, {"text": "new"})
    assert lab.datasets.diff(one, two).removed == 2
    with pytest.raises(NotFoundError, match="no column 'idd'"):
        lab.datasets.diff(one, two, key="idd")


def test_the_kind_of_file_makes_no_difference(lab: Lab, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    rows = [{"id": n, "messages": [{"role": "user", "content": str(n)}]} for n in range(50)]
    one = write_rows(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows[::-1]), tmp_path / "b.parquet")
    assert lab.datasets.diff(one, tmp_path / "b.parquet").is_empty


def test_versions_are_compared_by_name_wherever_their_bytes_are(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    file = write_rows(tmp_path / "x.jsonl", [{"a": 1}])
    lab.datasets.add(file, "old")
    copied = write_rows(tmp_path / "copy.jsonl", [{"a": 1}])
    lab.datasets.add(copied, "older-still")
    write_rows(file, [{"a": 1}, {"a": 2}])
    lab.datasets.add(file, "new")
    assert lab.datasets.diff("old", "new").added == 1
    copied.unlink()
    with pytest.raises(NotFoundError, match="nowhere any more"):
        lab.datasets.diff("old", "new")
