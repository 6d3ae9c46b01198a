"""A plan to be read before it is launched: what would run, how it is divided up, what it needs, what is watched."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verl_lab.lab.launching.coverage import Coverage, coverage
from verl_lab.lab.table import Table
from verl_lab.recipes.arithmetic import has_critic

if TYPE_CHECKING:
    from verl_lab.recipes.composed import Settings
    from verl_lab.recipes.render import Rendered

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@dataclass(frozen=True)
class PlanReport:
    """What a dry run shows.

    Attributes
    ----------
    title
        What was planned.
    facts
        Name and text of what there is to know: steps, batches, memory, checkpoints, rules.
    warnings
        Key, why, and what would be better.
    coverage
        The diagnosis rules that will have data.
    command
        What would be started.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str, str], ...]
    coverage: Coverage
    command: str

    @classmethod
    def of(cls, title: str, rendered: Rendered) -> PlanReport:
        """Describe what was rendered."""
        found = coverage(rendered)
        settings = rendered.checked.settings
        facts = () if settings is None else tuple(_facts(rendered, settings, found))
        warnings = tuple((w.key, w.message, w.suggestion or "") for w in rendered.warnings)
        return cls(title, facts, warnings, found, rendered.command)

    def __repr__(self) -> str:
        width = max((len(name) for name, _ in self.facts), default=0)
        lines = [self.title, "", *(f"{name.ljust(width)}  {text}" for name, text in self.facts)]
        if self.warnings:
            lines += ["", "Warnings:", *(f"  - {key}: {why} {fix}".rstrip() for key, why, fix in self.warnings)]
        if self.coverage.missing:
            lines += ["", "Rules without data, and what gives them some:"]
            lines += [f"  - {rule}: {why}; {switch}" for rule, why, switch in self._uncovered()]
        return "\n".join([*lines, "", "Command:", self.command])

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.title)}</b></p>", Table(("plan", ""), self.facts, "").to_html()]
        if self.warnings:
            parts.append(Table(("warning", "why", "instead"), self.warnings, "").to_html())
        if self.coverage.missing:
            headings = ("rule without data", "because", "what gives it some")
            parts.append(Table(headings, tuple(self._uncovered()), "").to_html())
        command = f'<pre style="white-space:pre-wrap">{html.escape(self.command)}</pre>'
        return "".join([*parts, f"<details><summary>Command</summary>{command}</details>"])

    def _uncovered(self) -> list[tuple[str, str, str]]:
        return [(rule, why, self.coverage.switches[rule]) for rule, why in sorted(self.coverage.missing.items())]


def _facts(rendered: Rendered, settings: Settings, found: Coverage) -> list[tuple[str, str]]:
    checked, trainer = rendered.checked, rendered.recipe.trainer
    facts = [
        ("trains", f"{rendered.algorithm} on {settings['trainer.n_gpus_per_node']} {_device(rendered)}"),
        ("steps", _steps(rendered, settings)),
        ("each step", _ppo_step(settings) if trainer == "ppo" else _sft_step(settings, is_pairs=trainer == "dpo")),
        ("memory", str(checked.memory) if checked.memory else "not estimated: the model's shape is not known here"),
        ("checkpoints", _often(settings["trainer.save_freq"], "none on the way")),
        ("validation", _often(settings["trainer.test_freq"], "never")),
        ("diagnosis", str(found)),
    ]
    if trainer != "ppo" and settings["data.val_files"] is None:
        facts[5] = ("validation", "never: no data.val is given")
    return facts


def _device(rendered: Rendered) -> str:
    return "CPU process" if rendered.device == "cpu" else f"GPU{'s' if rendered.recipe.resources.gpus > 1 else ''}"


def _steps(rendered: Rendered, settings: Settings) -> str:
    rows, batch = rendered.checked.rows["train"], settings["data.train_batch_size"]
    epochs = settings["trainer.total_epochs"]
    source = "" if rows is None else f" ({rows} rows, batches of {batch}, at most {epochs} epoch{'s'[: epochs > 1]})"
    if rendered.total_steps is None:
        return f"known when verl has counted the rows{source}"
    return f"{rendered.total_steps}{source}"


def _ppo_step(settings: Settings) -> str:
    batch, answers = settings["data.train_batch_size"], settings[f"{_ROLLOUT}.n"]
    parts = [f"{batch} prompts x {answers} answers = {batch * answers}", _updates(settings, _ACTOR, "the policy")]
    if has_critic(settings):
        parts.append(_updates(settings, "critic", "the critic"))
    return "; ".join(parts)


def _updates(settings: Settings, part: str, what: str) -> str:
    mini, epochs = settings[f"{part}.ppo_mini_batch_size"], settings[f"{part}.ppo_epochs"]
    count = -(-settings["data.train_batch_size"] // mini) * epochs
    dynamic = settings[f"{part}.use_dynamic_bsz"]
    name = "ppo_max_token_len_per_gpu" if dynamic else "ppo_micro_batch_size_per_gpu"
    size = f"{settings[f'{part}.{name}']} {'tokens' if dynamic else 'answers'} at a time"
    return f"{count} update{'s' if count > 1 else ''} of {what} on {mini} prompts, {size}"


def _sft_step(settings: Settings, *, is_pairs: bool) -> str:
    what = "pairs" if is_pairs else "rows"
    dynamic = settings["data.use_dynamic_bsz"]
    name = "max_token_len_per_gpu" if dynamic else "micro_batch_size_per_gpu"
    size = f"{settings[f'data.{name}']} {'tokens' if dynamic else what}"
    return f"{settings['data.train_batch_size']} {what}, {size} at a time"


def _often(frequency: Any, never: str) -> str:
    if isinstance(frequency, str):
        return frequency.replace("_", " ")
    return f"every {frequency} steps, and at the end" if frequency > 0 else f"at the end; {never}"
