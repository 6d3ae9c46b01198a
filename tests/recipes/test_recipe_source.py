"""Reading recipe files: what is accepted, and that nothing hostile gets further."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from verl_lab.errors import FormatError, NotFoundError
from verl_lab.recipes.source import LARGEST_BYTES, parse_mapping, read_mapping


def test_scalars_follow_yaml_1_2() -> None:
    text = (
        "a: 1e-4\nb: no\nc: 2024-01-01\nd: 007\ne: true\nf: ~\ng:\nh: -3\n"
        "i: 1:30\nj: .inf\nk: '1'\nl: 0.5\nm: 1.\nn: +5"
    )
    found = parse_mapping(text, "x")
    assert found == {
        "a": 1e-4,
        "b": "no",
        "c": "2024-01-01",
        "d": "007",
        "e": True,
        "f": None,
        "g": None,
        "h": -3,
        "i": "1:30",
        "j": float("inf"),
        "k": "1",
        "l": 0.5,
        "m": 1.0,
        "n": 5,
    }
    assert type(found["h"]) is int
    assert type(found["a"]) is float


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: !!python/object/apply:os.system ['touch pwned']", "tag"),
        ("a: !!python/name:os.system", "tag"),
        ("a: !custom 1", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("a: &x [1]\nb: *x", "anchors"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "anchors"),
        ("a: [", "line"),
        ("a: 1\na: 2", "twice"),
        ("1: 2", "key must be text"),
        ("[1]: 2", "key must be text"),
        ("- 1", "mapping"),
        ("", "mapping"),
        ("a: 1\n---\nb: 2", "one document"),
        ("a: \x07", "x"),
        ("a: " + "[" * 21 + "]" * 21, "deeper"),
        ("a: " + "{b: " * 5000, "deeper"),
    ],
)
def test_hostile_or_broken_yaml_is_refused_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        with pytest.raises(FormatError) as caught:
            parse_mapping(text, "x.yaml")
    finally:
        os.chdir(here)
    assert told in str(caught.value)
    assert "x.yaml" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_alias_bomb_costs_no_memory() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    tracemalloc.start()
    with pytest.raises(FormatError):
        parse_mapping(bomb, "bomb")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 1024 * 1024


def test_oversized_and_undecodable_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text("a: 1\n" + "#" * LARGEST_BYTES)
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9")
    with pytest.raises(FormatError, match="64 KiB"):
        read_mapping(tmp_path / "big.yaml")
    with pytest.raises(FormatError, match="byte 6 is not UTF-8"):
        read_mapping(tmp_path / "latin.yaml")
    with pytest.raises(NotFoundError, match="No such file"):
        read_mapping(tmp_path / "none.yaml")


def test_syntax_error_names_line_and_column() -> None:
    with pytest.raises(FormatError, match=r"r\.yaml, line 3, column 5"):
        parse_mapping("a: 1\nb: [1,\nc: 2", "r.yaml")
