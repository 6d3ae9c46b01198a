"""What an output says of the panel in it, so that a page can draw the same without the kernel that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.domain.run import check_run_id
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

PANEL_MIME = "application/vnd.verl-lab.panel+json"


def told_panel(view: str, runs: Sequence[str], metrics: Sequence[str], **replay: Any) -> dict[str, Any]:
    """Return the part of an output's bundle that names the runs it shows; nothing where one has no proper id.

    Parameters
    ----------
    view
        ``run``, ``replay`` or ``compare``.
    runs
        Ids.
    metrics
        What to draw at first.
    replay
        Of a replay: ``start``, ``end`` and ``speed``.
    """
    try:
        for run in runs:
            check_run_id(run)
    except InvalidInputError:  # a folder from elsewhere; a page would refuse it, and the widget shows it
        return {}
    told: dict[str, Any] = {"version": 1, "view": view, "runs": list(runs), "metrics": list(metrics)}
    return {PANEL_MIME: {**told, "replay": replay} if replay else told}
