"""What differs between two configurations, with the types of their values kept.

A configuration is flat here: values by dotted key, as ``flat`` makes it. What differs is never dropped, but some of it
is folded away, since it does not tell two trainings apart: names, seeds and places (``noise``), defaults that verl
itself changed (``moved``), and what verl derives from the settings that were changed (``follows``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from verl_lab.domain.noise import is_noise
from verl_lab.errors import InvalidInputError
from verl_lab.recipes.layers import RESERVED
from verl_lab.recipes.overrides import check_key, literal, why_unsafe

if TYPE_CHECKING:
    from collections.abc import Collection

_MISSING = object()
_FOLDED_MOST = 8
# Stand for folders of one run; no other can be told to use them.
_TOKENS = ("@attempt@", "@run@", "@scratch@")


class Change(NamedTuple):
    """A value before and after."""

    before: Any
    after: Any


@dataclass(frozen=True)
class Diff:
    """What leads from one configuration, A, to another, B.

    Attributes
    ----------
    added, removed
        Values by key that only B, or only A, has.
    changed
        Both values of the keys that differ in value or in its type: ``1``, ``1.0`` and ``"1"`` do.
    noise
        Keys among these that only name, seed or place a run.
    moved
        Keys that both leave at verl's default, where the two versions of verl have different ones.
    follows
        Keys that neither sets: verl derives them from the others.
    same
        What is equal in both.
    names
        What A and B are called.
    defaults
        verl's defaults by key in B's version, where they are known: what a removed key falls back to.
    notes
        What is to be known beside it, in sentences.
    is_settings
        Whether the keys are settings that an override can set; those of data sets are none.
    """

    added: Mapping[str, Any]
    removed: Mapping[str, Any]
    changed: Mapping[str, Change]
    noise: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset()
    same: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    names: tuple[str, str] = ("A", "B")
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    notes: tuple[str, ...] = ()
    is_settings: bool = True

    @property
    def keys(self) -> list[str]:
        """Every key that differs, sorted; those that are folded away too."""
        return sorted({*self.added, *self.removed, *self.changed})

    @property
    def telling(self) -> list[str]:
        """The keys that differ and are not folded away, sorted."""
        folded = self.noise | self.moved | self.follows
        return [key for key in self.keys if key not in folded]

    def apply(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Return B's values, given A's.

        Raises
        ------
        InvalidInputError
            The configuration is not the A of this diff.
        """
        found = dict(configuration)
        expected = {**self.removed, **{key: change.before for key, change in self.changed.items()}}
        for key, value in expected.items():
            if not equal(found.get(key, _MISSING), value):
                raise InvalidInputError(
                    f"{key}: is not {literal(value)}.", f"The difference is to be applied to {self.names[0]}."
                )
        for key in self.added:
            if key in found:
                raise InvalidInputError(f"{key}: is there already.", f"Apply the difference to {self.names[0]}.")
        for key in self.removed:
            del found[key]
        found.update({key: change.after for key, change in self.changed.items()})
        found.update(self.added)
        return found

    def as_overrides(self, *, noise: bool = False) -> list[str]:
        """Return ``key=value`` for ``lab.train``: what turns A into B.

        Parameters
        ----------
        noise
            Also names, seeds and places.

        A key that B does not have is set back to verl's default where that is known. ``not_overrides`` names
        what cannot be said so.
        """
        return [text for key in self._wanted(noise=noise) if (text := self.override(key)) is not None]

    def not_overrides(self) -> list[str]:
        """Return the telling keys that no override can set to B's value."""
        return [key for key in self.telling if self.override(key) is None]

    def text(self, *, folded: bool = False) -> str:
        """Return the difference as lines of text; ``folded`` also lists what is folded away."""
        lines = [f"A  {self.names[0]}", f"B  {self.names[1]}"]
        shown = self.keys if folded else self.telling
        lines += [self.line(key) for key in shown] or ["No difference that matters." if self.keys else "No difference."]
        if not folded:
            lines += [_folded_line(what, keys) for what, keys in self.folds()]
        return "\n".join([*lines, *self.notes])

    def folds(self) -> list[tuple[str, list[str]]]:
        """Return what is folded away: in words, and the keys."""
        parts = (("in names, seeds and places", self.noise), ("that follow from these", self.follows))
        parts += (("of verl's defaults, which differ between the versions", self.moved),)
        return [(what, sorted(keys)) for what, keys in parts if keys]

    def line(self, key: str) -> str:
        """Return one key's difference as a line."""
        if key in self.added:
            return f"+ {key} = {literal(self.added[key])}"
        if key in self.removed:
            return f"- {key} = {literal(self.removed[key])}"
        before, after = self.changed[key]
        return f"~ {key}: {literal(before)} → {literal(after)}"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but ``same`` as plain values; what is folded away is there too, and named."""
        return {
            "a": self.names[0],
            "b": self.names[1],
            "added": dict(self.added),
            "removed": dict(self.removed),
            "changed": {key: {"before": change.before, "after": change.after} for key, change in self.changed.items()},
            "noise": sorted(self.noise),
            "moved": sorted(self.moved),
            "follows": sorted(self.follows),
            "overrides": self.as_overrides(),
            "notes": list(self.notes),
        }

    def json(self) -> str:
        """Return ``to_dict()`` as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, default=str)

    def __str__(self) -> str:
        return self.text()

    def _wanted(self, *, noise: bool) -> list[str]:
        return sorted({*self.telling, *(self.noise if noise else ())})

    def override(self, key: str) -> str | None:
        """Return ``key=value`` that gives a key B's value; None where no override can."""
        value = self.changed[key].after if key in self.changed else self.added.get(key, _MISSING)
        if value is _MISSING:
            value = self.defaults.get(key, _MISSING)
        if not self.is_settings or value is _MISSING or key in RESERVED or why_unsafe(value) is not None:
            return None
        if any(token in str(value) for token in _TOKENS):
            return None
        try:
            return f"{check_key(key)}={literal(value)}"
        except InvalidInputError:
            return None


