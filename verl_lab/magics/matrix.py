"""``%verl_train --matrix``: a run for each combination of settings, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.display import display  # pyright: ignore[reportUnknownVariableType]

from verl_lab.magics.line import MagicError
from verl_lab.magics.progress import wait_with_progress
from verl_lab.recipes.overrides import parse_override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab import Lab, Run
    from verl_lab.lab.launching.planned import PlannedRun


def values_of(words: Sequence[str]) -> dict[str, list[Any]]:
    """Read words like ``actor.optim.lr=1e-6,3e-6``; a comma in quotes or brackets separates nothing.

    Raises
    ------
    MagicError
        A key comes twice.
    InvalidInputError
        A word is of another form.
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        key, _, text = word.partition("=")
        items = [parse_override(f"{key}={part}" if text else word) for part in _split(text)]
        if items[0].key in found:
            raise MagicError(f"--matrix: {items[0].key} is given twice.")
        found[items[0].key] = [item.value for item in items]
    return found


def train_all(lab: Lab, recipe: str, planned: Sequence[PlannedRun]) -> list[Run]:
    """Launch one run after the other, each when the one before is over; one that fails stops none of the others.

    Raises
    ------
    MagicError
        The waiting was interrupted: the present run goes on, and no further one is launched.
    """
    runs: list[Run] = []
    for k, plan in enumerate(planned):
        print(f"{k + 1} of {len(planned)}: {plan.name}")
        run = lab.train(recipe, plan.overrides, name=plan.name, host=plan.host_name)
        runs.append(run)
        try:
            wait_with_progress(run)
        except MagicError as error:
            if run.state.is_live:
                left = len(planned) - k - 1
                raise MagicError(f"{error}\n{left} of the matrix were not launched.") from None
            print(error)
    if len(runs) > 1:
        display(lab.diff_table(runs))
        print(f"%verl_compare {' '.join(run.id for run in runs[:7])}")
    return runs


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside quotes and brackets."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts
