"""Every rule, in the order in which they are listed."""

from __future__ import annotations

from verl_lab.diagnostics.rules import job, loss, policy, reward, rollout, throughput

RULES = (*loss.RULES, *policy.RULES, *reward.RULES, *rollout.RULES, *throughput.RULES, *job.RULES)
