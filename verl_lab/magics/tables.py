"""Runs and recipes as tables: text in a terminal, HTML in a notebook."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from verl_lab.domain.host import LOCAL
from verl_lab.errors import VerlLabError
from verl_lab.lab.table import Table
from verl_lab.recipes.versions import SHOWN
from verl_lab.widgets.wording import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab import Run
    from verl_lab.recipes.entries import Entry, Version

_RECIPE = ("recipe", "where", "algorithm", "extends", "what it is")


class RunTable(Table):
    """What ``%verl_runs`` shows."""

    @classmethod
    def of(cls, runs: Sequence[Run], *, shown: int | None) -> RunTable:
        """Make the table of the first ``shown`` runs, of all if None."""
        listed = runs[:shown]
        for run in listed:  # first, so that each host is asked about all of them at once
            if run.host_name != LOCAL:
                run.follow()
        left = len(runs) - len(listed)
        note = f"{left} older ones: %verl_runs --all" if left else ""
        headings = ("run", "name", "recipe", "state", "step", "started", "took", "reason")
        empty = "No runs yet. %verl_train RECIPE starts one; %verl_recipes lists the recipes."
        return cls(headings, tuple(_run_row(run) for run in listed), empty, note)


class RecipeTable(Table):
    """What ``%verl_recipes`` shows."""

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> RecipeTable:
        """Make the table of recipes; one that cannot be read says why."""
        return cls(_RECIPE, tuple(_recipe_row(entry) for entry in entries), "There are no such recipes.")


class VersionTable(Table):
    """What ``%verl_recipes RECIPE --versions`` shows."""

    @classmethod
    def of(cls, versions: Sequence[Version]) -> VersionTable:
        """Make the table of a recipe's versions."""
        rows = tuple((v.version[:SHOWN], _when(v.time), v.action, v.name, (v.parent or "")[:SHOWN]) for v in versions)
        return cls(("version", "when", "how", "called", "made from"), rows, "No version was kept.")


def _recipe_row(entry: Entry) -> tuple[str, ...]:
    if entry.recipe is None:
        return (entry.name, entry.place, "", "", f"cannot be used: {entry.problem}")
    recipe = entry.recipe
    return (entry.name, entry.place, recipe.algorithm, recipe.extends or "", recipe.description)


def _when(time: float) -> str:
    return datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M")


def _run_row(run: Run) -> tuple[str, ...]:
    row = run.row
    try:
        status = run.status()
    except VerlLabError as error:  # its folder is gone or damaged: the others are listed all the same
        return (run.id, row.name, row.recipe or "", row.state, str(row.step or ""), "", "", error.message)
    step = "" if status.step is None else f"{status.step} of {status.total}" if status.total else str(status.step)
    begun = status.started or row.created
    took = "" if status.started is None else duration((status.ended or time.time()) - status.started)
    started = _when(begun) if begun else ""
    return (run.id, row.name, row.recipe or "", status.state.value, step, started, took, status.reason or "")
