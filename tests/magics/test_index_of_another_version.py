"""Magics and ``Lab`` where another version of verl-lab has made the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from index_recordings import RUN, make_index, make_newer

from verl_lab import Lab
from verl_lab.errors import StoreError
from verl_lab.store.migrations import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell


def test_older_index_is_brought_up_to_date_by_the_first_magic(shell: Shell, tmp_path: Path) -> None:
    make_index(tmp_path / "home" / "verl-lab.db", 1)
    answer = shell.run("%verl_runs")
    assert answer.error is None
    line = next(line for line in str(answer.result).splitlines() if RUN in line)
    assert line.split()[:5] == [RUN, "old", "grpo-cpu", "completed", "1020"]  # though its folder is gone
    assert "its folder is gone" in line
    with Lab(tmp_path / "home") as lab:
        assert [row.id for row in lab.store.runs.list(kind="run")] == [RUN]


def test_newer_index_is_refused_in_two_lines_that_say_what_to_do(shell: Shell, tmp_path: Path) -> None:
    file = make_newer(tmp_path / "home" / "verl-lab.db")
    told = shell.run("%verl_runs").told
    assert f"schema version {NEWEST + 1}" in told
    assert "Upgrade verl-lab" in told
    with pytest.raises(StoreError, match="schema version"):
        Lab(tmp_path / "home")
    file.unlink()
    assert shell.run("%verl_runs").error is None  # the folders are the truth: an index is made anew
