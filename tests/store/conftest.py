"""A store in a file of its own, and records to put in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.store import RunRow, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'lab' / 'index.db'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url)
    opened.runs.upsert(RunRow(id="run-1", name="first", folder="/runs/run-1", created=1.0))
    yield opened
    opened.close()
