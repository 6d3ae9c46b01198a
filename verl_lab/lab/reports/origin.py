"""What a run was made from, and what was set for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.domain.noise import is_noise
from verl_lab.errors import VerlLabError
from verl_lab.lab.comparing.diff import defaults_of
from verl_lab.lab.comparing.origins import HASH_SHOWN, read_origins
from verl_lab.lab.comparing.sides import recipe_of, sides
from verl_lab.lab.reports.parts import said, shown
from verl_lab.lab.table import Table
from verl_lab.recipes.diff import equal
from verl_lab.recipes.overrides import flatten, literal, parse_override
from verl_lab.recipes.plan import RECIPE_FIELDS
from verl_lab.widgets.told import clipped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from verl_lab.lab.comparing.sides import Side
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.reports.parts import Part
    from verl_lab.lab.run import Run

_VALUE_LONGEST = 160
_UNKNOWN = "–"
_LOG = "This is a log that something else writes: {} is not known."


def origin(lab: Lab, run: Run) -> list[Part]:
    """Return a run's lineage as a picture, and its data sets."""
    if run.is_attached:
        return [said(_LOG.format("what it was made from"))]
    lineage = lab.lineage(run)
    origins = read_origins(run.launcher.read_record(run.folder))
    rows = tuple(
        (one.role, one.name, _rows(lab, one.hash), "not recorded" if one.hash is None else one.hash[:HASH_SHOWN])
        for one in origins.datasets
    )
    table = Table(("role", "data set", "rows", "content (BLAKE3)"), rows, "No data set is recorded.")
    return [{"text/html": lineage.html(), "text/plain": lineage.text()}, shown(table)]


def settings(lab: Lab, run: Run) -> list[Part]:
    """Return what was set for a run: by hand at launch, by its recipe, and by verl-lab; each beside verl's default."""
    if run.is_attached:
        return [said(_LOG.format("its configuration"))]
    recipe, overrides = recipe_of(run)
    side = sides(lab, [run])[0][0]
    at_launch = {parse_override(text).key for text in overrides}
    in_recipe = {key for key, _ in flatten(recipe.parameters)}
    chosen: list[tuple[str, ...]] = []
    ours: list[tuple[str, ...]] = []
    for key, cells in _given(side):
        if key in at_launch:
            chosen.insert(sum(row[-1] == "at launch" for row in chosen), (key, *cells, "at launch"))
        elif key in in_recipe:
            chosen.append((key, *cells, f"recipe {recipe.name}"))
        elif not is_noise(key):
            ours.append((key, *cells))
    fields = [text for text in overrides if parse_override(text).key in RECIPE_FIELDS]
    note = f"At launch the recipe itself was changed: {', '.join(fields)}." if fields else ""
    heads = ("setting", "value", "verl's default")
    empty = "Nothing was set that differs from verl's defaults, by the recipe or at launch."
    above = f"{len(ours)} more that follow from the recipe's model, data and device, or that verl-lab needs"
    parts = [shown(Table((*heads, "set by"), tuple(chosen), empty, note))]
    return [*parts, shown(Table(heads, tuple(ours), ""), above, folded=True)] if ours else parts


def _given(side: Side) -> list[tuple[str, tuple[str, str]]]:
    """Return the keys that the command sets to something else than verl's default: value and default."""
    defaults: Mapping[str, Any] = defaults_of(side) or {}
    found: list[tuple[str, tuple[str, str]]] = []
    for key in sorted(side.given or ()):
        if key not in side.values or (key in defaults and equal(defaults[key], side.values[key])):
            continue
        default = literal(defaults[key]) if key in defaults else _UNKNOWN
        found.append((key, (clipped(literal(side.values[key]), _VALUE_LONGEST), clipped(default, _VALUE_LONGEST))))
    return found


def _rows(lab: Lab, content: str | None) -> str:
    if content is None:
        return _UNKNOWN
    try:
        rows = lab.datasets.get(content).rows
    except VerlLabError:  # it was taken out of the index
        return _UNKNOWN
    return _UNKNOWN if rows is None else f"{rows:,}"
