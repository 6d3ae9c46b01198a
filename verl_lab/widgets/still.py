"""A run as a still picture and as text: what a notebook keeps when its kernel is gone."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from verl_lab.widgets.gather import gather
from verl_lab.widgets.judgement import judge
from verl_lab.widgets.picture import WIDTH_PX, Heading, picture
from verl_lab.widgets.snapshot import lines_of
from verl_lab.widgets.told import worst
from verl_lab.widgets.wording import number, progress

if TYPE_CHECKING:
    from verl_lab.domain.finding import Finding, Health
    from verl_lab.widgets.selection import Selection
    from verl_lab.widgets.source import PanelHeader, PanelSource

_FINDINGS_MOST = 8
# Shown only where the panel is not: `:has` finds the panel in the output before this one. An output
# before it that is a widget without a panel in it (its kernel is gone) says nothing but an error.
_STYLE = (
    ".jp-OutputArea-child:has(.verl-lab-live)+.jp-OutputArea-child:has(.verl-lab-still){display:none}"
    ".jp-OutputArea-child:has(+.jp-OutputArea-child .verl-lab-still)"
    ":has(>.jp-OutputArea-output:not([data-mime-type])):not(:has(.verl-lab-live)){display:none}"
)


def still(source: PanelSource, selection: Selection) -> dict[str, Any]:
    """Return a MIME bundle of the run as it is now: HTML with a picture, PNG and text.

    A run that has logged nothing yet gets no picture.
    """
    text = summary(source, selection)
    names = source.metric_names()
    has_values = any(source.series(chart.metric)[0].size for chart in selection.shown(names))
    return bundle(text, drawn(source, selection) if has_values else None)


def bundle(text: str, png: bytes | None) -> dict[str, Any]:
    """Return a MIME bundle of a text and its picture."""
    if png is None:
        return {"text/plain": text, "text/html": beside_widget(f"<pre>{escape(text)}</pre>")}
    encoded = b64encode(png).decode("ascii")
    alt = escape(text, quote=True)
    image = f'<img alt="{alt}" style="width:{WIDTH_PX}px" src="data:image/png;base64,{encoded}">'
    return {
        "text/html": beside_widget(image),
        "image/png": encoded,
        "text/plain": text,
    }


def drawn(source: PanelSource, selection: Selection) -> bytes:
    """Return the run's picture as it is now, as a PNG."""
    header, judgement = source.header(), judge(source)
    charts = selection.shown(source.metric_names())
    sheet = gather(lines_of(source, header, selection), charts, selection, judgement.findings)
    alarm, health = worst(judgement.findings), judgement.health
    heading = Heading(
        title=f"{header.name} · {_state(header)}",
        note=header.reason or progress(header),
        score="" if health.score is None else f"health {health.score}",
        alarm=_sentence(alarm) if alarm else "",
        severity=alarm.severity.value if alarm else "info",
    )
    return picture(heading, sheet)


def summary(source: PanelSource, selection: Selection) -> str:
    """Return the run as text: where it stands, what is wrong, and the last value of each chart."""
    header, judgement = source.header(), judge(source)
    lines = [f"{header.name} ({header.run_id}): {_state(header)}", progress(header), _score(judgement.health)]
    lines += [line for line in (header.reason, header.notice) if line]
    active = [finding for finding in judgement.findings if finding.is_active]
    for finding in active[:_FINDINGS_MOST]:
        lines.append(f"  {_sentence(finding)}")
        lines += [f"    try --set {setting}" for setting in finding.settings]
    if len(active) > _FINDINGS_MOST:
        lines.append(f"  and {len(active) - _FINDINGS_MOST} more findings")
    for chart in selection.shown(source.metric_names()):
        steps, values = source.series(chart.metric)
        if steps.size:
            lines.append(f"  {chart.label:<28} {number(float(values[-1])):>10}  at step {int(steps[-1])}")
    return "\n".join(lines)


def _sentence(finding: Finding) -> str:
    name = finding.title or finding.rule
    return f"{finding.severity.value.capitalize()} · {name} at step {finding.first_step}: {finding.evidence}"


def _score(health: Health) -> str:
    if health.score is None:
        return f"no health score: {health.reason}"
    return f"health {health.score} of 100" + "".join(f", {e.rule} −{e.weight:g}" for e in health.breakdown)


def _state(header: PanelHeader) -> str:
    """Return the state, with the time where it may have changed since."""
    if header.playback is not None:
        return f"replay at step {header.playback.position}"
    return header.state if header.is_over else f"{header.state}, as of {datetime.now().astimezone():%Y-%m-%d %H:%M}"


def beside_widget(inside: str) -> str:
    """Return HTML that shows only where the widget in the output before it does not."""
    return f'<div class="verl-lab-still"><style>{_STYLE}</style>{inside}</div>'
