"""What a cell of a report shows: sentences, tables and charts, each readable without a kernel."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verl_lab.lab.table import Table

    Part = dict[str, Any]

_WRAPPED = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font-size:12px"


@dataclass(frozen=True)
class Section:
    """A section of a report; a notebook's cell shows its parts one below the other.

    Attributes
    ----------
    parts
        MIME bundles.
    """

    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        return "\n\n".join(str(part["text/plain"]) for part in self.parts)

    def _ipython_display_(self) -> None:
        self.show()

    def show(self) -> None:
        """Show it in the present cell, or print it where there is none."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display  # pyright: ignore[reportUnknownVariableType]

        shell = get_ipython()
        if shell is None or not hasattr(shell, "kernel"):
            print(repr(self))  # noqa: T201  what a cell says, it prints
            return
        for part in self.parts:
            display(part, raw=True)  # pyright: ignore[reportUnknownArgumentType]


def said(*sentences: str) -> Part:
    """Return a paragraph of plain sentences."""
    text = " ".join(sentences)
    return {"text/html": f"<p>{escape(text)}</p>", "text/plain": text}


def heading(text: str) -> Part:
    """Return a heading within a section."""
    return {"text/html": f"<h3>{escape(text)}</h3>", "text/plain": text}


def shown(table: Table, above: str = "", *, folded: bool = False) -> Part:
    """Return a table, with what stands above it; a folded one opens with a click on that."""
    html = table.to_html()
    if folded:
        html = f"<details><summary>{escape(above)}</summary>{html}</details>"
    elif above:
        html = f"<h4>{escape(above)}</h4>{html}"
    return {"text/html": html, "text/plain": f"{above}\n{table!r}" if above else repr(table)}


def joined(parts: Iterable[Part]) -> Part:
    """Return parts without pictures as one."""
    some = list(parts)
    return {
        "text/html": "".join(part["text/html"] for part in some),
        "text/plain": "\n".join(part["text/plain"] for part in some),
    }


def wrapped(text: str) -> str:
    """Return a text with its line breaks as HTML."""
    return f'<div style="{_WRAPPED}">{escape(text)}</div>'
