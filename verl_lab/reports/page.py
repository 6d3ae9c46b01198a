"""An executed notebook as one HTML file that asks the network for nothing, its charts alive."""

from __future__ import annotations

import copy
import secrets
from base64 import b64encode
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
from nbconvert.exporters.html import HTMLExporter
from traitlets.config import Config

from verl_lab.reports.charts import CHARTS_MIME
from verl_lab.widgets.library import plotly_js_gz
from verl_lab.widgets.live import STYLE, front_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

_HERE = Path(__file__).parent
_FRONT = ("dom", "library", "plots", "charts")
# papermill's tags; these cells put nothing out.
_PARAMETERS = frozenset({"parameters", "injected-parameters"})
# What `<` and `&` begin in HTML, and what JavaScript takes for the end of a line.
_IN_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def to_html(notebook: NotebookNode, title: str) -> str:
    """Return the notebook as a self-contained page.

    Nothing on it is asked for from anywhere, and no script runs but its own: a policy that the browser keeps says so.
    Of cells whose source is hidden only what they put out is shown, and parameters are not shown at all.

    Parameters
    ----------
    notebook
        Executed.
    title
        What the browser's tab says.
    """
    shown = copy.deepcopy(notebook)
    interactive = list(_interactive(shown))
    _hide_sources(shown)
    nonce = secrets.token_urlsafe(18)
    parts = {
        "page_title": escape(title),
        "page_style": _style(),
        "page_nonce": nonce,
        "page_contents": _contents(shown),
        "page_library": b64encode(plotly_js_gz()).decode("ascii") if interactive else "",
        "page_script": _script() if interactive else "",
    }
    exporter = HTMLExporter(
        config=Config({"HTMLExporter": {"mathjax_url": "", "require_js_url": "", "jquery_url": ""}}),
        template_name="page",
        extra_template_basedirs=[str(_HERE)],
        embed_images=True,
    )
    body, _ = exporter.from_notebook_node(shown, resources={"metadata": {"name": title}, **parts})
    return body


def _interactive(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """Put what the page's script draws from in place of the pictures, which stay inside it for print."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            told = output.get("data", {}).get(CHARTS_MIME)
            if told is None:
                continue
            still = "".join(output.data["text/html"])
            data = orjson.dumps(told).decode().translate(_IN_HTML)
            output.data = {
                "text/html": '<div class="verl-lab-report-charts"><script type="application/json">'
                f'{data}</script><div class="verl-lab-report-still">{still}</div></div>'
            }
            yield output


def _contents(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Return anchor and text of the sections' headings; nbconvert makes the anchors so."""
    lines = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in str(cell.source).splitlines()]
    texts = [line.removeprefix("## ").strip() for line in lines if line.startswith("## ")]
    return [(text.replace(" ", "-"), text) for text in texts]


def _hide_sources(notebook: NotebookNode) -> None:
    notebook.cells = [cell for cell in notebook.cells if _PARAMETERS.isdisjoint(cell.metadata.get("tags", []))]
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["transient"] = {"remove_source": True}


@cache
def _style() -> str:
    from pygments.formatters.html import HtmlFormatter

    make = cast("Any", HtmlFormatter)
    light, dark = (make(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    own = (_HERE / "page" / "page.css").read_text("utf-8")
    return f"{STYLE}\n{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n{own}"


def _script() -> str:
    return f"{front_end(*_FRONT)}\n{(_HERE / 'page' / 'page.js').read_text('utf-8')}"
