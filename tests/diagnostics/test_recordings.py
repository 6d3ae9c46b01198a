"""Healthy recordings of real runs: what is said of them, a reader of the curves would say too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.diagnostics import diagnose
from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

# Tiny models with random weights begin with the entropy of a uniform choice; on a CPU utilisation means nothing, which
# the recordings, without their configuration, do not say.
EXPECTED = {
    # The digit-shaping reward rises from 0.07 to 0.50 while the accuracy on held-out sums stays 0.
    "grpo-30-steps": {("entropy-blow-up", 3), ("slowdown", 3), ("reward-hacking", 20)},
    # As above, and the KL to the reference passes 1.0 at step 13 and reaches 1.49.
    "grpo-kl-loss-30-steps": {("entropy-blow-up", 3), ("slowdown", 3), ("kl-explosion", 12), ("reward-hacking", 30)},
    # Entropy 0.32 -> 0.17, score 0.43 -> 0.85, accuracy 0.38 -> 0.89: it learns.
    "grpo-sort-digits-30-steps": {("slowdown", 3)},
    # Explained variance is below zero for five steps only: the critic is learning.
    "ppo-critic-2-ranks": {("entropy-blow-up", 3), ("slowdown", 3)},
    # Two gradient spikes (12.9, 11.0) in a row are not three.
    "sft-60-steps": set(),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_recording_raises_what_its_curves_show_and_nothing_graver_than_a_warning(
    name: str, recorded: Callable[[str], Any]
):
    findings = diagnose(recorded(name)).findings()

    assert {(f.rule, f.first_step) for f in findings} == EXPECTED[name]
    assert max((f.severity for f in findings), default=Severity.INFO) <= Severity.WARNING


@pytest.mark.parametrize("name", EXPECTED)
def test_on_a_cpu_utilisation_is_not_judged(name: str, recorded: Callable[[str], Any]):
    diagnosis = diagnose(recorded(name), config={"trainer": {"device": "cpu"}})

    assert "slowdown" not in {f.rule for f in diagnosis.findings()}


def test_length_limit_reveals_that_the_tiny_model_never_ends_an_answer(recorded: Callable[[str], Any]):
    diagnosis = diagnose(recorded("grpo-30-steps"), config={"data": {"max_response_length": 8}})

    (finding,) = (f for f in diagnosis.findings() if f.rule == "truncation")
    assert finding.severity is Severity.CRITICAL
    assert diagnosis.health().score == 0
