"""The reward of the sorting task: 1 for exactly the digits in ascending order, else 0."""

from __future__ import annotations

from typing import Any


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, float]:
    """Score one response; verl logs ``acc`` beside the score."""
    is_right = float(solution_str.strip() == ground_truth)
    return {"score": is_right, "acc": is_right}
