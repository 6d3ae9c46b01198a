"""Putting a panel into the cell that runs now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab.lab import Lab
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
