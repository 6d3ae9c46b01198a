"""What differs between two configurations, as a tree to search, with a table and a text beside it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, cast

import anywidget
import traitlets
from IPython.display import display  # pyright: ignore[reportUnknownVariableType]

from verl_lab.widgets.live import STYLE, front_end, own_style
from verl_lab.widgets.still import beside_widget
from verl_lab.widgets.told import clipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    DifferenceRow = tuple[str, str, str | None, str | None, str, str | None]

_VIEW = "application/vnd.jupyter.widget-view+json"
_ROWS_MOST = 3000
_STILL_ROWS_MOST = 300
_VALUE_LONGEST = 300
_KEY_LONGEST = 300
_SIGNS = {"added": "+", "removed": "−", "changed": "~"}


class DiffView(anywidget.AnyWidget):
    """Shows a difference; a notebook that is opened without its kernel shows the table.

    Parameters
    ----------
    names
        What A and B are called.
    rows
        For each key that differs: the key, ``added``, ``removed`` or ``changed``, both values as text (None where a
        side does not have it), why it is folded away (``noise``, ``follows``, ``moved``; empty where it is not), and
        the override that leads from A to B (None where there is none).
    same
        What is equal in both, as text by key.
    text
        All of it as text.
    notes
        What is to be known beside it.
    """

    _esm = front_end("dom", "differ")
    _css = f"{STYLE}\n{own_style('differ')}"
    told: Any = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        names: tuple[str, str],
        rows: Sequence[DifferenceRow],
        *,
        same: Mapping[str, str],
        text: str,
        notes: Sequence[str] = (),
    ) -> None:
        shown = [_told(row) for row in rows[:_ROWS_MOST]]
        left_out = len(rows) - len(shown)
        more = [f"{left_out} more are not listed."] if left_out else []
        super().__init__(
            told={
                "a": clipped(names[0], 200),
                "b": clipped(names[1], 200),
                "rows": shown,
                "notes": [*(clipped(note) for note in notes), *more],
            }
        )
        self._same = same
        self._text = text
        self._names = names
        self.on_msg(self._heard)  # pyright: ignore[reportUnknownMemberType]

    def show(self) -> None:
        """Display it in the present cell, and under it the table for when there is no kernel."""
        display(  # pyright: ignore[reportUnknownArgumentType]
            {_VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.model_id}, "text/plain": self._text},
            raw=True,
        )
        display({"text/html": beside_widget(self.html()), "text/plain": self._text}, raw=True)

    def html(self) -> str:
        """Return the differences as a table without anything that runs; every cell is text."""
        rows = cast("list[list[Any]]", self.told["rows"])
        telling = [row for row in rows if not row[4]]
        body = "".join(_html_row(row) for row in telling[:_STILL_ROWS_MOST])
        head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in ("", "", *self._names))
        folded = len(rows) - len(telling)
        said = [*cast("list[str]", self.told["notes"])]
        said += [f"{len(telling) - _STILL_ROWS_MOST} more rows are left out here."] * (len(telling) > _STILL_ROWS_MOST)
        said += [f"{folded} more differ in names, seeds and places, or follow from these."] * bool(folded)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if telling else ""
        nothing = "" if telling else "<p>No difference that matters.</p>" if folded else "<p>No difference.</p>"
        return table + nothing + "".join(f"<p>{escape(one)}</p>" for one in said)

    def _heard(self, _: object, content: object, __: object) -> None:
        asked = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        if asked.get("type") == "same":
            rows = [[clipped(key, _KEY_LONGEST), clipped(value, _VALUE_LONGEST)] for key, value in self._same.items()]
            self.send({"type": "same", "to": str(asked.get("to"))[:100], "rows": rows[:_ROWS_MOST]})


def _told(row: DifferenceRow) -> list[str | None]:
    key, kind, before, after, fold, override = row
    values = (None if value is None else clipped(value, _VALUE_LONGEST) for value in (before, after))
    return [clipped(key, _KEY_LONGEST), kind, *values, fold, override]


def _html_row(row: Sequence[Any]) -> str:
    key, kind, before, after = row[:4]
    cells = (_SIGNS[kind], key, *("" if value is None else value for value in (before, after)))
    style = "text-align:left;overflow-wrap:anywhere"
    return "<tr>" + "".join(f'<td style="{style}">{escape(str(cell))}</td>' for cell in cells) + "</tr>"
