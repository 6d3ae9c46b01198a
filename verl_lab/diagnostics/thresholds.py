"""What a recipe or a call changes about the rules, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from verl_lab.diagnostics.rules import RULES
from verl_lab.errors import InvalidInputError, nearest

if TYPE_CHECKING:
    from verl_lab.diagnostics.rule import Parameter, Rule, Values

_BY_ID = {rule.id: rule for rule in RULES}


def resolve_thresholds(thresholds: Mapping[str, Any] | None) -> dict[str, Values | None]:
    """Return each rule's parameters with the changes applied; None for a rule that is switched off.

    Parameters
    ----------
    thresholds
        By rule id: parameters to change, and ``enabled``. For example
        ``{"kl-explosion": {"threshold": 2.0}, "plateau": {"enabled": False}}``.

    Raises
    ------
    InvalidInputError
        For an unknown rule or parameter, naming the nearest, and for a value of the wrong type or size.
    """
    if thresholds is not None and not isinstance(cast("object", thresholds), Mapping):
        raise InvalidInputError(
            f"thresholds: {thresholds!r} is no mapping.", "Give parameters by rule: {'kl-explosion': {'threshold': 2}}."
        )
    resolved: dict[str, Values | None] = {rule.id: rule.defaults for rule in RULES}
    for rule_id, changes in (thresholds or {}).items():
        rule = _BY_ID.get(rule_id)
        if rule is None:
            raise InvalidInputError(f"thresholds: there is no rule {rule_id!r}.", _suggest(str(rule_id), _BY_ID))
        resolved[rule_id] = _changed(rule, changes)
    return resolved


def _changed(rule: Rule, changes: Any) -> Values | None:
    if not isinstance(changes, Mapping):
        raise InvalidInputError(
            f"thresholds.{rule.id}: {changes!r} is no mapping of parameters.",
            f"It has: {', '.join(['enabled', *rule.defaults])}.",
        )
    parameters = {p.name: p for p in rule.parameters}
    values = dict(rule.defaults)
    enabled = True
    for name, value in cast("Mapping[str, Any]", changes).items():
        if name == "enabled":
            if not isinstance(value, bool):
                raise InvalidInputError(f"thresholds.{rule.id}.enabled: {value!r} is neither true nor false.")
            enabled = value
        elif name in parameters:
            values[name] = _checked(rule, parameters[name], value)
        else:
            raise InvalidInputError(
                f"thresholds.{rule.id}: there is no parameter {name!r}.", _suggest(str(name), ["enabled", *parameters])
            )
    return values if enabled else None


def _checked(rule: Rule, parameter: Parameter, value: Any) -> float:
    field = f"thresholds.{rule.id}.{parameter.name}"
    kind = "a whole number" if parameter.is_whole else "a number"
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (parameter.is_whole and value != int(value)):
        raise InvalidInputError(
            f"{field}: {value!r} is not {kind}.", f"It is: {parameter.meaning}. The default is {parameter.default}."
        )
    if parameter.least is not None and value < parameter.least:
        raise InvalidInputError(
            f"{field}: {value!r} is below {parameter.least:g}, the least that makes sense.",
            f"It is: {parameter.meaning}. The default is {parameter.default}.",
        )
    return int(value) if parameter.is_whole else float(value)


def _suggest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    near = nearest(name, known)
    return f"The nearest: {', '.join(near)}." if near else f"There are: {', '.join(sorted(known))}."
