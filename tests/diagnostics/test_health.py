"""The score explains itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.diagnostics import Diagnosis, diagnose
from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Callable


def test_run_without_data_has_no_score_and_says_why():
    health = Diagnosis(config={"trainer": {"test_freq": -1}}).health()

    assert health.score is None
    assert health.reason == "The run has logged nothing yet."


def test_before_its_first_step_a_run_had_no_score(run_of: Callable[..., Any]):
    series = {name: (steps + 10, values) for name, (steps, values) in run_of({"train/loss": [1.0] * 3}).items()}

    assert diagnose(series).health(5).score is None


def test_healthy_run_scores_100(run_of: Callable[..., Any]):
    health = diagnose(run_of({"actor/kl_loss": [0.1] * 20})).health()

    assert (health.score, health.breakdown, health.reason) == (100, (), None)


def test_each_rule_takes_off_its_weight_once(run_of: Callable[..., Any]):
    both = {"actor/kl_loss": [1.2] * 5, "actor/reward_kl_penalty": [1.2] * 5, "actor/entropy": [0.04] * 5}
    health = diagnose(run_of(both)).health()

    assert health.score == 80
    assert [(e.rule, e.severity, e.weight) for e in health.breakdown] == [
        ("entropy-collapse", Severity.WARNING, 10),
        ("kl-explosion", Severity.WARNING, 10),
    ]
    assert "above 1" in health.breakdown[1].why


@pytest.mark.parametrize(("kl", "score"), [(0.6, 98), (1.2, 90), (2.2, 70), (5.2, 20)])
def test_graver_findings_weigh_more(kl: float, score: int, run_of: Callable[..., Any]):
    assert diagnose(run_of({"actor/kl_loss": [kl] * 5})).health().score == score


def test_weight_decays_after_a_signature_clears(run_of: Callable[..., Any]):
    diagnosis = diagnose(run_of({"actor/kl_loss": [0.1] * 5 + [2.2] * 5 + [0.1] * 150}))
    scores = [diagnosis.health(step).score for step in (7, 8, 12, 13, 33, 53, 160)]

    assert scores == [100, 70, 70, 70, 85, 92, 100]
    assert "over since step 13" in diagnosis.health(33).breakdown[0].why


def test_critical_finding_caps_the_score_only_while_active(run_of: Callable[..., Any]):
    diagnosis = diagnose(run_of({"actor/grad_norm": [1.0] * 5 + [float("nan")] + [1.0] * 40}))

    assert diagnosis.health(6).score == 20
    assert diagnosis.health(46).score == 78


def test_score_never_falls_below_zero(run_of: Callable[..., Any]):
    ill = {"actor/grad_norm": [float("nan")] * 5, "actor/kl_loss": [9.0] * 5, "actor/entropy": [0.001] * 5}

    assert diagnose(run_of(ill)).health().score == 0
