"""What the routes answer with: what handlers are declared to return, and what the API's document says, is one.

A handler names one of these, or of ``run_answers``, as what it returns, and the document finds it by that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import TypedDict

from verl_lab.environments.report import Check
from verl_lab.lab.form import FormField, KeyRow
from verl_lab.lab.hosts.view import LiveRun


class RecipeRow(TypedDict):
    """One recipe; ``problem`` says why it cannot be used, and then the rest is not known."""

    name: str
    algorithm: str | None
    trainer: str | None
    model: str | None
    place: str
    version: str | None
    extends: str | None
    description: str
    notes: str
    changed: float | None
    problem: str | None


class RecipeList(TypedDict):
    """The recipes."""

    rows: Sequence[RecipeRow]


class RecipeVersion(TypedDict):
    """A version of a recipe, and what made it."""

    version: str
    time: float
    action: str


class RecipeText(TypedDict):
    """A recipe's text, what it comes to with all that it extends, and its versions."""

    name: str
    text: str
    version: str
    place: str
    editable: bool
    recipe: dict[str, Any] | None
    problem: str | None
    versions: Sequence[RecipeVersion]


class Undone(TypedDict):
    """What was taken back."""

    action: str
    name: str


class CanUndo(TypedDict):
    """Whether it can be taken back."""

    undo: bool


class Form(TypedDict):
    """The fields of a recipe's form."""

    fields: Sequence[FormField]


class KeyList(TypedDict):
    """Some of verl's keys."""

    rows: Sequence[KeyRow]


class Problem(TypedDict):
    """What is wrong with a recipe or an override, and what is valid."""

    severity: Literal["error", "warning"]
    key: str
    value: Any
    message: str
    valid: str | None


class Rules(TypedDict):
    """How many of the diagnosis rules will have data."""

    with_data: int
    total: int


class Fact(TypedDict):
    """Something that is known of a launch before it."""

    name: str
    value: str


class Validation(TypedDict):
    """What a launch would come to; there is a command only where nothing is wrong."""

    problems: Sequence[Problem]
    command: str | None
    rules: Rules | None
    facts: Sequence[Fact]


class Gpu(TypedDict):
    """A GPU, as it was seen last."""

    name: str
    used_mb: float | None
    total_mb: float | None
    load: float | None
    temperature: float | None


class Load(TypedDict):
    """Processes that ran or waited to, and processors."""

    load: float | None
    cores: int | None


class Memory(TypedDict):
    """Memory of a machine."""

    total_mb: float
    available_mb: float


class Disk(TypedDict):
    """The disk of a machine's runs."""

    total_mb: float
    free_mb: float


class HostRow(TypedDict):
    """A host, as it is known; what was not seen yet is null."""

    name: str
    address: str
    user: str | None
    port: int | None
    state: str
    message: str | None
    gpus: Sequence[Gpu] | None
    load: Load | None
    memory: Memory | None
    disk: Disk | None
    live_runs: int
    last_contact: float | None
    host_key: str | None


class HostLook(HostRow):
    """A host, as it answered now."""

    free_gpus: Sequence[int]
    has_room: bool | None
    missing: Mapping[str, str]
    runs: Sequence[LiveRun]


class HostList(TypedDict):
    """The hosts."""

    rows: Sequence[HostRow]


class Step(TypedDict):
    """One thing that was tried of a host; null where one before it failed."""

    name: str
    ok: bool | None
    message: str | None
    hint: str | None


class HostTest(TypedDict):
    """What was tried of a host; the fingerprint is that of a key that is not known yet."""

    ok: bool
    steps: Sequence[Step]
    fingerprint: str | None


class Accepted(TypedDict):
    """That a host's key was taken."""

    accepted: bool


class Removed(TypedDict):
    """That a host was forgotten."""

    removed: bool


class Begun(TypedDict):
    """The number to ask about what was begun."""

    task: str


class Task(TypedDict):
    """Where something that was begun stands."""

    done: bool
    ok: bool
    lines: Sequence[str]
    message: str


@dataclass(frozen=True, kw_only=True)
class ToldCheck(Check):
    """One question put to an environment, and what was found in a sentence."""

    message: str


class HostEnvironment(TypedDict):
    """What the check of an environment found."""

    role: str
    ok: bool
    checks: Sequence[ToldCheck]


class Environment(HostEnvironment):
    """The same of the server's own, and the versions of what it uses."""

    versions: Mapping[str, str]


class DatasetRow(TypedDict):
    """A data set, and how many runs trained on it."""

    name: str
    hash: str
    rows: int | None
    size: int
    path: str | None
    columns: Sequence[str]
    created: float | None
    used_by: int


class DatasetList(TypedDict):
    """The data sets."""

    rows: Sequence[DatasetRow]


class Dataset(DatasetRow):
    """A data set with its first rows, what changed where it lies, and the runs that trained on it."""

    runs: Sequence[str]
    preview: Sequence[dict[str, Any]]
    changed: Sequence[str]
    note: str


class Difference(TypedDict):
    """One setting that differs; ``note`` says why it follows from others."""

    kind: Literal["added", "removed", "changed", "moved default"]
    key: str
    a: Any
    b: Any
    note: str | None


class Diff(TypedDict):
    """What leads from one thing to another."""

    rows: Sequence[Difference]
    text: str
    names: Sequence[str]
    overrides: Sequence[str]


class Lineage(TypedDict):
    """What a thing was made from, and what came of it: as text, and as a graph around ``focus``."""

    text: str
    focus: Sequence[str]
    nodes: Sequence[dict[str, Any]]
    edges: Sequence[dict[str, Any]]
    notes: Sequence[str]
