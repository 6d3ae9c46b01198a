"""Differences between runs, recipes and configuration files, as text, a table or a widget."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from verl_lab.errors import InvalidInputError, VerlLabError
from verl_lab.lab.comparing.sides import sides
from verl_lab.lab.table import Table
from verl_lab.recipes.diff import Diff, diff
from verl_lab.recipes.overrides import literal
from verl_lab.recipes.schema import schema_of
from verl_lab.recipes.snapshot import chosen_version, versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.lab.comparing.sides import Side, Thing
    from verl_lab.lab.lab import Lab

_VALUE_LONGEST = 60
_EXAMPLE_LONGEST = 300
_ABSENT = "–"


class ShownDiff(Diff):
    """A difference that a notebook shows as a tree to search; in a terminal it is text."""

    def __repr__(self) -> str:
        return self.text()

    def _ipython_display_(self) -> None:
        from verl_lab.lab.showing import show_diff

        show_diff(self)


@dataclass(frozen=True)
class DiffTable:
    """Many runs or recipes, with the settings that are not the same in all of them.

    Attributes
    ----------
    labels
        What the rows are.
    keys
        The settings that differ, names, seeds and places left out.
    values
        A row for each label: by key, what it has; a key that it does not have is left out.
    left_out
        How many more differ that say nothing about the training.
    """

    labels: tuple[str, ...]
    keys: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]
    left_out: int

    def table(self) -> Table:
        """Return it as rows of text."""
        heads = _short(self.keys)
        rows = tuple(
            (label, *(_cell(row, key) for key in self.keys))
            for label, row in zip(self.labels, self.values, strict=True)
        )
        said = [f"{head} = {key}" for head, key in zip(heads, self.keys, strict=True) if head != key]
        if self.left_out:
            said.append(f"{self.left_out} more differ in names, seeds and places, or follow from these")
        return Table(("", *heads), rows, "", note="; ".join(said))

    def to_dict(self) -> dict[str, Any]:
        """Return the rows as plain values, by label."""
        return {label: dict(row) for label, row in zip(self.labels, self.values, strict=True)}

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table().to_html()


def diff_things(lab: Lab, a: Thing, b: Thing) -> ShownDiff:
    """Return what leads from one thing to another; see ``Lab.diff``."""
    (first, second), view = sides(lab, [a, b])
    if view == "dataset":
        notes = _row_notes(lab, a, b)
        found = diff(first.values, second.values, names=(first.label, second.label), notes=notes)
        return _shown(replace(found, is_settings=False))
    return _shown(between(first, second))


def diff_table(lab: Lab, things: Sequence[Thing]) -> DiffTable:
    """Return many things beside each other; see ``Lab.diff_table``."""
    if len(things) < 2:  # noqa: PLR2004  a difference is one between two
        raise InvalidInputError(f"things: {len(things)} cannot be compared.", "Give two or more.")
    found, _ = sides(lab, list(things))
    parts = [between(found[0], other) for other in found[1:]]
    telling = sorted({key for part in parts for key in part.telling})
    every = {key for part in parts for key in part.keys}
    rows = tuple({key: side.values[key] for key in telling if key in side.values} for side in found)
    return DiffTable(tuple(side.label for side in found), tuple(telling), rows, len(every) - len(telling))


def between(a: Side, b: Side) -> Diff:
    """Return what leads from one configuration to another."""
    given = (a.given, b.given) if a.given is not None and b.given is not None else None
    is_same_version = a.verl is None or b.verl is None or a.verl == b.verl
    alike = [key for key in a.contents.keys() & b.contents.keys() if a.contents[key] == b.contents[key]]
    notes: list[str] = []
    if a.trainer != b.trainer and a.trainer is not None and b.trainer is not None:
        notes.append(
            f"A trains with verl's {a.trainer} trainer, B with its {b.trainer} trainer: their settings differ."
        )
    if not is_same_version:
        notes.append(f"A was trained with verl {a.verl}, B with verl {b.verl}.")
    before, after = defaults_of(a), defaults_of(b)
    return diff(
        a.values,
        b.values,
        names=(a.label, b.label),
        given=given,
        defaults=(before, after) if before is not None and after is not None else None,  # pyright: ignore[reportArgumentType]
        is_same_version=is_same_version,
        alike=alike,
        notes=notes,
    )


def defaults_of(side: Side) -> dict[str, Any] | None:
    """Return the defaults of a side's version of verl; None where they are not known."""
    version = side.verl or chosen_version()
    if side.trainer is None or version not in versions():
        return None
    keys = schema_of(side.trainer, version).keys.values()
    return {key.name: key.default for key in keys if not key.declared_only}


def _row_notes(lab: Lab, a: Thing, b: Thing) -> list[str]:
    """Say how the rows of two data sets differ, with an example of each kind."""
    # A path is handed on as one: what lies there need not be known to the index.
    before, after = (one.removeprefix("dataset:") if isinstance(one, str) else one for one in (a, b))
    try:
        rows = lab.datasets.diff(before, after)  # pyright: ignore[reportArgumentType]  neither is a run or a recipe
    except VerlLabError as error:
        return [f"Row by row they cannot be compared: {error.message}"]
    notes = [f"Row by row: {rows.added} added, {rows.removed} removed, {rows.same} the same."]
    for what in ("added", "removed"):
        example = next((one for one in rows.examples if one.what == what), None)
        if example is not None:
            row = example.before if example.after is None else example.after
            notes.append(f"{what.capitalize()}, for example: {str(row)[:_EXAMPLE_LONGEST]}")
    return notes


def _shown(found: Diff) -> ShownDiff:
    return ShownDiff(**{one.name: getattr(found, one.name) for one in fields(found)})


def _short(keys: Sequence[str]) -> list[str]:
    """Return the shortest end of each key that no other ends in."""
    found: list[str] = []
    for key in keys:
        parts = key.split(".")
        ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        found.append(next(end for end in ends if _is_alone(end, key, keys)))
    return found


def _is_alone(end: str, key: str, keys: Sequence[str]) -> bool:
    return end == key or not any(other != key and f".{other}".endswith(f".{end}") for other in keys)


def _cell(row: Mapping[str, Any], key: str) -> str:
    if key not in row:
        return _ABSENT
    text = literal(row[key])
    return text if len(text) <= _VALUE_LONGEST else text[: _VALUE_LONGEST - 1] + "…"
