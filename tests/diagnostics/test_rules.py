"""Every rule on runs made for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.diagnostics import RULES, Diagnosis, diagnose
from verl_lab.domain.finding import Finding, Severity

if TYPE_CHECKING:
    from types import ModuleType


def _load(name: str) -> ModuleType:
    import sys

    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"diagnostics_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


cases = _load("cases")
CASES = cases.CASES
FIRING = [case for case in CASES if case.fires]
METRIC_RULES = [rule for rule in RULES if rule.standing is None]


def _outcome(findings: list[Finding]) -> list[tuple[Any, ...]]:
    return sorted((f.severity.value, f.first_step, f.last_step, f.metric, f.settings) for f in findings)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_rule_fires_at_the_right_step_with_the_right_severity_or_not_at_all(case: Any):
    findings = case.findings()

    if case.fires is None:
        assert findings == []
        assert case.rule not in {f.rule for f in case.diagnose().findings()}
    else:
        severity, first_step = case.fires
        assert [(f.severity.value, f.first_step) for f in findings] == [(severity, first_step)]


@pytest.mark.parametrize(
    "case", [c for c in FIRING if c.metrics and not c.silence_s and not c.ended], ids=lambda c: c.label
)
def test_rule_says_nothing_one_step_before_it_counts(case: Any):
    diagnosis = case.diagnose()
    before = [f for f in diagnosis.findings(case.fires[1] - 1) if f.rule == case.rule]

    assert [f for f in before if f.severity >= case.fires[0]] == []


@pytest.mark.parametrize("case", FIRING, ids=lambda case: case.label)
def test_finding_explains_itself(case: Any):
    for finding in case.findings():
        assert "{" not in finding.evidence
        assert "nan" not in finding.evidence.replace("was nan", "").lower()
        assert finding.cause
        assert finding.suggestion
        assert finding.source
        assert all("=" in setting for setting in finding.settings)
        assert finding.heuristic or "heuristic" not in finding.source or ";" in finding.source


def test_every_rule_has_a_case_that_fires_and_one_that_does_not():
    ids = [rule.id for rule in RULES]

    assert sorted({case.rule for case in FIRING}) == sorted(ids)
    assert sorted({case.rule for case in CASES if case.fires is None}) == sorted(ids)
    assert len(ids) == len(set(ids)) == 27


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_switched_off_rule_never_fires(rule: Any):
    for case in (c for c in FIRING if c.rule == rule.id):
        diagnosis = case.diagnose({"enabled": False})

        assert [f for f in diagnosis.findings() if f.rule == rule.id] == []
        assert diagnosis.not_applicable()[rule.id] == "it is switched off"


@pytest.mark.parametrize(
    ("rule", "parameter"), [(r, p) for r in RULES for p in r.parameters], ids=lambda x: getattr(x, "id", None) or x.name
)
def test_moving_a_threshold_changes_what_some_case_says(rule: Any, parameter: Any):
    """If it did not, a wrong threshold would pass these tests."""
    moved = [parameter.default * 1.2, parameter.default / 1.2]
    if parameter.default == 0:
        moved = [0.2, -0.2]
    if parameter.is_whole:
        moved = [parameter.default + 1, parameter.default - 1]
    allowed = [v for v in moved if parameter.least is None or v >= parameter.least]
    mine = [case for case in CASES if case.rule == rule.id]

    for value in allowed:
        changed = [c for c in mine if _outcome(c.findings({parameter.name: value})) != _outcome(c.findings())]
        if changed:
            return
    pytest.fail(f"no case notices {parameter.name}={allowed} instead of {parameter.default}")


@pytest.mark.parametrize("rule", METRIC_RULES, ids=lambda rule: rule.id)
def test_rule_without_its_metrics_is_not_applicable_and_names_them(rule: Any):
    diagnosis = diagnose({"unrelated": cases.as_points([1.0, 2.0])})

    if rule.id == "non-finite":  # every metric is its business
        assert "non-finite" not in diagnosis.not_applicable()
        return
    reason = diagnosis.not_applicable()[rule.id]
    assert "the run logs no" in reason
    assert next(m for c in rule.criteria for m in c.metrics if not m.startswith("events/")) in reason


@pytest.mark.parametrize("case", [c for c in FIRING if c.rule != "no-evidence"], ids=lambda case: case.label)
def test_rule_that_fires_is_applicable(case: Any):
    if case.rule == "stall" or case.metrics:
        assert case.rule not in case.diagnose().not_applicable()


def test_rules_that_need_more_than_metrics_say_what():
    metrics = {
        "response_length/clip_ratio": [1.0] * 5,
        "training/off_policy/evicted_samples": [9.0] * 5,
        "train/global_tokens": [9.0] * 5,
        "perf/cpu_memory_used_gb": [9.0] * 5,
        "val/loss": [9.0] * 5,
        "val-core/x/acc/mean@1": [0.1] * 5,
    }
    reasons = diagnose({name: cases.as_points(values) for name, values in metrics.items()}).not_applicable()

    assert "data.max_response_length is not known" in reasons["truncation"]
    assert "data.train_batch_size is not known" in reasons["staleness"]
    assert "the records carry no time" in reasons["slowdown"]
    assert "node_memory_gb" in reasons["memory-leak"]
    assert reasons["overfit"] == "the run logs no train/loss"
    assert reasons["reward-hacking"] == "the run logs no critic/score/mean"
    assert reasons["stall"] == "the present time was not given"
    assert reasons["early-end"] == "the run is not over, or nobody recorded its end"
    assert reasons["no-evidence"] == "verl's configuration is not known"


def test_finding_is_over_after_three_healthy_values_and_a_new_one_begins():
    loss = [0.1] * 5 + [2.5] * 4 + [0.1] * 5 + [1.5] * 4
    first, second = sorted(
        diagnose({"actor/kl_loss": cases.as_points(loss)}).findings(), key=lambda finding: finding.first_step
    )

    assert (first.first_step, first.last_step, first.cleared_step, first.severity) == (8, 9, 12, Severity.ERROR)
    assert (second.first_step, second.last_step, second.cleared_step) == (17, 18, None)


def test_short_dip_does_not_end_a_finding():
    kl = [1.5] * 4 + [0.1] * 2 + [1.5] * 4
    (finding,) = diagnose({"actor/kl_loss": cases.as_points(kl)}).findings()

    assert (finding.first_step, finding.last_step, finding.cleared_step) == (3, 10, None)


def test_patience_counts_logged_values_whatever_their_steps():
    steps_apart = {10: 1.5, 500: 1.5, 501: 1.5, 90_000: 1.5}
    (finding,) = diagnose({"actor/kl_loss": cases.as_points(steps_apart)}).findings()

    assert (finding.first_step, finding.last_step) == (501, 90_000)


def test_evidence_gives_the_worst_value_its_step_and_the_bound():
    kl = [1.2, 1.4, 1.9, 1.3, 1.2]
    (finding,) = diagnose({"actor/kl_loss": cases.as_points(kl)}).findings()

    assert finding.evidence == "actor/kl_loss was 1.9 at step 3, above 1; 5 values in breach since step 1"
    assert (finding.value, finding.threshold) == (1.9, 1.0)


def test_evidence_gives_shares_as_percentages():
    (finding,) = diagnose({"actor/entropy": cases.as_points([1.0] * 20 + [0.29] * 3)}).findings()

    assert finding.evidence.startswith("actor/entropy was 0.29 at step 21: 71 % below the median of its first values")
    assert "more than 70 %" in finding.evidence


def test_settings_follow_the_configuration():
    kl = {"actor/kl_loss": cases.as_points([2.5] * 4)}
    config = {"actor_rollout_ref": {"actor": {"kl_loss_coef": 0.001, "optim": {"lr": 1e-6}}}}
    (with_config,) = diagnose(kl, config=config).findings()
    (without,) = diagnose(kl).findings()

    assert with_config.settings == (
        "actor_rollout_ref.actor.kl_loss_coef=0.005",
        "actor_rollout_ref.actor.optim.lr=5e-07",
    )
    assert without.settings == ()


def test_heuristics_are_marked():
    published = diagnose({"actor/entropy": cases.as_points([0.04] * 4)}).findings()
    own = diagnose({"actor/entropy": cases.as_points([0.9] * 20 + [0.2] * 4)}).findings()

    assert [f.heuristic for f in published] == [False]
    assert [f.heuristic for f in own] == [True]


def test_skipped_update_is_told_once_where_the_gradient_itself_is_logged():
    event = cases.EventRecord(1, None, "non_finite_gradient", 2, "trainer", {"count": 1})
    findings = diagnose({"actor/grad_norm": cases.as_points([1, cases.NAN, 1])}, events=[event]).findings()

    assert [f.metric for f in findings] == ["actor/grad_norm"]


def test_event_before_the_first_step_is_kept_for_it():
    diagnosis = Diagnosis()
    diagnosis.extend({}, events=cases.exceptions(1, step=0))
    assert diagnosis.findings() == ()

    raised = diagnosis.add(1, {"actor/lr": 1.0})

    assert [f.rule for f in raised] == ["aborted"]


def test_planned_steps_and_platform_come_from_the_trainer():
    begin = cases.EventRecord(1, None, "train_begin", 0, "trainer", {"total_steps": 1067, "platform": "cpu"})
    metrics = {"actor/perf/cpu_memory_used_gb": [10 + 0.05 * k for k in range(1, 60)], "perf/mfu/actor": [0.01] * 59}
    series = {name: cases.as_points(values) for name, values in metrics.items()}

    diagnosis = diagnose(series, events=[begin], thresholds=cases.NODE)

    assert [f.rule for f in diagnosis.findings()] == ["memory-leak"]
    assert "CPU" in diagnosis.not_applicable()["slowdown"]


def test_configuration_that_leaves_no_evidence_is_told_before_the_first_step():
    trainer = {"test_freq": -1, "save_freq": -1, "rollout_data_dir": None, "validation_data_dir": None}
    findings = diagnose({}, config={"trainer": trainer}).findings()

    assert sorted(f.metric for f in findings) == ["trainer.rollout_data_dir", "trainer.save_freq", "trainer.test_freq"]
    assert "trainer.test_freq=10" in {setting for f in findings for setting in f.settings}
