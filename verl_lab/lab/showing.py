"""Putting a panel into the cell that runs now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.errors import NotFoundError
from verl_lab.recipes.overrides import literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab.lab import Lab
    from verl_lab.recipes.diff import Diff
    from verl_lab.widgets.panel import Panel
    from verl_lab.widgets.source import PanelSource, Player


def present_cell() -> int | None:
    """Return the number of the cell that runs now; None outside IPython."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return None if shell is None else shell.execution_count


def show_panel(
    lab: Lab, source: PanelSource, metrics: Sequence[str], known: Sequence[str], player: Player | None
) -> Panel:
    """Show a panel of ``metrics``, which must be among ``known``; the lab ends it with itself.

    Raises
    ------
    NotFoundError
        There is no such metric; the nearest are named.
    """
    from verl_lab.widgets.panel import Panel, show

    for name in metrics:
        if name not in known:
            raise NotFoundError.of("metric", name, known)
    panel = Panel(source, metrics=metrics, player=player)
    lab.panels.add(panel)
    show(panel)
    return panel


def show_diff(found: Diff) -> None:
    """Show a difference as a tree in a notebook's cell, as text in a terminal."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        print(found.text())  # noqa: T201  what a cell says, it prints
        return
    from verl_lab.widgets.differing import DiffView

    DiffView(
        found.names,
        [_row(found, key) for key in found.keys],
        same={key: literal(value) for key, value in found.same.items()},
        text=found.text(),
        notes=found.notes,
    ).show()


def _row(found: Diff, key: str) -> tuple[str, str, str | None, str | None, str, str | None]:
    kind = "added" if key in found.added else "removed" if key in found.removed else "changed"
    before = None if kind == "added" else found.removed[key] if kind == "removed" else found.changed[key].before
    after = None if kind == "removed" else found.added[key] if kind == "added" else found.changed[key].after
    folds = {"noise": found.noise, "follows": found.follows, "moved": found.moved}
    return (
        key,
        kind,
        None if kind == "added" else literal(before),
        None if kind == "removed" else literal(after),
        next((name for name, keys in folds.items() if key in keys), ""),
        found.override(key),
    )
