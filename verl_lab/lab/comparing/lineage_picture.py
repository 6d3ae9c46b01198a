"""A lineage as a picture: columns from left to right, each thing to the right of all it was made from."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.domain.lineage import Edge, Lineage, Node

    Places = Mapping[str, tuple[float, float]]

_WIDTH, _HEIGHT = 230, 46
_GAP_X, _GAP_Y = 56, 12
_MARGIN = 8
_LETTERS_MOST = 36
_SMALLEST = 0.7
_NODES_MOST = 400
# Boxes are light and lines grey, so that the picture can be read on a light and on a dark page.
_FILLS = {"run": "#dbe9f9", "dataset": "#ddf0de", "checkpoint": "#eee4f7", "file": "#f7e6e6"}
_PLAIN = "#f1f1f1"
_WORDS = {"dataset": "data", "reward": "reward function"}


def to_svg(lineage: Lineage) -> str:
    """Return an SVG document; every name in it is text."""
    return _drawn(lineage)[0]


def _drawn(lineage: Lineage) -> tuple[str, float]:
    """Return the SVG document, and how wide it is in pixels."""
    places = _places(lineage)
    width = max((x for x, _ in places.values()), default=0) + _WIDTH + _MARGIN
    height = max((y for _, y in places.values()), default=0) + _HEIGHT + _MARGIN
    lines = [_line(edge, places) for edge in lineage.edges if edge.source in places and edge.target in places]
    boxes = [_box(lineage, lineage.nodes[node], *place) for node, place in places.items()]
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">'
    return "\n".join([head, *lines, *boxes, "</svg>"]), width


def to_html(lineage: Lineage) -> str:
    """Return the picture and the text, for a notebook.

    The picture is an image: a notebook that is not trusted drops drawings, and no image can run anything.
    """
    text = escape(lineage.text(), quote=True)
    if len(lineage.nodes) > _NODES_MOST:
        return f"<pre>{text}</pre>"
    svg, width = _drawn(lineage)
    encoded = b64encode(svg.encode()).decode("ascii")
    # It shrinks to the page, though not below what can be read; from there on it is scrolled.
    style = f"max-width:max(100%,{_SMALLEST * width:.0f}px);height:auto"
    image = f'<img alt="{text}" style="{style}" src="data:image/svg+xml;base64,{encoded}">'
    return (
        f'<div class="verl-lab-lineage"><div style="overflow-x:auto">{image}</div>'
        f"<details><summary>As text</summary><pre>{text}</pre></details></div>"
    )


def _places(lineage: Lineage) -> dict[str, tuple[float, float]]:
    columns: dict[int, list[str]] = {}
    for node, depth in _depths(lineage).items():
        columns.setdefault(depth, []).append(node)
    found: dict[str, tuple[float, float]] = {}
    tallest = max((len(column) for column in columns.values()), default=0)
    for depth in sorted(columns, reverse=True):
        # Right to left, each thing near what it was used for.
        column = sorted(columns[depth], key=lambda node: _height_of_users(lineage, node, found))
        top = _MARGIN + (tallest - len(column)) * (_HEIGHT + _GAP_Y) / 2
        for row, node in enumerate(column):
            found[node] = (_MARGIN + depth * (_WIDTH + _GAP_X), top + row * (_HEIGHT + _GAP_Y))
    return found


def _depths(lineage: Lineage) -> dict[str, int]:
    """Return the column of each node: its sources stand just left of the first thing made from them."""
    found: dict[str, int] = dict.fromkeys(lineage.nodes, 0)
    for _ in lineage.nodes:  # no path is longer; a circle in broken records ends here too
        moved = False
        for edge in lineage.edges:
            if found[edge.target] <= found[edge.source] < len(lineage.nodes):
                found[edge.target] = found[edge.source] + 1
                moved = True
        if not moved:
            break
    for node in lineage.nodes:
        users = [found[edge.target] for edge in lineage.used_by(node)]
        if users and not lineage.made_from(node):
            found[node] = min(users) - 1
    return found


def _height_of_users(lineage: Lineage, node: str, places: Places) -> float:
    heights = [places[edge.target][1] for edge in lineage.used_by(node) if edge.target in places]
    return sum(heights) / len(heights) if heights else 0.0


def _line(edge: Edge, places: Places) -> str:
    (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
    x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT / 2, y2 + _HEIGHT / 2
    middle = (x1 + x2) / 2
    return f'<path d="M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}" fill="none" stroke="#8a8a8a"/>'


def _box(lineage: Lineage, node: Node, x: float, y: float) -> str:
    is_focus = node.id in lineage.focus
    stroke = 'stroke="#1565c0" stroke-width="2"' if is_focus else 'stroke="#9a9a9a"'
    roles = sorted({edge.label for edge in lineage.used_by(node.id) if edge.label not in ("", node.kind)})
    kind = _WORDS.get(node.kind, node.kind)
    upper = " · ".join([kind, *(role for role in roles if role != kind), *([node.detail] if node.detail else [])])
    weight = ' font-weight="600"' if node.kind == "run" else ""
    # Bold letters are wider.
    kind_text, label = escape(_cut(upper)), escape(_cut(node.label, _LETTERS_MOST - 8 if weight else _LETTERS_MOST))
    return (
        f"<g><title>{escape(_plain(str(node)))}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" '
        f'fill="{_FILLS.get(node.kind, _PLAIN)}" {stroke}/>'
        f'<text x="{x + 10:g}" y="{y + 18:g}" font-size="10" fill="#555">{kind_text}</text>'
        f'<text x="{x + 10:g}" y="{y + 35:g}" font-size="12" fill="#1a1a1a"{weight}>{label}</text></g>'
    )


def _cut(text: str, longest: int = _LETTERS_MOST) -> str:
    """Cut out the middle, since the end of a path says most."""
    plain = _plain(text)
    return plain if len(plain) <= longest else f"{plain[: longest // 2 - 1]}…{plain[-longest // 2 :]}"


def _plain(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(character if character.isprintable() else " " for character in text)
