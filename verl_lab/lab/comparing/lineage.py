"""Where a run, a file or a recipe stands among all others: what it was made from, and what came of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab import inputs
from verl_lab.domain.dataset import DatasetVersion
from verl_lab.domain.lineage import Edge, Kind, Lineage, Node
from verl_lab.domain.recipe import Recipe
from verl_lab.domain.run import check_run_id
from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError
from verl_lab.lab.comparing.origins import HASH_SHOWN, Origins, checkpoint_of, hash_of_bytes, read_origins
from verl_lab.lab.run import Run

if TYPE_CHECKING:
    from verl_lab.lab.comparing.sides import Thing
    from verl_lab.lab.lab import Lab
    from verl_lab.store import RunRow

_SHORTEST_HASH = 6


class ShownLineage(Lineage):
    """A lineage that shows itself: as a picture in a notebook, as trees of text elsewhere."""

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """Return it as a picture with its text, for a page."""
        from verl_lab.lab.comparing.lineage_picture import to_html

        return to_html(self)

    def svg(self) -> str:
        """Return it as a picture, an SVG document."""
        from verl_lab.lab.comparing.lineage_picture import to_svg

        return to_svg(self)


class _Builder:
    """Collects the nodes and edges of runs."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.paths: dict[str, set[str]] = {}

    def node(self, kind: Kind, key: str, label: str, detail: str = "") -> str:
        made = Node(f"{kind}:{key}", kind, label, detail)
        known = self.nodes.get(made.id)
        if known is None or (made.detail and not known.detail):
            self.nodes[made.id] = made
        return made.id

    def edge(self, source: str, target: str, label: str = "") -> None:
        self.edges[Edge(source, target, label)] = None

    def lies_at(self, path: str, node: str) -> None:
        self.paths.setdefault(_real(path), set()).add(node)

    def run(self, run_id: str, name: str, state: str, origins: Origins) -> None:
        run = self.node("run", run_id, run_id, f"{name}, {state}")
        if origins.recipe is not None:
            shown = (origins.recipe_hash or "")[:HASH_SHOWN]
            self.edge(self.node("recipe", f"{origins.recipe}@{shown}", origins.recipe, shown), run, "recipe")
        for parent in origins.parents:
            self._parent(run, parent.run, parent.step, parent.how)
        for source in origins.datasets:
            key = source.hash or _real(source.paths[0] if source.paths else source.name)
            detail = source.hash[:HASH_SHOWN] if source.hash else "content not recorded"
            node = self.node("dataset", key, source.name, detail)
            self.edge(node, run, source.role)
            for path in source.paths:
                self.lies_at(path, node)
        if origins.reward is not None:
            shown = (origins.reward_hash or "")[:HASH_SHOWN]
            key = origins.reward_hash or _real(origins.reward)
            node = self.node("reward", key, Path(origins.reward).name, shown)
            self.edge(node, run, "reward function")
            self.lies_at(origins.reward, node)
        if origins.model is not None and checkpoint_of(origins.model) is None:
            node = self.node("model", origins.model, origins.model, _size(origins.parameters))
            self.edge(node, run, "model")
            self.lies_at(origins.model, node)
        if origins.verl is not None:
            self.edge(self.node("verl", origins.verl, origins.verl), run)

    def _parent(self, run: str, parent: str, step: int | None, how: str) -> None:
        # The parent's own launch record tells more, if it is still there.
        above = self.node("run", parent, parent)
        if step is None:
            self.edge(above, run, how)
            return
        checkpoint = self.node("checkpoint", f"{parent}@{step}", f"step {step}", f"of {parent}")
        self.edge(above, checkpoint)
        self.edge(checkpoint, run, how)

    def lineage(self) -> Lineage:
        return Lineage(self.nodes, tuple(self.edges))


def lineage(lab: Lab, thing: Thing) -> ShownLineage:
    """Return what a thing was made from and what came of it; see ``Lab.lineage``."""
    built, notes = _build(lab)
    focus = _focus(lab, thing, built)
    if not focus:
        node = _lonely(lab, thing, built)
        focus, notes = [node], [*notes, f"No run of this lab has used {built.nodes[node].label}."]
    found = built.lineage().around(focus, notes)
    return ShownLineage(**{one.name: getattr(found, one.name) for one in fields(found)})


def _lonely(lab: Lab, thing: object, built: _Builder) -> str:
    """Add what no run knows, and return its id."""
    name = thing.name if isinstance(thing, (Recipe, DatasetVersion)) else str(cast("Any", thing))
    if isinstance(thing, Recipe) or name.removeprefix("recipe:") in lab.recipes.names():
        return built.node("recipe", name, name.removeprefix("recipe:"))
    return built.node("dataset" if isinstance(thing, DatasetVersion) else "file", name, name)


