"""``key=value`` in and out: what a user types, and the words Hydra reads back as the same value."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from verl_lab.errors import InvalidInputError
from verl_lab.recipes.source import parse_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SEGMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_KEYWORDS = frozenset({"null", "true", "false", "nan", "inf"})
# Another key of the same configuration; anything with a resolver in it (``oc.env`` …) is not one.
_NODE_REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w-]*(?:\.[\w-]+)*\}")
# What Hydra and verl take as "import this and call it".
_INSTANTIATION = frozenset({"_target_", "_recursive_", "_convert_", "_partial_", "_args_"})
_DEEPEST = 20
_OPENING = tuple("[{('\"")


@dataclass(frozen=True)
class Assignment:
    """One override: verl's key, the value, and how the user spelled the value."""

    key: str
    value: Any
    text: str


def parse_override(text: str) -> Assignment:
    """Read ``key=value``; the value is in Hydra's notation, and text that is none is taken as it stands.

    A leading ``+`` or ``++`` is accepted and means nothing here: whether a key is new is known.

    Raises
    ------
    InvalidInputError
        If it is of another form, or stands for several values at once.
    """
    if text.lstrip().startswith("~"):
        raise InvalidInputError(f"override {text!r}: keys cannot be removed.", "Set the key to null instead.")
    key, equals, raw = text.partition("=")
    if not equals:
        raise InvalidInputError(f"override {text!r}: expected key=value.", "For example trainer.total_epochs=3.")
    return Assignment(check_key(key.strip().lstrip("+")), _parse_value(raw.strip(), text), raw.strip())


def overrides_of_text(text: str) -> list[str]:
    """Split the body of a cell into overrides: one ``key=value`` a line, or YAML.

    Empty lines and lines that begin with ``#`` are passed over.

    Raises
    ------
    FormatError
        If it is YAML, and broken.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if all(re.match(r"[+~]*[\w.@/-]+=", line) for line in lines):
        return lines
    return [f"{key}={literal(value)}" for key, value in flatten(parse_mapping(text, "cell"))]


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings under dotted keys; an empty mapping is a leaf.

    Raises
    ------
    InvalidInputError
        If a key is none of verl's notation.
    """
    for name, value in mapping.items():
        key = check_key(f"{prefix}.{name}" if prefix else str(name))
        if isinstance(value, dict) and value:
            yield from flatten(cast("dict[str, Any]", value), key)
        else:
            yield key, value


def check_key(key: str) -> str:
    """Return ``key`` if it is dotted names that neither Hydra nor verl would call.

    Raises
    ------
    InvalidInputError
        If not.
    """
    parts = key.split(".")
    for part in parts:
        if part in _INSTANTIATION:
            raise InvalidInputError(f"{key[:100]}: {part} is not accepted; it would run code.")
        if not _SEGMENT.fullmatch(part):
            raise InvalidInputError(
                f"{key[:100]!r} is no key.", "A key is names joined by dots, like trainer.total_epochs."
            )
    if len(parts) > _DEEPEST:
        raise InvalidInputError(f"{key[:100]!r} is nested deeper than {_DEEPEST} levels.")
    return key


def why_unsafe(value: object) -> str | None:  # noqa: PLR0911  one return a kind of value
    """Say why a value may not reach Hydra's command line, or None if it may."""
    if isinstance(value, str):
        return _why_unsafe_text(value)
    if isinstance(value, list):
        return next((why for item in cast("list[object]", value) if (why := why_unsafe(item))), None)
    if isinstance(value, dict):
        for name, item in cast("dict[object, object]", value).items():
            if not isinstance(name, str) or not _SEGMENT.fullmatch(name) or name in _INSTANTIATION:
                return f"{str(name)[:60]!r} is not accepted as a name inside a value."
            if why := why_unsafe(item):
                return why
        return None
    if value is None or isinstance(value, (bool, int, float)):
        return None
    return f"a {type(value).__name__} is none of text, number, true, false, null, list and mapping."


def literal(value: object) -> str:  # noqa: PLR0911  one return a kind of value
    """Write a value so that Hydra's override grammar reads the same one back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "nan" if math.isnan(value) else f"{value:+}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(literal(item) for item in cast('list[object]', value))}]"
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return "{" + ",".join(f"{name}:{literal(item)}" for name, item in items) + "}"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    # Hydra's rule: a backslash is one, except in a row that ends at a quote; there two stand for one.
    escaped = re.sub(r'(\\*)"', lambda found: found[1] * 2 + '\\"', text)
    return '"' + re.sub(r"(\\+)\Z", lambda found: found[1] * 2, escaped) + '"'


def _why_unsafe_text(text: str) -> str | None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "text that holds a zero byte or half a character cannot be passed to a process."
    if text == "???":
        return "'???' means a missing value to Hydra."
    if "${" in _NODE_REFERENCE.sub("", text):
        return "only references to other keys, like ${data.max_prompt_length}, are resolved; resolvers are refused."
    return None


def _parse_value(raw: str, whole: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if _depth(raw) > _DEEPEST:
        raise InvalidInputError(f"override {whole[:100]!r}…: nested too deeply.")
    try:
        override = OverridesParser.create().parse_override(f"key={raw}")
    except HydraException as error:
        if raw.startswith(_OPENING):
            reason = str(error).splitlines()[0]
            raise InvalidInputError(f"override {whole!r}: {reason}.", 'Put text in quotes: key="text".') from error
        return raw
    if override.is_sweep_override():
        raise InvalidInputError(
            f"override {whole!r}: stands for several values.", 'Write [a,b] for a list, "a,b" for text with a comma.'
        )
    return override.value()


def _depth(raw: str) -> int:
    depth = deepest = 0
    for character in raw:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest
