"""Changing values in a recipe's YAML and leaving every other character, comments included, as it is.

A place is changed by its position in the text, as the parser reports it; nothing is written anew
but the values that change. One change is made at a time, each on the text the last one left.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, cast

import yaml

from verl_lab.errors import InvalidInputError
from verl_lab.recipes.source import compose, implicit_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Path = tuple[str, ...]
Pair = tuple[yaml.Node, yaml.Node]

_NESTED = "parameters"
"""The field whose keys may be dotted, nested, or both: ``a.b: 1`` is ``a: {b: 1}``."""
# It would become part of text in lines that is put before it.
_INDENTED_COMMENT = re.compile(r"[^\n]*\n(?:[ \t]*\r?\n)*[ \t]+#")
_BREAKS = re.compile("[\n\r\x85\u2028\u2029]")


class _Flow:
    """A value that is written on one line, in brackets if it needs any."""

    def __init__(self, value: object) -> None:
        self.value = value


class _Block(str):
    """Text of several lines, written as such."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that our reader, or a reader of YAML 1.1, would take for something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML's own declaration is a plain class attribute
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *implicit_kinds().get(first, [])]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *implicit_kinds()}
    }

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if _BREAKS.search(text) else None)


def _flow(dumper: _Dumper, flow: _Flow) -> yaml.Node:
    node = dumper.represent_data(flow.value)
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = True
    return node


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_Flow, _flow)
# Numbers of other libraries, and names that are text too.
_Dumper.add_multi_representer(float, lambda dumper, number: dumper.represent_float(float(number)))
_Dumper.add_multi_representer(int, lambda dumper, number: dumper.represent_int(int(number)))
_Dumper.add_multi_representer(str, lambda dumper, text: _text(dumper, str(text)))
_Dumper.add_representer(
    _Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)


def write(fields: Mapping[Path, object]) -> str:
    """Return fields as YAML: those of one part under its name, keys below ``parameters`` dotted.

    Raises
    ------
    InvalidInputError
        A value is of a kind that a recipe cannot hold.
    """
    tree: dict[str, Any] = {}
    for path, value in fields.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = _leaf(value)
    return _dump(tree) if tree else ""


def put(text: str, path: Sequence[str], value: object) -> str:
    """Set one field; where it is not there yet it is added after the last of its neighbours.

    Parameters
    ----------
    text
        YAML that ``parse_mapping`` accepts.
    path
        Names from the top; below ``parameters`` every part of a dotted key is a name of its own.
    """
    node, rest, pair = _descend(compose(text), tuple(path))
    if pair is not None and not rest:
        return _replace(text, pair, value, block=not node.flow_style)
    if pair is not None:  # a field without a value, which now gets some below it
        return _replace(text, pair, _nested(rest, value, dotted=path[0] == _NESTED), block=False)
    dotted = path[0] == _NESTED and len(rest) < len(path)
    if node.flow_style or not node.value:
        return _add_inline(text, node, _nested(rest, value, dotted=dotted))
    at = _end(text, node.value[-1][1])
    leaf = _Flow(value) if _INDENTED_COMMENT.match(text, at) else _leaf(value)
    return _add_lines(text, node, _nested(rest, leaf, dotted=dotted))


def drop(text: str, path: Sequence[str]) -> str:
    """Remove one field, and what holds it if nothing else is left in there; comments above it stay."""
    while True:
        node, rest, pair = _descend(compose(text), tuple(path))
        if pair is None or rest:
            return text
        if len(node.value) > 1 or len(path) == 1:
            return _remove(text, node, pair)
        key_length = len(cast("str", pair[0].value).split(".")) if path[0] == _NESTED and len(path) > 1 else 1
        path = path[:-key_length]


def _descend(
    node: yaml.MappingNode, path: tuple[str, ...], *, dotted: bool = False
) -> tuple[yaml.MappingNode, tuple[str, ...], Pair | None]:
    """Find the pair of a path, else the mapping nearest to where it belongs, and what is left of the path."""
    best: tuple[yaml.MappingNode, tuple[str, ...], Pair | None] = (node, path, None)
    for pair in cast("list[Pair]", node.value):
        key, value = pair
        names = tuple(cast("str", key.value).split(".")) if dotted else (cast("str", key.value),)
        rest = path[len(names) :]
        if path[: len(names)] != names:
            continue
        if not rest:
            return node, (), pair
        if isinstance(value, yaml.MappingNode):
            found = _descend(value, rest, dotted=dotted or names == (_NESTED,))
            if found[2] is not None:
                return found
            best = min(best, found, key=lambda one: len(one[1]))
        elif value.tag == "tag:yaml.org,2002:null":
            return node, rest, pair
    return best


