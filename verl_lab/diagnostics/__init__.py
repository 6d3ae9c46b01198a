"""From arrays to findings to a score: pure, the same in the training process and in the kernel.

``diagnose`` judges a whole run; the ``Diagnosis`` it returns can be fed with further steps. Rules
are data (``rules/``): criteria that measure something at each point of a metric and compare it with
bounds. A ``Watch`` applies one rule to one metric, a ``Track`` makes its breaches into episodes.
"""

from __future__ import annotations

from verl_lab.diagnostics.diagnosis import Diagnosis, diagnose
from verl_lab.diagnostics.rules import RULES
from verl_lab.diagnostics.samples import SampleSummary, summarise_samples
from verl_lab.diagnostics.thresholds import resolve_thresholds

__all__ = ["RULES", "Diagnosis", "SampleSummary", "diagnose", "resolve_thresholds", "summarise_samples"]
