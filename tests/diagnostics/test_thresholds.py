"""What users change about the rules is checked and takes effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.diagnostics import RULES, diagnose, resolve_thresholds
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_defaults_stand_without_changes():
    assert resolve_thresholds(None) == {rule.id: rule.defaults for rule in RULES}


def test_changed_threshold_changes_what_is_found(run_of: Callable[..., Any]):
    kl = run_of({"actor/kl_loss": [1.5] * 5})

    assert [f.severity.value for f in diagnose(kl).findings()] == ["warning"]
    assert [f.severity.value for f in diagnose(kl, thresholds={"kl-explosion": {"threshold": 2}}).findings()] == [
        "info"
    ]
    assert [f.severity.value for f in diagnose(kl, thresholds={"kl-explosion": {"threshold": 0.25}}).findings()] == [
        "critical"
    ]


def test_changed_patience_moves_the_first_step(run_of: Callable[..., Any]):
    kl = run_of({"actor/kl_loss": [1.5] * 9})

    (finding,) = diagnose(kl, thresholds={"kl-explosion": {"patience": 5}}).findings()
    assert finding.first_step == 5


@pytest.mark.parametrize(
    ("thresholds", "message", "hint"),
    [
        ({"kl-explosin": {}}, "no rule 'kl-explosin'", "kl-explosion"),
        ({"plateau": {"patiance": 5}}, "no parameter 'patiance'", "patience"),
        ({"plateau": {"patience": "80"}}, "plateau.patience: '80' is not a whole number", "default is 50"),
        ({"plateau": {"patience": 2.5}}, "plateau.patience: 2.5 is not a whole number", "steps"),
        ({"plateau": {"patience": 0}}, "plateau.patience: 0 is below 2", "default is 50"),
        ({"kl-explosion": {"threshold": True}}, "True is not a number", "nats"),
        ({"kl-explosion": {"threshold": float("nan")}}, "nan is not a number", "nats"),
        ({"kl-explosion": {"threshold": None}}, "None is not a number", "nats"),
        ({"kl-explosion": {"enabled": "no"}}, "'no' is neither true nor false", ""),
        ({"kl-explosion": 2.0}, "kl-explosion: 2.0 is no mapping", "threshold"),
        ([1], r"thresholds: \[1\] is no mapping", "by rule"),
    ],
)
def test_unusable_change_is_refused_naming_field_and_what_is_valid(thresholds: Any, message: str, hint: str):
    with pytest.raises(InvalidInputError, match=message) as caught:
        resolve_thresholds(thresholds)
    assert hint in (caught.value.hint or "")


def test_every_parameter_says_what_it_is():
    for rule in RULES:
        for parameter in rule.parameters:
            assert len(parameter.meaning) > 10, (rule.id, parameter.name)
            assert parameter.least is None or parameter.default >= parameter.least
