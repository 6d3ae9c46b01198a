"""Sample files, reduced to the few numbers per step that rules look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_SOLVED = 1.0  # a full score of verl's rule-based rewards, and its "acc"


@dataclass(frozen=True)
class SampleSummary:
    """What the samples of one step say.

    Attributes
    ----------
    responses
        Number of samples.
    groups
        Number of prompts with two or more responses.
    dead_groups, solved_groups
        Share of these groups whose scores are all the same, and all a full score; None without groups.
    truncated
        Share of responses cut at the length limit; None where lengths are not known.
    empty
        Share of responses without any text; None without responses.
    """

    responses: int
    groups: int
    dead_groups: float | None
    solved_groups: float | None
    truncated: float | None
    empty: float | None

    def as_metrics(self) -> dict[str, float]:
        """Return what is known as metrics, named ``samples/…``."""
        names = ("dead_groups", "solved_groups", "truncated", "empty")
        return {f"samples/{name}": value for name in names if (value := getattr(self, name)) is not None}


def summarise_samples(
    rows: Iterable[Mapping[str, Any]],
    *,
    count_tokens: Callable[[str], int] | None = None,
    max_response_length: int | None = None,
) -> SampleSummary:
    """Reduce the rollout samples of one step to a summary.

    Parameters
    ----------
    rows
        verl's rows, as in one file of ``trainer.rollout_data_dir``: ``input, output, score`` and, from
        its V1 trainer, ``uid`` as ``<prompt>_<rollout>_<output>``. Without it, rows of one input are
        a group.
    count_tokens, max_response_length
        How long an output is, and the limit (``data.max_response_length``): verl's samples do not say
        whether a response was cut. Without both, ``truncated`` is None.
    """
    groups: dict[str, list[tuple[float, bool]]] = {}
    responses = empty = cut = 0
    for row in rows:
        responses += 1
        output = str(row.get("output", ""))
        empty += not output.strip()
        if count_tokens is not None and max_response_length is not None:
            cut += count_tokens(output) >= max_response_length
        score = _number(row.get("score"))
        if score is not None:
            accuracy = _number(row.get("acc"))
            solved = (score if accuracy is None else accuracy) >= _SOLVED
            groups.setdefault(group_of(row), []).append((score, solved))
    compared = [group for group in groups.values() if len(group) > 1]
    dead = [group for group in compared if len({score for score, _ in group}) == 1]
    solved_groups = sum(all(solved for _, solved in group) for group in dead)
    knows_length = count_tokens is not None and max_response_length is not None
    return SampleSummary(
        responses=responses,
        groups=len(compared),
        dead_groups=len(dead) / len(compared) if compared else None,
        solved_groups=solved_groups / len(compared) if compared else None,
        truncated=cut / responses if knows_length and responses else None,
        empty=empty / responses if responses else None,
    )


def group_of(row: Mapping[str, Any]) -> str:
    """Return what the responses to one prompt share: the prompt's part of the uid, else the prompt itself."""
    uid = row.get("uid")
    if uid is None:
        return str(row.get("input"))
    match str(uid).rsplit("_", 2):
        case [prompt, rollout, output] if rollout.isdecimal() and output.isdecimal():
            return prompt
        case _:
            return str(uid)


def _number(value: object) -> float | None:
    if not isinstance(value, int | float):
        return None
    number = float(value)
    return None if math.isnan(number) else number
