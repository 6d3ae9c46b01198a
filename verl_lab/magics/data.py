"""What ``%verl_data`` shows: the data sets, one of them, what two of them do not share."""

from __future__ import annotations

import html
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from IPython.display import display  # pyright: ignore[reportUnknownVariableType]

from verl_lab import inputs
from verl_lab.domain.host import LOCAL
from verl_lab.lab.table import Table, plain
from verl_lab.magics.line import MagicError, argument
from verl_lab.magics.progress import Line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from IPython.display import DisplayHandle

    from verl_lab.datasets import RowDiff
    from verl_lab.domain.dataset import DatasetVersion
    from verl_lab.domain.recipe import Problem
    from verl_lab.lab import Lab
    from verl_lab.lab.datasets import Collected

_CHECKED_UP_TO_BYTES = 10**9
_TOLD_FROM_BYTES = 256 * 10**6
_TOLD_EVERY_S = 0.5
_HASH_SHOWN = 12
_LONGEST_CELL = 300

ARGUMENTS = (
    argument("data", metavar="PATH|NAME|HASH", nargs="?", help="add what lies there and show it; default: list all"),
    argument("--name", help="what to call it; default: what the file is called"),
    argument("--check", metavar="ALGORITHM", help="what it is for (sft, dpo, grpo, …); default: by its columns"),
    argument("--held-out", metavar="PATH|NAME|HASH", help="what must not share a question with it"),
    argument("--tokenizer", metavar="FOLDER", help="a model's folder: count tokens too"),
    argument("--rows", type=int, default=3, metavar="N", help="how many rows to show (default: 3)"),
    argument("--diff", nargs=2, metavar=("A", "B"), help="show which rows two of them do not share"),
    argument("--key", metavar="COLUMN", help="with --diff: the column that tells which row is which"),
    argument("--collect", action="store_true", help="show the copies that no run needs; with --yes remove them"),
    argument("--host", metavar="HOST", help="with --collect: the copies there, of models and checkpoints too"),
    argument("--yes", action="store_true", help="with --collect: do it"),
)


@dataclass(frozen=True)
class Tables:
    """Tables one below the other, each under its title."""

    parts: tuple[tuple[str, Table], ...]

    def __repr__(self) -> str:
        return "\n\n".join(f"{title}\n{table!r}" if title else repr(table) for title, table in self.parts)

    def _repr_html_(self) -> str:
        titled = ((f"<p><b>{html.escape(title)}</b></p>" if title else "", table) for title, table in self.parts)
        return "".join(f"{title}{table.to_html()}" for title, table in titled)


class Telling:
    """Says how far reading or copying large files is, in one line that is replaced."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._told = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take what is done in bytes."""
        now = time.monotonic()
        if total < _TOLD_FROM_BYTES or (now - self._told < _TOLD_EVERY_S and done < total):
            return
        self._told = now
        line = Line(f"{plain(what)}: {_bytes(done)} of {_bytes(total)}")
        if self._handle is None:
            self._handle = display(line, display_id=True)
        else:
            self._handle.update(line)
        if done >= total:
            self._handle = None


def show_data(lab: Lab, args: argparse.Namespace) -> Table | Tables:
    """Do what a line of ``%verl_data`` asks for."""
    if args.yes and not args.collect:
        raise MagicError("--yes is for --collect.")
    if args.key and not args.diff:
        raise MagicError("--key is for --diff.")
    if args.host and not args.collect:
        raise MagicError("--host is for --collect.")
    if args.collect:
        return _collected(lab.datasets.collect(confirm=args.yes, host=args.host or LOCAL))
    if args.diff:
        return _difference(lab.datasets.diff(*args.diff, key=args.key))
    if args.data is None:
        return _list(lab.datasets.list())
    given = inputs.path_here("data set", args.data)
    if given.exists():
        version = lab.datasets.add(given, args.name)
    elif args.name:
        raise MagicError(f"--name is for what is added, and there is nothing at {args.data}.")
    else:
        version = lab.datasets.get(args.data)
    return _summary(lab, version, args)


