"""An executed notebook as one HTML file that asks the network for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbconvert.exporters.html import HTMLExporter
from traitlets.config import Config

if TYPE_CHECKING:
    from nbformat import NotebookNode

_ADDRESSES = (
    "mathjax_url",
    "require_js_url",
    "jquery_url",
    "widget_renderer_url",
    "jupyter_widgets_base_url",
    "html_manager_semver_range",
)


def to_html(notebook: NotebookNode, title: str) -> str:
    """Return the notebook as a self-contained page.

    nbconvert's page loads three scripts from a CDN (for formulas, widgets and old extensions);
    a report has none of these, so their addresses are emptied.
    """
    config = Config({"HTMLExporter": dict.fromkeys(_ADDRESSES, "")})
    exporter = HTMLExporter(config=config, template_name="lab", embed_images=True)
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return body
