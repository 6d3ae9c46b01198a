"""Reading a recipe's YAML without trusting it: no tags, no aliases, bounded size and depth."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import yaml

from verl_lab.errors import FormatError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

LARGEST_BYTES = 64 * 1024
DEEPEST = 20


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types only: ``1e-4`` is a number, ``no`` and ``2024-01-01`` are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own declaration is a plain class attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  overrides
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key_node.value in seen:
                message = f"the key {key_node.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _resolve(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(pattern), list(first))


_resolve("null", r"^(?:~|null|Null|NULL|)$", "~nN\0")
_Loader.yaml_implicit_resolvers.setdefault("", []).extend(_Loader.yaml_implicit_resolvers["\0"])
_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789")
_resolve(
    "float",
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "-+.0123456789",
)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises
    ------
    NotFoundError
        If there is no such file.
    FormatError
        If it is too large or deep, uses tags or aliases, repeats a key, or is no mapping; the
        message has line and column.
    """
    return parse_mapping(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return the text of a recipe's file, line endings as they are; errors as ``read_mapping``."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise NotFoundError(f"The recipe file {path} cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST_BYTES:
        raise FormatError(f"{path}: a recipe is at most {LARGEST_BYTES // 1024} KiB.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: byte {error.start} is not UTF-8.", "Save the file as UTF-8.") from error
    return text


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """Parse YAML that holds one mapping; ``source`` is named in errors, which are ``FormatError``."""
    if len(text) > LARGEST_BYTES:
        raise FormatError(f"{source}: a recipe is at most {LARGEST_BYTES // 1024} KiB.")
    try:
        _check_events(text, source)
        found: object = yaml.load(text, Loader=_Loader)  # noqa: S506  a subclass of SafeLoader, narrower still
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        raise FormatError(f"{source}{_place(at)}: {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise FormatError(f"{source}: {str(error).splitlines()[0]}.") from error
    if not isinstance(found, dict):
        raise FormatError(f"{source}: expected a mapping of names to values.", "Write lines of the form 'name: value'.")
    return cast("dict[str, Any]", found)


def compose(text: str) -> yaml.MappingNode:
    """Return the nodes, with their places, of a text that ``parse_mapping`` has accepted."""
    return cast("yaml.MappingNode", yaml.compose(text, Loader=_Loader))


def place_of(text: str, keys: Sequence[object]) -> str:
    """Say in which line and column of an accepted text a field lies; empty where it does not."""
    node: yaml.Node = compose(text)
    at: yaml.Mark | None = None
    for name in keys:
        pairs = cast("list[tuple[yaml.Node, yaml.Node]]", node.value if isinstance(node, yaml.MappingNode) else [])
        pair = next((pair for pair in pairs if pair[0].value == name), None)
        if pair is None:
            break
        at, node = pair[0].start_mark, pair[1]
    return _place(at)


def implicit_kinds() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return what text without quotes is read as, in PyYAML's form, for what writes such text."""
    return _Loader.yaml_implicit_resolvers


def _check_events(text: str, source: str) -> None:
    """Refuse, before any object is made, what could grow or run."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        at = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise FormatError(f"{source}{at}: anchors and aliases are not accepted.", "Write the value out.")
        if tag := getattr(event, "tag", None):
            raise FormatError(f"{source}{at}: the tag {tag!r} is not accepted.", "Write a plain value.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if depth > DEEPEST:
            raise FormatError(f"{source}{at}: nested deeper than {DEEPEST} levels.")
        if documents > 1:
            raise FormatError(f"{source}{at}: expected one document, found a second.")


def _place(mark: Any) -> str:
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
