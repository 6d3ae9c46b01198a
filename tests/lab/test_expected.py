"""What a recipe expects of its metrics is shown beside what they came to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.recipe import Expectation, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab import Lab


@pytest.mark.parametrize(
    ("wanted", "step", "met", "told"),
    [
        ({"min": 0.8}, None, "yes", "0.95 at step 20"),
        ({"min": 0.96}, None, "no", "0.96 or more"),
        ({"max": 0.5, "at_step": 10}, None, "yes", "0.45 at step 10"),
        ({"min": 0.5, "at_step": 10}, None, "no", "0.5 or more at step 10"),
        ({"min": 0.5, "at_step": 30}, None, "not known yet", "0.5 or more at step 30"),
        ({"min": 0.5, "at_step": 15}, 12, "not known yet", "0.5 or more at step 15"),
        ({"direction": "up"}, None, "yes", "rises"),
        ({"direction": "down", "min": 0.1, "max": 1}, None, "no", "0.1 to 1, falls"),
    ],
)
def test_expectations_stand_beside_what_metrics_came_to(
    lab: Lab, write_launch: Callable[..., Any], wanted: dict[str, Any], step: int | None, met: str, told: str
) -> None:
    recipe = Recipe(name="r", algorithm="grpo", expected={"critic/score/mean": Expectation(**wanted)})
    run = write_launch("expecting", recipe).begin().steps(1, 20, "critic/score/mean", lambda s: (s - 1) / 20).run
    (report,) = lab.diagnose(run, step=step)
    lines = [line for line in repr(report).splitlines() if line.startswith("critic/score/mean  ")]
    assert lines[0].endswith(f"  {met}")
    assert told in lines[0]
    assert told in report.to_html()


def test_nan_meets_no_expectation_and_what_is_not_logged_is_not_known(
    lab: Lab, write_launch: Callable[..., Any]
) -> None:
    names = {"a": Expectation(min=-9, max=9), "b": Expectation(direction="up"), "c": Expectation(min=0)}
    recipe = Recipe(name="r", algorithm="sft", expected=names)
    written = write_launch("expecting", recipe).begin()
    written.steps(1, 5, "a", lambda s: math.nan if s == 5 else 0.0)
    run = written.steps(6, 7, "b", lambda _: math.nan).run
    (report,) = lab.diagnose(run)
    assert [(one.metric, one.is_met) for one in report.outcomes] == [("a", False), ("b", False), ("c", None)]