def _nested(names: tuple[str, ...], value: object, *, dotted: bool) -> dict[str, Any]:
    """Return the tree that holds a value: dotted keys below ``parameters``, else a mapping in each."""
    if dotted:
        return {".".join(names): value}
    first, *below = names
    if not below:
        return {first: value}
    return {first: _nested(tuple(below), value, dotted=first == _NESTED)}


def _replace(text: str, pair: Pair, value: object, *, block: bool) -> str:
    key, old = pair
    start, end = old.start_mark.index, _end(text, old)
    rest_of_line = text[end:].partition("\n")[0]
    alone = (
        block
        and not rest_of_line.strip()
        and not _INDENTED_COMMENT.match(text, end)
        and old.start_mark.line == key.end_mark.line
    )
    new = _value(value, column=key.start_mark.column, block=alone)
    colon = re.compile(r"\s*:").match(text, key.end_mark.index)
    if colon is None:  # `{name}`: a key alone
        return f"{text[:end]}: {new}{text[end:]}"
    if old.start_mark.line != key.start_mark.line or start == end:
        # The value begins on the line of its key, and a comment that stood between comes after it.
        between = "" if start == end else text[colon.end() : start].rstrip()
        return f"{text[: colon.end()]} {new}{between}{text[end:]}"
    return text[:start] + new + text[end:]


def _add_inline(text: str, node: yaml.MappingNode, tree: dict[str, Any]) -> str:
    new = _inline(tree)[1:-1]
    if not node.value:
        at = node.start_mark.index + 1
        return text[:at] + new + text[at:]
    at = _end(text, node.value[-1][1])
    return f"{text[:at]}, {new}{text[at:]}"


def _add_lines(text: str, node: yaml.MappingNode, tree: dict[str, Any]) -> str:
    last = node.value[-1][1]
    newline = "\r\n" if "\r\n" in text else "\n"
    new = "".join(line + newline for line in _indented(_dump(tree), node.start_mark.column))
    at = text.find("\n", _end(text, last)) + 1
    return text[:at] + new + text[at:] if at else text + newline + new


def _remove(text: str, node: yaml.MappingNode, pair: Pair) -> str:
    pairs = cast("list[Pair]", node.value)
    index = pairs.index(pair)
    key, value = pair
    if node.flow_style:
        if index + 1 < len(pairs):
            return text[: key.start_mark.index] + text[pairs[index + 1][0].start_mark.index :]
        before = _end(text, pairs[index - 1][1]) if index else key.start_mark.index
        return text[:before] + text[_end(text, value) :]
    line = text.rfind("\n", 0, key.start_mark.index) + 1
    if text[line : key.start_mark.index].strip("\ufeff ?"):
        raise InvalidInputError(
            f"line {key.start_mark.line + 1}: {key.value!r} cannot be removed from the way it is written.",
            "Write it as 'name: value' on a line of its own.",
        )
    end = text.find("\n", _end(text, value))
    return text[:line] + (text[end + 1 :] if end >= 0 else "")


def _end(text: str, node: yaml.Node) -> int:
    """Return where a value ends: the parser ends what is in block form only at what comes next."""
    if isinstance(node, yaml.ScalarNode):
        start, end = node.start_mark.index, node.end_mark.index
        if node.style not in ("|", ">"):
            return end
        keeps_empty_lines = "+" in text[start : start + 3]
        return end - text.endswith("\n", start, end) if keeps_empty_lines else start + len(text[start:end].rstrip())
    if cast("yaml.CollectionNode", node).flow_style or not node.value:
        return node.end_mark.index
    last = cast("list[yaml.Node | Pair]", node.value)[-1]
    return _end(text, last[1] if isinstance(last, tuple) else last)


def _value(value: object, *, column: int, block: bool) -> str:
    leaf = _leaf(value)
    if block and isinstance(leaf, _Block):
        return "\n".join(_indented(_dump({"k": leaf}), column)).removeprefix("k: ".rjust(column + 3))
    return _inline(value)


def _indented(text: str, column: int) -> list[str]:
    return [" " * column * bool(line) + line for line in text.removesuffix("\n").split("\n")]


def _inline(value: object) -> str:
    # As an item of a list, so that what means something between brackets is put in quotes.
    return _dump(_Flow([value])).strip()[1:-1]


def _leaf(value: object) -> _Flow | _Block:
    if not isinstance(value, str) or "\n" not in value:
        return _Flow(value)
    prose = value.removesuffix("\n")
    readable = all(line.isprintable() and line == line.rstrip() for line in prose.split("\n"))
    return _Block(value) if readable and prose and prose == prose.strip("\n") else _Flow(value)


def _dump(value: object) -> str:
    try:
        return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
    except yaml.YAMLError as error:
        raise InvalidInputError(
            f"A recipe cannot hold this value: {str(error)[:200]}.", "It holds text, numbers, true, false and null."
        ) from error
