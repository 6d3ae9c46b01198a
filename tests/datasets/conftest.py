"""Labs with a home of their own, and rows as trainers want them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a lab with a home of its own."""
    with Lab(tmp_path / "home") as made:
        yield made


@pytest.fixture
def write_rows() -> Callable[[Path, Iterable[dict[str, Any]]], Path]:
    """Return what writes rows as JSONL."""

    def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def sft_row() -> Callable[[str, str], dict[str, Any]]:
    """Return what makes a row of ``messages``."""

    def make(question: str, answer: str = "yes") -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    return make


@pytest.fixture
def rl_row() -> Callable[[str, str], dict[str, Any]]:
    """Return what makes a row of ``prompt``, ``data_source`` and ``reward_model``."""

    def make(question: str, truth: str = "1") -> dict[str, Any]:
        judged = {"style": "rule", "ground_truth": truth}
        return {"prompt": [{"role": "user", "content": question}], "data_source": "sums", "reward_model": judged}

    return make
