"""Charts that need no kernel: a picture for every notebook, and what a report's page draws them from anew."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, Any

from verl_lab.widgets.packing import pack
from verl_lab.widgets.picture import WIDTH_PX, picture

if TYPE_CHECKING:
    from verl_lab.widgets.gather import Sheet
    from verl_lab.widgets.picture import Heading

CHARTS_MIME = "application/vnd.verl-lab.charts+json"


def charts(heading: Heading, sheet: Sheet) -> dict[str, Any]:
    """Return the MIME bundle of some charts: what a panel would be sent, HTML with a picture, PNG and text.

    The curves are reduced to what an eye can tell apart, however long the run was.
    """
    told, buffers = pack(sheet)
    encoded = b64encode(picture(heading, sheet)).decode("ascii")
    text = f"{heading.title} ({heading.note}): charts of " + ", ".join(plot.chart.label for plot in sheet.plots)
    view = {"log": sheet.is_log, "span": None}
    return {
        CHARTS_MIME: {"version": 1, **told, "view": view, "buffers": [b64encode(one).decode() for one in buffers]},
        "text/html": _image(encoded, text),
        "image/png": encoded,
        "text/plain": text,
    }


def _image(encoded: str, text: str) -> str:
    style = f"width:{WIDTH_PX}px;max-width:100%;height:auto"
    return f'<img alt="{escape(text, quote=True)}" style="{style}" src="data:image/png;base64,{encoded}">'
