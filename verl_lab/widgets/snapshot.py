"""What the kernel sends a panel: where the run stands and the charts shown, complete each time."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from verl_lab.widgets.axis import Line
from verl_lab.widgets.gather import gather
from verl_lab.widgets.packing import pack
from verl_lab.widgets.told import clipped, told_finding, told_health, worst

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from verl_lab.domain.finding import Finding, Health
    from verl_lab.widgets.selection import Selection
    from verl_lab.widgets.source import PanelHeader, PanelSource

_NAMES_BYTES_MOST = 80_000
_REASON_LONGEST = 2_000


def snapshot(
    source: PanelSource,
    header: PanelHeader,
    selection: Selection,
    *,
    findings: Sequence[Finding] = (),
    health: Health | None = None,
    acknowledged: Collection[str] = (),
) -> tuple[dict[str, Any], list[bytes]]:
    """Return one message and its buffers; a panel that gets a snapshot needs no earlier one."""
    names = source.metric_names()
    lines = lines_of(source, header, selection)
    drawn, buffers = pack(gather(lines, selection.shown(names), selection, findings))
    alarm = worst(findings, acknowledged)
    message = {
        "type": "snapshot",
        "header": told_header(header),
        "chips": told_chips(selection, names),
        "view": told_view(selection),
        "count": len(names),
        "banner": told_finding(alarm) if alarm is not None else None,
        "active": sum(finding.is_active for finding in findings),
        "health": None if health is None else told_health(health, {f.rule: f.title for f in findings}),
        **drawn,
    }
    return message, buffers


def lines_of(source: PanelSource, header: PanelHeader, selection: Selection) -> list[Line]:
    """Return the run and what is laid over it."""
    known = source.others() if selection.over else dict[str, str]()
    return [Line(header.name, source), *(Line(known[one], source.other(one)) for one in selection.over if one in known)]


def told_header(header: PanelHeader) -> dict[str, Any]:
    """Return a header for a page."""
    told = {**asdict(header), "live": header.is_live, "over": header.is_over}
    return {
        key: clipped(value, _REASON_LONGEST if key in ("reason", "notice") else 300)
        if isinstance(value, str)
        else value
        for key, value in told.items()
    }


def told_chips(selection: Selection, names: list[str]) -> list[dict[str, Any]]:
    """Return the metrics offered as chips."""
    return [{**asdict(choice.chart), "shown": choice.shown} for choice in selection.choices(names)]


def told_view(selection: Selection) -> dict[str, Any]:
    """Return how the charts are drawn."""
    return {
        "smooth": selection.smooth,
        "log": selection.is_log,
        "axis": selection.axis,
        "span": selection.span,
        "over": list(selection.over),
    }


def told_names(names: Sequence[str]) -> dict[str, Any]:
    """Return the message that fills the list of metrics; what is too much for it is counted."""
    kept: list[str] = []
    size = 0
    for name in names:
        size += len(name.encode()) + 3
        if size > _NAMES_BYTES_MOST:
            break
        kept.append(name)
    return {"type": "names", "names": kept, "left_out": len(names) - len(kept)}


def told_others(others: Mapping[str, str]) -> dict[str, Any]:
    """Return the message that lists what can be laid over the curves, the newest 200."""
    return {"type": "others", "others": [[one, clipped(name, 200)] for one, name in list(others.items())[:200]]}
