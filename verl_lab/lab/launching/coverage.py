"""Which diagnosis rules a run will have data for, known before it starts, and what would switch on the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from verl_lab.diagnostics import RULES, Diagnosis, SampleSummary
from verl_lab.recipes.advice import When
from verl_lab.recipes.arithmetic import has_critic
from verl_lab.recipes.memory import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verl_lab.domain.recipe import Trainer
    from verl_lab.recipes.composed import Settings
    from verl_lab.recipes.render import Rendered

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
_JUDGED_AT_THE_END = "early-end"  # it has data once the run has ended, as every run does


@dataclass(frozen=True)
class Logged:
    """Metrics that a trainer logs when all of some conditions on the settings hold.

    Attributes
    ----------
    switch
        What makes the conditions hold; empty where they are the user's choice of algorithm.
    """

    trainers: tuple[Trainer, ...]
    metrics: tuple[str, ...]
    when: tuple[When, ...] = ()
    switch: str = ""


_MEMORY = ("perf/cpu_memory_used_gb", "perf/max_memory_reserved_gb")

# verl/trainer/sft_trainer.py and verl/trainer/ppo/v1/trainer_base.py, and the recordings among the tests.
LOGGED: tuple[Logged, ...] = (
    Logged(("sft", "dpo"), ("train/loss", "train/grad_norm", "train/lr", "train/mfu", "train/global_tokens", *_MEMORY)),
    Logged(("dpo",), ("rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")),
    Logged(
        ("sft", "dpo"),
        ("val/loss",),
        (When("trainer.test_freq", "!=", -1), When("data.val_files", "!=", None)),
        "trainer.test_freq=50, with data.val",
    ),
    Logged(
        ("ppo",),
        (
            *("actor/entropy", "actor/pg_loss", "actor/ppo_kl", "actor/pg_clipfrac", "actor/grad_norm", "actor/lr"),
            *("critic/score/mean", "critic/score/min", "critic/score/max", "critic/rewards/mean"),
            *("response_length/max", "response_length/mean", "response_length/clip_ratio", "response/aborted_ratio"),
            *("perf/throughput", "perf/mfu/actor", "perf/time_per_step", "training/global_step"),
            *("training/off_policy/trajectory_staleness/max", "training/off_policy/trajectory_staleness_worst/max"),
            *(f"actor/{name}" for name in _MEMORY),
        ),
    ),
    Logged(
        ("ppo",),
        ("actor/kl_loss", "actor/kl_coef"),
        (When(f"{_ACTOR}.use_kl_loss", "==", True),),  # noqa: FBT003  a value to compare with
        f"{_ACTOR}.use_kl_loss=true",
    ),
    Logged(
        ("ppo",),
        ("actor/reward_kl_penalty",),
        (When("algorithm.use_kl_in_reward", "==", True),),  # noqa: FBT003  as above
    ),
    Logged(
        ("ppo",),
        ("val-core/accuracy/acc/mean@1",),
        (When("trainer.test_freq", ">", 0),),
        "trainer.test_freq=10",
    ),
    Logged(
        ("ppo",),
        (
            *("training/rollout_probs_diff_mean", "training/rollout_actor_probs_pearson_corr"),
            *("rollout_corr/kl", "rollout_corr/k3_kl", "rollout_corr/chi2_token"),
        ),
        (When(f"{_ROLLOUT}.calculate_log_probs", "==", True),),  # noqa: FBT003  as above
        f"{_ROLLOUT}.calculate_log_probs=true",
    ),
    Logged(
        ("ppo",),
        tuple(f"rollout_corr/rollout_is_{name}" for name in ("mean", "std", "eff_sample_size")),
        (When("algorithm.rollout_correction.rollout_is", "!=", None),),
        "algorithm.rollout_correction.rollout_is=token",
    ),
    Logged(
        ("ppo",),
        ("training/filter_groups/evicted_samples",),
        (When("algorithm.filter_groups.enable", "==", True),),  # noqa: FBT003  as above
        "algorithm.filter_groups.enable=true",
    ),
    Logged(("ppo",), ("agent_loop/num_preempted/mean",), (When(f"{_ROLLOUT}.name", "==", "vllm"),)),
)
_CRITIC = ("critic/vf_explained_var", "critic/vf_loss", "critic/grad_norm", "perf/mfu/critic")
_SAMPLES = When("trainer.rollout_data_dir", "!=", None)
_SAMPLES_SWITCH = "trainer.rollout_data_dir=@attempt@/samples/rollout"


@dataclass(frozen=True)
class Coverage:
    """The rules that a run will have data for, and why not the others.

    Attributes
    ----------
    judged
        Ids of the rules that will have data.
    missing
        By rule that a setting would give data: why it has none.
    switches
        By the same rules: that setting.
    elsewhere
        Why the rules have none that are about another algorithm or device.
    """

    judged: tuple[str, ...]
    missing: Mapping[str, str]
    switches: Mapping[str, str]
    elsewhere: Mapping[str, str]

    def __str__(self) -> str:
        besides = f" ({len(self.elsewhere)} are about other algorithms or devices)" if self.elsewhere else ""
        return f"{len(self.judged)} of {len(self.judged) + len(self.missing)} rules will have data{besides}"


def coverage(rendered: Rendered) -> Coverage:
    """Return which rules a run will have data for, by asking the rules about what the trainer will log."""
    settings = rendered.checked.settings
    if settings is None:
        return Coverage((), {}, {}, {})
    config: dict[str, Any] = yaml.safe_load(rendered.config_yaml)
    trainer = rendered.recipe.trainer
    diagnosis = Diagnosis(config=config, thresholds=rendered.recipe.checks.thresholds)
    samples = None
    if trainer == "ppo" and _SAMPLES.holds(settings):
        groups = 0.0 if settings.number(f"{_ROLLOUT}.n") > 1 else None
        samples = SampleSummary(1, 1, dead_groups=groups, solved_groups=groups, truncated=0.0, empty=0.0)
    diagnosis.add(1, dict.fromkeys(_metrics(trainer, settings), 1.0), time=0.0, samples=samples)
    diagnosis.tick(0.0)
    silent = diagnosis.not_applicable()
    silent.pop(_JUDGED_AT_THE_END, None)
    memory = rendered.checked.machine.memory
    switches = {rule: switch for rule in silent if (switch := _switch(rule, trainer, settings, memory))}
    return Coverage(
        judged=tuple(rule.id for rule in RULES if rule.id not in silent),
        missing={rule: why for rule, why in silent.items() if rule in switches},
        switches=switches,
        elsewhere={rule: why for rule, why in silent.items() if rule not in switches},
    )


def _metrics(trainer: Trainer, settings: Settings) -> Iterator[str]:
    for logged in LOGGED:
        if trainer in logged.trainers and all(condition.holds(settings) for condition in logged.when):
            yield from logged.metrics
    if trainer == "ppo" and has_critic(settings):
        yield from _CRITIC


def _switch(rule_id: str, trainer: Trainer, settings: Settings, memory: int | None) -> str | None:
    """Return the setting that would log what a rule looks at; ``memory`` is the machine's, in bytes."""
    if rule_id == "memory-leak":  # what it misses is no metric
        size = "N" if memory is None else f"{memory / GIB:.0f}"
        return f"checks.thresholds: {{memory-leak: {{node_memory_gb: {size}}}}}"
    rule = next(rule for rule in RULES if rule.id == rule_id)
    for logged in LOGGED:
        if trainer not in logged.trainers or not logged.switch:
            continue
        is_on = all(condition.holds(settings) for condition in logged.when)
        if not is_on and any(criterion.applies_to(m) for criterion in rule.criteria for m in logged.metrics):
            return logged.switch
    samples = ("samples/dead_groups", "samples/truncated")
    wants_samples = any(criterion.applies_to(name) for criterion in rule.criteria for name in samples)
    return _SAMPLES_SWITCH if trainer == "ppo" and wants_samples and not _SAMPLES.holds(settings) else None
