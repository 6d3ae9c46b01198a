"""Many files: small ones at once, large ones in turn, and none begun after one that failed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import TransportError
from verl_lab.transport.several import move_several

if TYPE_CHECKING:
    from verl_lab.transport.several import Tell

LARGE = 10**6


def test_small_files_are_under_way_together_and_large_ones_alone() -> None:
    sizes = {"large 1": LARGE, **{f"small {number}": 10 for number in range(4)}, "large 2": LARGE}
    together, under_way, heard = threading.Barrier(4), set[str](), list[tuple[str, int]]()

    def move(name: str, tell: Tell) -> None:
        if name.startswith("small"):
            together.wait(30)
            return
        assert not under_way
        under_way.add(name)
        tell(LARGE // 2, LARGE)
        under_way.remove(name)

    move_several(sizes, move, lambda name, done: heard.append((name, done)))
    assert heard[:4] == [
        ("large 1", LARGE // 2),
        ("large 1", LARGE),
        ("large 2", LARGE + LARGE // 2),
        ("large 2", 2 * LARGE),
    ]
    assert sorted(name for name, _ in heard[4:]) == [f"small {number}" for number in range(4)]
    assert [done - 2 * LARGE for _, done in heard[4:]] == [10, 20, 30, 40]


def test_after_a_failure_no_other_is_begun_and_none_is_under_way() -> None:
    begun, ended = list[str](), list[str]()

    def move(name: str, _tell: Tell) -> None:
        begun.append(name)
        if name == "0":
            raise TransportError("The disk is full.")
        threading.Event().wait(0.05)
        ended.append(name)

    with pytest.raises(TransportError, match="disk is full"):
        move_several({str(number): 10 for number in range(200)}, move, lambda _name, _done: None)
    assert len(begun) < 100
    assert sorted(ended) == sorted(set(begun) - {"0"})
