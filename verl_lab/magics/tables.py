"""Runs and recipes as tables: text in a terminal, HTML in a notebook."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from verl_lab.errors import VerlLabError
from verl_lab.lab.table import Table
from verl_lab.widgets.wording import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab import Run
    from verl_lab.recipes.catalog import Catalog


class RunTable(Table):
    """What ``%verl_runs`` shows."""

    @classmethod
    def of(cls, runs: Sequence[Run], *, shown: int | None) -> RunTable:
        """Make the table of the first ``shown`` runs, of all if None."""
        listed = runs[:shown]
        left = len(runs) - len(listed)
        note = f"{left} older ones: %verl_runs --all" if left else ""
        headings = ("run", "name", "recipe", "state", "step", "started", "took", "reason")
        empty = "No runs yet. %verl_train RECIPE starts one; %verl_recipes lists the recipes."
        return cls(headings, tuple(_run_row(run) for run in listed), empty, note)


class RecipeTable(Table):
    """What ``%verl_recipes`` shows."""

    @classmethod
    def of(cls, catalog: Catalog) -> RecipeTable:
        """Make the table of every recipe; one that cannot be read says why."""
        rows = tuple(_recipe_row(catalog, name) for name in catalog.names())
        return cls(("recipe", "algorithm", "extends", "what it is"), rows, "There are no recipes.")


def _recipe_row(catalog: Catalog, name: str) -> tuple[str, ...]:
    try:
        recipe = catalog.get(name)
    except VerlLabError as error:
        return (name, "", "", f"cannot be used: {error.message}")
    return (name, recipe.algorithm, recipe.extends or "", recipe.description)


def _run_row(run: Run) -> tuple[str, ...]:
    row, status = run.row, run.status()
    step = "" if status.step is None else f"{status.step} of {status.total}" if status.total else str(status.step)
    begun = status.started or row.created
    took = "" if status.started is None else duration((status.ended or time.time()) - status.started)
    started = datetime.fromtimestamp(begun).astimezone().strftime("%Y-%m-%d %H:%M") if begun else ""
    return (run.id, row.name, row.recipe or "", status.state.value, step, started, took, status.reason or "")
