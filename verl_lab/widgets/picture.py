"""Charts as a still picture: what a notebook keeps when its kernel is gone."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.metric import BoundedChart
from verl_lab.widgets.packing import odd
from verl_lab.widgets.reduce import reduce
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from verl_lab.widgets.gather import Curve, Plot, Sheet

WIDTH_PX = 900
_POINTS = 1_000
_DPI = 120
_HEADER_IN, _LINE_IN, _ROW_IN = 0.75, 0.2, 1.85
_INK, _FAINT, _GRID, _LINE, _ALARM = "#1a1a1a", "#6b6b6b", "#ececec", "#1976d2", "#c62828"
_SEVERITIES = {"info": "#6b6b6b", "warning": "#b26a00", "error": "#c62828", "critical": "#c62828"}
# One colour and one dash for each line, so that they differ without colour too; as in panel.css.
_COLOURS = (_LINE, "#d9733a", "#2f9e8f", "#8e6bbf", "#c2507e", "#7f8b2f", "#5a7d9a")
_DASHES = ("-", "--", ":", "-.", (0, (6, 2)), (0, (1, 2)), (0, (8, 2, 2, 2)))
_FEW = 12
_DECADE = 10
_PALETTE = 64


@dataclass(frozen=True)
class Heading:
    """What stands above the charts.

    Attributes
    ----------
    title, note
        Two lines.
    score
        At the right; empty for none.
    alarm, severity
        A sentence on what is wrong, and how grave it is; empty for none.
    """

    title: str
    note: str
    score: str = ""
    alarm: str = ""
    severity: str = "warning"


def picture(heading: Heading, sheet: Sheet) -> bytes:
    """Draw charts, two in a row, and return them as a PNG."""
    # Only where a picture is drawn: importing matplotlib takes a third of a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    alarm = textwrap.wrap(heading.alarm, 118, max_lines=3, placeholder=" …")
    several = len(sheet.names) > 1
    head = _HEADER_IN + _LINE_IN * (len(alarm) + several)
    height = head + -(-len(sheet.plots) // 2) * _ROW_IN
    figure = Figure(figsize=(WIDTH_PX / 100, height), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _write(figure, 0.012, 1 - 0.26 / height, heading.title, size=12, weight="bold")
    _write(figure, 0.99, 1 - 0.26 / height, heading.score, size=12, weight="bold", align="right")
    _write(figure, 0.012, 1 - 0.50 / height, heading.note, size=9, color=_FAINT)
    for row, words in enumerate(alarm):
        below = 1 - (0.50 + _LINE_IN * (row + 1)) / height
        _write(figure, 0.012, below, words, size=9, color=_SEVERITIES.get(heading.severity, _INK))
    if several:
        _draw_names(figure, canvas, 1 - (head - 0.22) / height, sheet)
    for place, plot in enumerate(sheet.plots):
        row, column = divmod(place, 2)
        box = (
            0.065 + column * 0.5,
            (height - head - (row + 1) * _ROW_IN + 0.32) / height,
            0.415,
            (_ROW_IN - 0.68) / height,
        )
        note = _draw(figure.add_axes(box, facecolor="white"), plot, sheet)
        top = box[1] + box[3] + 0.1 / height
        label = _write(figure, box[0] - 0.053, top, plot.chart.label, size=9.5, weight="bold")
        after = label.get_window_extent(canvas.get_renderer()).x1 / figure.bbox.width + 0.007
        _write(figure, after, top, " · ".join(part for part in (plot.chart.unit, note) if part), size=8, color=_FAINT)
        _write(figure, box[0] + box[2], top, number(plot.last), size=9.5, weight="bold", align="right")
    canvas.draw()
    content = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # A palette makes the file a third as large; lines and text lose nothing that can be seen.
    image.quantize(_PALETTE).save(content, "png", optimize=True, dpi=(_DPI, _DPI))
    return content.getvalue()


def _draw_names(figure: Figure, canvas: FigureCanvasAgg, y: float, sheet: Sheet) -> None:
    """Say which colour is which run."""
    x = 0.012
    for k, name in enumerate(sheet.names):
        words = f"{'ABCDEFGH'[k % 8]} {name}" + ("" if sheet.is_drawn[k] else " (its log has no times)")
        written = _write(figure, x, y, words, size=9, color=_COLOURS[k % len(_COLOURS)], weight="bold")
        x = written.get_window_extent(canvas.get_renderer()).x1 / figure.bbox.width + 0.02


def _draw(axes: Axes, plot: Plot, sheet: Sheet) -> str:
    """Draw one chart; return what cannot be seen in it."""
    note = ""
    is_log = sheet.is_log and any(bool(np.any(curve.values > 0)) for curve in plot.curves)
    if is_log:
        axes.set_yscale("log", nonpositive="mask")
    for k, curve in reversed(list(enumerate(plot.curves))):
        said = _draw_curve(axes, curve, sheet, marked=k == 0)
        note = said if k == 0 else note
    for limit in plot.limits:
        if not is_log or limit["y"] > 0:
            axes.axhline(limit["y"], color=_SEVERITIES[limit["severity"]], linewidth=0.9, linestyle=(0, (3, 3)))
    for flag in plot.flags:
        if sheet.extent[0] <= flag["x"] <= sheet.extent[1]:
            colour = _SEVERITIES[flag["severity"]]
            axes.plot([flag["x"] / sheet.scale], [flag["y"]], color=colour, marker="o", markersize=5, linestyle="")
    if sheet.suffix:
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}{sheet.suffix}")
    if sheet.extent[0] < sheet.extent[1]:
        axes.set_xlim(sheet.extent[0] / sheet.scale, sheet.extent[1] / sheet.scale)
    if isinstance(plot.chart, BoundedChart) and not is_log:
        axes.set_ylim(*plot.chart.bounds)
    _settle_axes(axes, is_log=is_log)
    return note


def _draw_curve(axes: Axes, curve: Curve, sheet: Sheet, *, marked: bool) -> str:
    trace = reduce(curve.places, curve.values, points=_POINTS)
    gap = np.isnan(np.concatenate([[np.nan], trace.values, [np.nan]]))
    # A value between two gaps has no line: it gets a dot.
    dots = np.full(trace.values.shape, trace.count <= _FEW) | (gap[:-2] & gap[2:])
    axes.plot(
        trace.steps / sheet.scale,
        trace.values,
        color=_COLOURS[curve.line % len(_COLOURS)],
        alpha=0.25 if curve.is_raw else 1,
        linewidth=1.3,
        linestyle=_DASHES[curve.line % len(_DASHES)],
        marker="o",
        markersize=3,
        markevery=dots.tolist(),
        clip_on=not trace.count <= _FEW,
    )
    if not marked:
        return ""
    for kind, glyph, height in ((0, "x", 0.04), (1, "^", 0.96), (-1, "v", 0.04)):
        at = trace.mark_steps[trace.mark_kinds == kind] / sheet.scale
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
    return odd(trace, is_log=sheet.is_log, values=curve.values)


def _settle_axes(axes: Axes, *, is_log: bool) -> None:
    if is_log:
        _settle_log(axes)
    else:
        axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.grid(visible=True, axis="y", color=_GRID, linewidth=0.8, linestyle="-")
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=7.5, labelcolor=_FAINT, labelfontfamily="DejaVu Sans")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _settle_log(axes: Axes) -> None:
    """Give a logarithmic axis a few round ticks: powers of ten, or within one decade even steps."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = axes.get_ylim()
    axis = axes.yaxis
    axis.set_major_locator(LogLocator(numticks=5) if high > _DECADE * low else MaxNLocator(4))
    axis.set_major_formatter(lambda y, _: f"{y:.3g}")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


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


def _drawable(words: str, longest: int = 120) -> str:
    """Replace what the picture's font has no shape for, and cut what does not fit."""
    from matplotlib.font_manager import findfont, get_font  # pyright: ignore[reportUnknownVariableType]

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    text = "".join(c if ord(c) in known else "□" for c in " ".join(words.split()))
    return text if len(text) <= longest else text[: longest - 1] + "…"
