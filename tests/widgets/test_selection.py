"""What a page may ask of the charts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.widgets.selection import CHARTS_MOST, OVERLAYS_MOST, Selection

NAMES = [f"m/{k}" for k in range(60)]


def test_view_takes_what_makes_sense() -> None:
    chosen = Selection().with_view({"smooth": 0.6, "log": True, "span": [20, 5]})
    assert (chosen.smooth, chosen.is_log, chosen.span) == (0.6, True, (5.0, 20.0))
    assert chosen.with_view({"span": None}).span is None
    assert chosen.with_view({"axis": "time"}).span is None
    low, high = chosen.with_view({"span": [7, 7]}).span or (0, 0)
    assert low < 7 < high


@pytest.mark.parametrize(
    "asked",
    [
        {"smooth": 1.0}, {"smooth": -0.1}, {"smooth": "0.5"}, {"smooth": math.nan}, {"smooth": True},
        {"axis": "wall"}, {"axis": None}, {"span": [1]}, {"span": [1, "2"]}, {"span": "all"}, {"span": [0, math.inf]},
    ],
)  # fmt: skip
def test_view_refuses_nonsense_naming_the_field(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"smooth|axis|span|first|last"):
        Selection().with_view(asked)


def test_charts_and_overlays_have_a_limit() -> None:
    chosen = Selection(only=("m/0",))
    for name in NAMES[1:CHARTS_MOST]:
        chosen = chosen.with_metric(name, shown=True, names=NAMES)
    assert len(chosen.shown(NAMES)) == CHARTS_MOST
    with pytest.raises(InvalidInputError, match=str(CHARTS_MOST)):
        chosen.with_metric(NAMES[-1], shown=True, names=NAMES)
    others = [str(k) for k in range(OVERLAYS_MOST + 1)]
    for other in others[:-1]:
        chosen = chosen.with_overlay(other, shown=True, known=others)
    with pytest.raises(InvalidInputError, match=str(OVERLAYS_MOST)):
        chosen.with_overlay(others[-1], shown=True, known=others)
    assert chosen.with_overlay("0", shown=False, known=()).over == tuple(others[1:-1])


@pytest.mark.parametrize("other", ["nobody", None, 3])
def test_unknown_overlay_is_refused(other: object) -> None:
    with pytest.raises(NotFoundError, match="no run"):
        Selection().with_overlay(other, shown=True, known=["a"])