def _list(versions: Sequence[DatasetVersion]) -> Table:
    headings = ("data set", "hash", "kind", "rows", "size", "added", "where")
    rows = tuple(
        (
            version.name,
            version.hash[:_HASH_SHOWN],
            ", ".join(version.kinds),
            _count(version.rows),
            _bytes(version.size),
            _moment(version.added),
            version.places[0] if version.places else "",
        )
        for version in versions
    )
    return _table(headings, rows, "No data sets yet. %verl_data PATH adds one; a launch adds what it trains on.")


def _summary(lab: Lab, version: DatasetVersion, args: argparse.Namespace) -> Tables:
    facts = [
        ("hash", version.hash),
        ("kind", ", ".join(version.kinds)),
        ("rows", _count(version.rows)),
        ("size", f"{_bytes(version.size)} in {len(version.files):,} file{'s' if len(version.files) > 1 else ''}"),
        ("where", ", ".join(version.places[:3])),
    ]
    if len(version.splits) > 1:
        facts.append(
            ("splits", ", ".join(f"{name or 'none'}: {_count(rows)}" for name, rows in version.splits.items()))
        )
    if version.note:
        facts.append(("note", version.note))
    if args.tokenizer:
        counts = lab.datasets.tokens(version, args.tokenizer)
        if counts is not None:
            said = (
                f"mean {counts.mean:,.1f} · median {counts.median:,.0f} · 95 % {counts.p95:,.0f} · longest "
                f"{counts.longest:,} a row, in {counts.rows:,} rows, without the chat template"
            )
            facts.append(("tokens", said))
    parts = [
        (version.name, _table(("", ""), tuple(facts), "")),
        ("columns", _table(("column", "type"), tuple(version.schema.items()), "No columns.")),
    ]
    is_readable = version.rows is not None
    if args.check or args.held_out or (is_readable and version.size <= _CHECKED_UP_TO_BYTES):
        found = lab.datasets.check(version, algorithm=args.check, held_out=args.held_out)
        parts.append(("checks", _problems(found)))
    else:
        parts.append(("checks", _table((), (), "Not done on so much data. --check ALGORITHM does them.")))
    if is_readable and args.rows > 0:
        parts.append(("first rows", _rows(lab.datasets.preview(version, args.rows))))
    return Tables(tuple(parts))


def _problems(problems: Sequence[Problem]) -> Table:
    rows = tuple((p.severity, p.key, f"{p.message} {p.suggestion or ''}".strip()) for p in problems)
    return _table(("", "where", "what"), rows, "Nothing is wrong.")


def _rows(rows: Sequence[dict[str, Any]]) -> Table:
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    cells = tuple(tuple(_cell(row.get(name)) for name in columns) for row in rows)
    return _table(columns, cells, "No rows.")


def _difference(found: RowDiff) -> Tables:
    counts = [("same", found.same), ("added", found.added), ("removed", found.removed)]
    if found.changed is not None:
        counts.append(("changed", found.changed))
    said = tuple((name, _count(count)) for name, count in counts)
    rows = tuple(
        (
            one.what,
            "" if one.row_before is None else str(one.row_before),
            "" if one.row_after is None else str(one.row_after),
            _cell(one.before),
            _cell(one.after),
        )
        for one in found.examples
    )
    headings = ("", "row before", "row after", "before", "after")
    parts = [("", _table(("rows", ""), said, "")), ("examples", _table(headings, rows, "They hold the same rows."))]
    return Tables(tuple(parts))


def _collected(found: Collected) -> Table:
    rows = tuple((k.kind, ", ".join(k.names), k.hash[:_HASH_SHOWN], _bytes(k.size)) for k in found.copies)
    done = f"{_bytes(found.size)} freed." if found.removed else f"{_bytes(found.size)}. --yes removes them."
    stay = f" {len(found.recent)} more stay for a day, since a launch may need them." if found.recent else ""
    return _table(("copy of", "name", "hash", "size"), rows, f"Nothing to remove.{stay}", done + stay)


def _table(headings: tuple[str, ...], rows: tuple[tuple[str, ...], ...], empty: str, note: str = "") -> Table:
    printable = tuple(tuple(plain(cell) for cell in row) for row in rows)
    return Table(tuple(map(plain, headings)), printable, empty, note)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return "" if value is None else text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]} …"


def _count(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _moment(time_s: float | None) -> str:
    return "" if time_s is None else datetime.fromtimestamp(time_s).astimezone().strftime("%Y-%m-%d %H:%M")


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