def diff(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    names: tuple[str, str] = ("A", "B"),
    given: tuple[Collection[str], Collection[str]] | None = None,
    defaults: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    is_same_version: bool = True,
    alike: Collection[str] = (),
    notes: Sequence[str] = (),
) -> Diff:
    """Return what leads from one flat configuration to another.

    Parameters
    ----------
    names
        What the two are called.
    given
        The keys that each sets itself. A key that neither sets has verl's default or is derived from others.
    defaults
        verl's defaults in the version of each, where they are known.
    is_same_version
        Whether both are of one version of verl: then no default can have moved.
    alike
        Keys whose values differ but stand for the same thing, such as two paths of the same bytes.
    notes
        What is to be known beside it.
    """
    added = {key: b[key] for key in b if key not in a}
    removed = {key: a[key] for key in a if key not in b}
    changed = {key: Change(a[key], b[key]) for key in a if key in b and not equal(a[key], b[key])}
    keys = {*added, *removed, *changed}
    noise = {key for key in keys if is_noise(key) or key in alike}
    unset = {key for key in keys - noise if given is not None and not _is_given(key, given)}
    if is_same_version:
        moved = set[str]()
    elif defaults is not None:
        moved = {key for key in keys - noise if _has_moved(key, a, b, defaults)}
    else:
        moved = unset
    return Diff(
        added=added,
        removed=removed,
        changed=changed,
        noise=frozenset(noise),
        moved=frozenset(moved),
        follows=frozenset(unset - moved),
        same={key: a[key] for key in a if key in b and key not in changed},
        names=names,
        defaults={} if defaults is None else defaults[1],
        notes=tuple(notes),
    )


def flat(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted key; an empty mapping is a leaf, and so is a list.

    A name that itself holds a dot is put in brackets, so that two different mappings never look alike.
    """
    found: dict[str, Any] = {}
    _collect(mapping, "", found)
    return found


def equal(one: object, other: object) -> bool:
    """Say whether two values are the same, their types and those of what they hold included; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(cast("float", other)))
    if isinstance(one, Mapping):
        first, second = cast("Mapping[Any, Any]", one), cast("Mapping[Any, Any]", other)
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(one, list | tuple):
        first_items, second_items = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        return len(first_items) == len(second_items) and all(map(equal, first_items, second_items))
    return one == other


def _collect(branch: Mapping[Any, Any], prefix: str, found: dict[str, Any]) -> None:
    for name, value in branch.items():
        text = str(name)
        key = prefix + (f"[{text}]" if "." in text or not text or text.startswith("[") else text)
        if isinstance(value, Mapping) and value:
            _collect(cast("Mapping[Any, Any]", value), f"{key}.", found)
        else:
            found[key] = cast("Any", value)


def _is_given(key: str, given: tuple[Collection[str], Collection[str]]) -> bool:
    """Whether one of the two sets the key, or a group that it lies in."""
    parts = key.split(".")
    groups = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return any(group in side for side in given for group in groups)


def _has_moved(
    key: str, a: Mapping[str, Any], b: Mapping[str, Any], defaults: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> bool:
    """Whether both sides have their own version's default; a key that a version does not have has none."""
    before, after = (side.get(key, _MISSING) for side in defaults)
    return not equal(before, after) and equal(a.get(key, _MISSING), before) and equal(b.get(key, _MISSING), after)


def _folded_line(what: str, keys: Sequence[str]) -> str:
    named = ", ".join(keys[:_FOLDED_MOST]) + (" …" if len(keys) > _FOLDED_MOST else "")
    return f"  {len(keys)} more {what}: {named}"
