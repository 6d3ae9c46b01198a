"""``%verl_data``: a data set is added, shown, compared and collected from a cell; text stays text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .conftest import Shell

HOSTILE = "<script>alert(1)</script>\x1b[31m\n\u202egnp"


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(question: str, answer: str = "b") -> dict[str, Any]:
    return {"prompt": question, "chosen": answer, "rejected": "c"}


def test_a_path_is_added_and_shown_with_what_is_wrong(shell: Shell, tmp_path: Path) -> None:
    assert "No data sets yet" in repr(shell.run("%verl_data").result)
    write(tmp_path / "x.jsonl", [pair("a?"), pair("a?"), pair("d?", "c")])
    shown = repr(shell.run("%verl_data x.jsonl --name pairs --check dpo").result)
    for part in ("pairs", "jsonl", "rejected", "string", "repeat an earlier one", "nothing to prefer", "first rows"):
        assert part in shown
    assert "pairs" in repr(shell.run("%verl_data").result)
    assert repr(shell.run("%verl_data pairs").result) == shown
    assert shell.complete("%verl_data pa") == ["%verl_data pairs"]


def test_two_are_compared_row_by_row(shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", [pair("a?"), pair("b?")])
    write(tmp_path / "2.jsonl", [pair("a?"), pair("b?", "x")])
    shown = repr(shell.run("%verl_data --diff 1.jsonl 2.jsonl --key prompt").result)
    assert "changed  1" in shown
    assert '{"chosen": "x"}' in shown


def test_text_from_a_file_is_neither_markup_nor_a_command_to_the_terminal(shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", [{HOSTILE: HOSTILE, "prompt": HOSTILE, "chosen": HOSTILE, "rejected": HOSTILE}] * 2)
    result: Any = shell.run("%verl_data x.jsonl").result
    assert "<script>" not in result._repr_html_()
    assert not [c for c in repr(result) if not c.isprintable() and c != "\n"]


def test_collecting_asks_first(shell: Shell) -> None:
    assert "Nothing to remove" in repr(shell.run("%verl_data --collect").result)
    assert "--collect" in shell.run("%verl_data --yes").told


@pytest.mark.parametrize("line", ["no-such", "./none.jsonl", "x --name y", "--diff a b", ". --check grop", "--key a"])
def test_mistakes_are_told_in_a_line(shell: Shell, tmp_path: Path, line: str) -> None:
    write(tmp_path / "x.jsonl.bak", [pair("a?")])
    assert shell.run(f"%verl_data {line}").told