def _build(lab: Lab) -> tuple[_Builder, list[str]]:
    built, unread = _Builder(), 0
    lab.runs()  # takes in run folders that other processes made
    for row in reversed(lab.store.runs.list()):
        if row.kind != "run":
            continue
        try:
            built.run(
                row.id, row.name, _state(lab, row), read_origins(lab.launcher_on(row.host).read_record(row.folder))
            )
        except (VerlLabError, TypeError, AttributeError):  # one broken record must not hide the others
            unread += 1
    return built, [f"{unread} runs could not be read."] if unread else []


def _state(lab: Lab, row: RunRow) -> str:
    try:
        return lab.launcher_on(row.host).read_status(row.folder).state.value
    except VerlLabError:
        return row.state


def _focus(lab: Lab, thing: object, built: _Builder) -> list[str]:
    """Return the ids of the nodes that a thing stands for; none where it is a file that no run used."""
    if isinstance(thing, Run):
        if thing.is_attached:
            raise InvalidInputError(
                f"{thing.id} is a log that something else writes.", "Where it came from is not known."
            )
        return [f"run:{thing.id}"]
    if isinstance(thing, Recipe):
        return _recipes(thing.name, built)
    if isinstance(thing, DatasetVersion):
        return [node for node in built.nodes if node == f"dataset:{thing.hash}"]
    if isinstance(thing, Path):
        return _at_path(lab, thing, built)
    text = str(cast("Any", thing))
    return _named(lab, text, built)


def _named(lab: Lab, text: str, built: _Builder) -> list[str]:
    if text in built.nodes:
        return [text]
    kind, _, name = text.partition(":")
    if kind == "recipe" and name:
        return _recipes(name, built) or _unknown(lab, text, built)
    if kind == "run" and name:
        return [f"run:{lab.run(name).id}"]
    if "/" in text or Path(text).exists():
        return _at_path(lab, Path(text), built)
    found = [key for key, node in built.nodes.items() if node.kind == "run" and node.label == text]
    found = found or _recipes(text, built)
    if not found:
        try:
            return [f"run:{lab.run(text).id}"]
        except NotFoundError:
            found = [key for key, node in built.nodes.items() if _matches(node, text)]
    return found or _unknown(lab, text, built)


def _matches(node: Node, text: str) -> bool:
    if node.kind in ("verl", "model", "dataset", "reward") and text == node.label:
        return True
    key = node.id.partition(":")[2]
    return node.kind in ("dataset", "reward") and len(text) >= _SHORTEST_HASH and key.startswith(text)


def _recipes(name: str, built: _Builder) -> list[str]:
    return [key for key, node in built.nodes.items() if node.kind == "recipe" and node.label == name]


def _unknown(lab: Lab, text: str, built: _Builder) -> list[str]:
    if text.removeprefix("recipe:") in lab.recipes.names():
        return []
    with suppress(VerlLabError):
        return [key for key in [f"dataset:{lab.datasets.get(text).hash}"] if key in built.nodes]
    known = [*built.nodes, *(node.label for node in built.nodes.values())]
    hint = "Give a run, a recipe, the path of a file, or the hash of a data set."
    raise NotFoundError.of("run, recipe, data set or file", text, known, hint)


def _at_path(lab: Lab, path: Path, built: _Builder) -> list[str]:
    """Return what lies, or lay, at a path: by what runs recorded of it, and by the content that is there now."""
    path = inputs.path_here("path", path).resolve()
    real = str(path)
    checkpoint = checkpoint_of(real)
    if checkpoint is not None:
        run, step = checkpoint[1:]
        key = f"checkpoint:{run}@{step}"
        return [key] if key in built.nodes else [f"run:{run}"] if f"run:{run}" in built.nodes else []
    if path.is_dir() and (path / "run.json").exists():
        return [f"run:{check_run_id(path.name)}"]
    found = set(built.paths.get(real, ()))
    if path.is_file():
        found |= {key for key in _content_ids(lab, path) if key in built.nodes}
    elif not found and not path.exists():
        raise NotFoundError(f"There is nothing at {path}, and no run recorded that there was.")
    return sorted(found)


def _content_ids(lab: Lab, path: Path) -> list[str]:
    if path.suffix == ".py":
        return [f"reward:{hash_of_bytes(lab.host.read(str(path)))}"]
    try:
        return [f"dataset:{lab.datasets.at(path).hash}"]
    except VerlLabError:  # it is no data: then only its path can be known
        return []


def _real(path: str) -> str:
    return str(Path(path).expanduser().resolve()) if path.startswith(("/", "~", ".")) else path


def _size(parameters: int | None) -> str:
    if not parameters:
        return ""
    for unit, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if parameters >= size:
            return f"{parameters / size:.3g} {unit} parameters"
    return f"{parameters} parameters"
