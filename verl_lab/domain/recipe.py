"""A recipe: what to train, on which data, with which of verl's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

Algorithm = Literal["sft", "dpo", "ppo", "grpo", "rloo", "reinforce_plus_plus"]
Trainer = Literal["sft", "dpo", "ppo"]
Device = Literal["auto", "cpu", "gpu"]
OnCritical = Literal["stop", "mark", "ignore"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_WEB_ADDRESS = re.compile(r"https?://[^\s/?#]+\S*")
_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

Files = str | list[str] | None

TRAINERS: Mapping[Algorithm, Trainer] = {
    "sft": "sft",
    "dpo": "dpo",
    "ppo": "ppo",
    "grpo": "ppo",
    "rloo": "ppo",
    "reinforce_plus_plus": "ppo",
}
"""Which trainer runs an algorithm, and so which tree of settings it has."""


class _Part(BaseModel):
    """Settings of every part: unknown fields are mistakes, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFiles(_Part):
    """The files to train and to validate on; several are concatenated."""

    train: Files = None
    val: Files = None


class Reward(_Part):
    """The function that scores an answer, in a Python file.

    Attributes
    ----------
    path
        The file; verl imports it in its reward workers.
    name
        The function in it, called as ``name(data_source, solution_str, ground_truth, extra_info)``.
    """

    path: str
    name: str = "compute_score"


class Resources(_Part):
    """What the run may use: the kind of device, and how many GPUs of one machine."""

    device: Device = "auto"
    gpus: Annotated[int, Field(ge=1)] = 1


class Checks(_Part):
    """How the run is judged while it trains, and what follows.

    Attributes
    ----------
    on_critical
        What a critical finding does. ``mark``: the run counts as failed, with the finding as its
        reason. ``stop``: that, and it is ended after a checkpoint. ``ignore``: it is only recorded.
    thresholds
        Changes to the rules' parameters, by rule id: ``{kl-explosion: {threshold: 2.0}}``; a rule is
        switched off by ``{enabled: false}``.
    """

    on_critical: OnCritical = "mark"
    thresholds: dict[str, Any] = Field(default_factory=dict[str, Any])


class Alerts(_Part):
    """Who is told of findings of severity ``error`` and ``critical``, from the process that trains.

    Attributes
    ----------
    command
        A program and its arguments; it gets the finding as JSON on its standard input. No shell.
    webhook
        An http(s) address to post the same JSON to. It may hold a token, so it is never shown.
    """

    command: tuple[str, ...] = ()
    webhook: SecretStr | None = None

    @field_validator("command")
    @classmethod
    def _a_program(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and not command[0]:
            raise ValueError("its first item names the program, and must not be empty")
        if any("\0" in item for item in command):
            raise ValueError("no command can hold a null character")
        return command

    @field_validator("webhook")
    @classmethod
    def _web_address(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook is not None and not _WEB_ADDRESS.fullmatch(webhook.get_secret_value()):
            raise ValueError("it is no http:// or https:// address")
        return webhook


class Recipe(_Part):
    """What to train and how, ready to be turned into verl's configuration.

    Attributes
    ----------
    name
        The recipe's file name without its suffix.
    algorithm
        ``sft`` (supervised fine-tuning), ``dpo`` (direct preference optimisation), or one that learns
        from rewards: ``ppo`` (with a critic), ``grpo``, ``rloo``, ``reinforce_plus_plus``.
    model
        A folder in Hugging Face's layout, or the id of a model on the hub.
    callbacks
        Dotted names of ``TrainerCallback`` classes to run beside verl-lab's own.
    parameters
        verl's own keys, nested or dotted, with the values that differ from verl's defaults.
    checks
        How the run is judged while it trains.
    alerts
        Who is told when something is badly wrong.
    notes
        What someone who starts it should know first.
    extends
        The recipe this one was made from; its values are already part of this one.
    """

    name: Annotated[str, Field(pattern=_NAME, max_length=64)]
    version: int | str = 1
    algorithm: Algorithm
    description: str = ""
    model: str | None = None
    data: DataFiles = DataFiles()
    reward: Reward | None = None
    callbacks: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    resources: Resources = Resources()
    checks: Checks = Checks()
    alerts: Alerts = Alerts()
    notes: str = ""
    extends: str | None = None

    @property
    def trainer(self) -> Trainer:
        """The trainer that runs the algorithm: all that learn from rewards share verl's ``ppo``."""
        return TRAINERS[self.algorithm]

    @field_validator("callbacks")
    @classmethod
    def _dotted(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _DOTTED_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no dotted name of a class, like 'package.module.Class'")
        return names


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a recipe and its overrides, found before launch.

    Attributes
    ----------
    key
        The field or verl key it is about.
    value
        What was given there; None where nothing was.
    message
        Why that will not do.
    suggestion
        What would, if there is something to say.
    severity
        ``error`` refuses the launch; ``warning`` is only told.
    """

    key: str
    value: Any
    message: str
    suggestion: str | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        text = f"{self.key}: {self.message}"
        return f"{text} {self.suggestion}" if self.suggestion else text
