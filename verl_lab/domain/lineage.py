"""What was made from what: runs, and the recipes, data, weights and code they came from, as a graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Kind = Literal["run", "recipe", "dataset", "checkpoint", "model", "reward", "verl", "file"]


@dataclass(frozen=True)
class Node:
    """One thing.

    Attributes
    ----------
    id
        Its kind and what tells it from others of that kind, such as ``dataset:<hash>``.
    label
        What it is called, for a person.
    detail
        What else is to be known: a state, a hash, where it lies.
    """

    id: str
    kind: Kind
    label: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.label}" + (f" · {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class Edge:
    """That ``target`` was made from ``source``; ``label`` says as what it served."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Lineage:
    """Where some things came from, and what came of them.

    Attributes
    ----------
    nodes
        Every thing, by its id.
    edges
        What was made from what.
    focus
        The ids of what was asked about.
    notes
        What is to be known beside it, in sentences.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])
    edges: tuple[Edge, ...] = ()
    focus: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def made_from(self, node: str) -> list[Edge]:
        """Return the edges that lead to a node."""
        return [edge for edge in self.edges if edge.target == node]

    def used_by(self, node: str) -> list[Edge]:
        """Return the edges that leave a node."""
        return [edge for edge in self.edges if edge.source == node]

    def ancestors(self, *nodes: str) -> list[Node]:
        """Return all that nodes came from, near ones first; of the focus if none are given."""
        return self._reached(nodes or self.focus, lambda node: [edge.source for edge in self.made_from(node)])

    def descendants(self, *nodes: str) -> list[Node]:
        """Return all that came of nodes, near ones first; of the focus if none are given."""
        return self._reached(nodes or self.focus, lambda node: [edge.target for edge in self.used_by(node)])

    def runs(self) -> list[str]:
        """Return the ids of the runs in it, sorted."""
        return sorted(node.label for node in self.nodes.values() if node.kind == "run")

    def around(self, focus: Iterable[str], notes: Iterable[str] = ()) -> Lineage:
        """Return the part that is about some nodes: what they came from, what came of them, and them."""
        wanted = tuple(dict.fromkeys(focus))
        kept = {*wanted, *(n.id for n in self.ancestors(*wanted)), *(n.id for n in self.descendants(*wanted))}
        # What a descendant came from besides is part of its story too, by one step: its data, its recipe.
        beside = {edge.source for node in self.descendants(*wanted) for edge in self.made_from(node.id)}
        edges = tuple(
            edge for edge in self.edges if edge.target in kept and (edge.source in kept or edge.source in beside)
        )
        ids = kept | {edge.source for edge in edges}
        nodes = {key: node for key, node in self.nodes.items() if key in ids}
        return Lineage(nodes, edges, wanted, tuple(notes))

    def text(self) -> str:
        """Return it as trees of text: what the focus was made from, and what it was used by."""
        lines: list[str] = []
        for one in self.focus:
            lines.append(str(self.nodes[one]))
            for title, forward in (("made from", False), ("used by", True)):
                below = self._tree(one, forward=forward, prefix="  ", seen={one})
                lines += [f" {title}", *below] if below else []
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "focus": list(self.focus),
            "nodes": [vars(node) for node in self.nodes.values()],
            "edges": [vars(edge) for edge in self.edges],
            "notes": list(self.notes),
        }

    def _tree(self, node: str, *, forward: bool, prefix: str, seen: set[str]) -> list[str]:
        edges = self.used_by(node) if forward else self.made_from(node)
        lines: list[str] = []
        for k, edge in enumerate(edges):
            other = edge.target if forward else edge.source
            is_last = k == len(edges) - 1
            role = f"{edge.label}: " if edge.label not in ("", self.nodes[other].kind) else ""
            again = (
                " (see above)" if other in seen and (self.used_by(other) if forward else self.made_from(other)) else ""
            )
            lines.append(f"{prefix}{'└─' if is_last else '├─'} {role}{self.nodes[other]}{again}")
            if other not in seen:
                seen.add(other)
                lines += self._tree(other, forward=forward, prefix=f"{prefix}{'   ' if is_last else '│  '}", seen=seen)
        return lines

    def _reached(self, start: Iterable[str], step: Callable[[str], list[str]]) -> list[Node]:
        found: dict[str, None] = {}
        begun = set(start)
        queue = list(begun)
        while queue:
            for other in step(queue.pop(0)):
                if other not in found and other not in begun:
                    found[other] = None
                    queue.append(other)
        return [self.nodes[node] for node in found]
