"""Data sets, differences, and what was made from what."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError
from verl_lab.inputs import below, shown
from verl_lab.server.parts import check_part
from verl_lab.server.routing import Asked, Routes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from verl_lab.domain.dataset import DatasetVersion
    from verl_lab.domain.recipe import Recipe
    from verl_lab.lab import Lab, Run
    from verl_lab.server.answers import Dataset, DatasetList, DatasetRow, Diff, Difference, Lineage

ROUTES = Routes()

_PREVIEW_ROWS = 5
_LONGEST_PART = 255  # of a path, in bytes: file systems take no more

Thing = Annotated[str, Field(min_length=1, max_length=1024)]


class Two(Asked):
    """The ids or names of two runs, recipes or data sets; ``dataset:`` stands before a data set's."""

    a: Thing
    b: Thing


class Add(Asked):
    """A file or folder below the server's folder, and what to call it."""

    path: Thing
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class One(Asked):
    """A thing; a path has to lie below the server's folder."""

    thing: Thing


@ROUTES.add("GET", "datasets")
def datasets(lab: Lab) -> DatasetList:
    """List the data sets, the one seen last first."""
    uses = lab.uses.by_hash()
    return {"rows": [_row(version, len(uses.get(version.hash, ()))) for version in lab.datasets.list()]}


@ROUTES.add("POST", "datasets", body=Add, status=201, is_slow=True, wants=("roots",))
def add(lab: Lab, body: Add, roots: Sequence[Path]) -> DatasetRow:
    """Say that a file or folder is a data set, as it is now."""
    version = lab.datasets.add(_inside(lab, "path", body.path, roots), body.name)
    return _row(version, len(lab.uses.by_hash().get(version.hash, ())))


@ROUTES.add("GET", "datasets/{data}", is_slow=True)
def dataset(lab: Lab, data: str) -> Dataset:
    """Show a data set: its first rows, what changed where it lies, the runs that trained on it."""
    version = lab.datasets.get(data)
    runs = lab.uses.by_hash().get(version.hash, [])
    found: Dataset = {**_row(version, len(runs)), "runs": runs, "preview": [], "changed": [], "note": version.note}
    try:
        found["changed"] = [str(change) for change in lab.datasets.changed(version)] if version.places else []
        found["preview"] = lab.datasets.preview(version, _PREVIEW_ROWS)
    except VerlLabError as error:  # its bytes are nowhere any more; what is known of it still is
        found["note"] = " ".join(filter(None, (version.note, error.message)))
    return found


@ROUTES.add("GET", "diff", query=Two, is_slow=True)
def diff(lab: Lab, query: Two) -> Diff:
    """Say what leads from one run, recipe or data set to another."""
    found = lab.diff(_named(lab, "a", query.a), _named(lab, "b", query.b))
    rows: list[Difference] = []
    for key in found.keys:
        note = next((what for what, keys in found.folds() if key in keys), None)
        if key in found.added:
            kind, a, b = "added", None, found.added[key]
        elif key in found.removed:
            kind, a, b = "removed", found.removed[key], None
        else:
            kind, (a, b) = "changed", found.changed[key]
        rows.append({"kind": "moved default" if key in found.moved else kind, "key": key, "a": a, "b": b, "note": note})
    return {"rows": rows, "text": found.text(), "names": found.names, "overrides": found.as_overrides()}


@ROUTES.add("GET", "lineage", query=One, is_slow=True, wants=("roots",))
def lineage_of(lab: Lab, query: One, roots: Sequence[Path]) -> Lineage:
    """Say what a thing was made from, and what came of it; it may be a path."""
    thing = str(_inside(lab, "thing", query.thing, roots)) if "/" in query.thing else check_part("thing", query.thing)
    return lineage(lab, thing)


@ROUTES.add("GET", "lineage/{thing}", is_slow=True)
def lineage(lab: Lab, thing: str) -> Lineage:
    """Say what a run, recipe or data set was made from, and what came of it."""
    found = lab.lineage(thing)
    shown = found.to_dict()
    return {
        "text": found.text(),
        "focus": shown["focus"],
        "nodes": shown["nodes"],
        "edges": shown["edges"],
        "notes": shown["notes"],
    }


def _inside(lab: Lab, field: str, path: str, roots: Sequence[Path]) -> Path:
    """Return where a path of this machine lies, if it may be read; a relative one is below the server's folder."""
    if path.startswith("~"):
        raise InvalidInputError(f"{field}: {shown(path)} will not do.", "Write the path out, from the server's folder.")
    if any(len(os.fsencode(part)) > _LONGEST_PART for part in path.split("/")):
        raise InvalidInputError(f"{field}: {shown(path)} will not do.", f"A name has {_LONGEST_PART} bytes at most.")
    # Of the lab's home only what holds no secret.
    allowed = [*roots, lab.settings.runs_root, lab.settings.datasets_folder]
    return below(field, roots[0] / path, allowed)


def _named(lab: Lab, field: str, text: str) -> Run | Recipe | DatasetVersion:
    """Return the run, recipe or data set of this name; a path is none here."""
    kind, _, name = text.rpartition(":")
    if kind in ("", "recipe") and name in lab.recipes.names():
        return lab.recipes.get(name)
    if kind in ("", "run"):
        row = next((row for row in lab.store.runs.list() if name in (row.id, row.name)), None)
        if row is not None:
            return lab.found(row)
    if kind in ("", "dataset"):
        with suppress(NotFoundError):
            return lab.datasets.get(name)
    raise NotFoundError(f"There is no run, recipe or data set {shown(text)}.", f"{field} names one of them.")


def _row(version: DatasetVersion, used_by: int) -> DatasetRow:
    return {
        "name": version.name,
        "hash": version.hash,
        "rows": version.rows,
        "size": version.size,
        "path": version.places[0] if version.places else None,
        "columns": list(version.schema),
        "created": version.added,
        "used_by": used_by,
    }
