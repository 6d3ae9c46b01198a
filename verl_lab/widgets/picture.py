"""A run as a still picture and as text: what a notebook keeps when its kernel is gone."""

from __future__ import annotations

import io
from base64 import b64encode
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.widgets.reduce import Trace, reduce
from verl_lab.widgets.wording import number, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from verl_lab.domain.metric import Chart
    from verl_lab.widgets.snapshot import Choice
    from verl_lab.widgets.source import PanelHeader, PanelSource

_POINTS = 1_000
_DPI = 120
_WIDTH_IN, _HEADER_IN, _ROW_IN = 9.0, 0.75, 1.85
_INK, _FAINT, _GRID, _LINE, _ALARM = "#1a1a1a", "#6b6b6b", "#ececec", "#1976d2", "#c62828"
_FEW = 12
_COLOURS = 64
# Shown only where the panel is not: `:has` finds the panel in the output before this one. An output
# before it that is a widget without a panel in it (its kernel is gone) says nothing but an error.
_STYLE = (
    ".jp-OutputArea-child:has(.verl-lab-live)+.jp-OutputArea-child:has(.verl-lab-still){display:none}"
    ".jp-OutputArea-child:has(+.jp-OutputArea-child .verl-lab-still)"
    ":has(>.jp-OutputArea-output:not([data-mime-type])):not(:has(.verl-lab-live)){display:none}"
)


def still(source: PanelSource, choices: Sequence[Choice]) -> dict[str, Any]:
    """Return a MIME bundle of the run as it is now: HTML with a picture, PNG and text.

    A run that has logged nothing yet gets no picture.
    """
    header = source.header()
    text = summary(source, choices)
    charts = [choice.chart for choice in choices if choice.shown]
    traces = {chart: reduce(*source.series(chart.metric), points=_POINTS) for chart in charts}
    if not any(trace.count for trace in traces.values()):
        return {"text/plain": text, "text/html": _html(f"<pre>{escape(text)}</pre>")}
    png = b64encode(picture(header, traces)).decode("ascii")
    alt = escape(text, quote=True)
    return {
        "text/html": _html(
            f'<img alt="{alt}" style="width:{_WIDTH_IN * 100:.0f}px" src="data:image/png;base64,{png}">'
        ),
        "image/png": png,
        "text/plain": text,
    }


def summary(source: PanelSource, choices: Sequence[Choice]) -> str:
    """Return the run in a few lines of text: where it stands, and the last value of each chart."""
    header = source.header()
    lines = [f"{header.name} ({header.run_id}): {_state(header)}", progress(header)]
    lines += [line for line in (header.reason, header.notice) if line]
    for choice in choices:
        steps, values = source.series(choice.chart.metric)
        if choice.shown and steps.size:
            lines.append(f"  {choice.chart.label:<28} {number(float(values[-1])):>10}  at step {int(steps[-1])}")
    return "\n".join(lines)


def picture(header: PanelHeader, traces: dict[Chart, Trace]) -> bytes:
    """Draw the run's charts, two in a row, and return them as a PNG.

    Parameters
    ----------
    header
        Where the run stands.
    traces
        What to draw, in order.
    """
    # Only where a picture is drawn: importing matplotlib takes a third of a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    rows = -(-len(traces) // 2)
    height = _HEADER_IN + rows * _ROW_IN
    figure = Figure(figsize=(_WIDTH_IN, height), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _write(figure, 0.012, 1 - 0.26 / height, f"{header.name} · {_state(header)}", size=12, weight="bold")
    _write(figure, 0.012, 1 - 0.50 / height, header.reason or progress(header), size=9, color=_FAINT)
    for place, (chart, trace) in enumerate(traces.items()):
        row, column = divmod(place, 2)
        box = (
            0.065 + column * 0.5,
            (height - _HEADER_IN - (row + 1) * _ROW_IN + 0.32) / height,
            0.425,
            (_ROW_IN - 0.68) / height,
        )
        axes = figure.add_axes(box, facecolor="white")
        _draw(axes, trace)
        top = box[1] + box[3] + 0.1 / height
        label = _write(figure, box[0] - 0.053, top, chart.label, size=9.5, weight="bold")
        after = label.get_window_extent(canvas.get_renderer()).x1 / figure.bbox.width + 0.007
        _write(figure, after, top, chart.unit, size=8, color=_FAINT)
        _write(figure, box[0] + box[2], top, number(trace.last), size=9.5, weight="bold", align="right")
    canvas.draw()
    content = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # A palette makes the file a third as large; lines and text lose nothing that can be seen.
    image.quantize(_COLOURS).save(content, "png", optimize=True, dpi=(_DPI, _DPI))
    return content.getvalue()


def _state(header: PanelHeader) -> str:
    """Return the state, with the time where it may have changed since."""
    return header.state if header.is_over else f"{header.state}, as of {datetime.now().astimezone():%Y-%m-%d %H:%M}"


def _draw(axes: Axes, trace: Trace) -> None:
    gap = np.isnan(np.concatenate([[np.nan], trace.values, [np.nan]]))
    # A value between two gaps has no line: it gets a dot.
    dots = np.full(trace.values.shape, trace.count <= _FEW) | (gap[:-2] & gap[2:])
    axes.plot(
        trace.steps,
        trace.values,
        color=_LINE,
        linewidth=1.3,
        linestyle="-",
        marker="o",
        markersize=3,
        markevery=dots.tolist(),
    )
    for kind, glyph, height in ((0, "x", 0.04), (1, "^", 0.96), (-1, "v", 0.04)):
        at = trace.mark_steps[trace.mark_kinds == kind]
        if at.size:
            axes.plot(
                at,
                np.full(at.size, height),
                color=_ALARM,
                marker=glyph,
                markersize=4,
                linestyle="",
                transform=axes.get_xaxis_transform(),
            )
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.grid(visible=True, axis="y", color=_GRID, linewidth=0.8, linestyle="-")
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=7.5, labelcolor=_FAINT, labelfontfamily="DejaVu Sans")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _write(
    figure: Figure,
    x: float,
    y: float,
    words: str,
    *,
    size: float,
    color: str = _INK,
    weight: str = "normal",
    align: str = "left",
) -> Text:
    # Names are text: `$` starts no formula, and the user's own settings of matplotlib have no say.
    return figure.text(
        x,
        y,
        _drawable(words),
        fontsize=size,
        color=color,
        fontweight=weight,
        ha=align,
        va="baseline",
        parse_math=False,
        usetex=False,
        fontfamily="DejaVu Sans",
    )


def _drawable(words: str, longest: int = 110) -> str:
    """Replace what the picture's font has no shape for, and cut what does not fit."""
    from matplotlib.font_manager import findfont, get_font  # pyright: ignore[reportUnknownVariableType]

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    text = "".join(c if ord(c) in known else "□" for c in " ".join(words.split()))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _html(inside: str) -> str:
    return f'<div class="verl-lab-still"><style>{_STYLE}</style>{inside}</div>'
