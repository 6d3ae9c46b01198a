"""A recipe: what to train, on which data, with which of verl's settings."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Self

Algorithm = Literal["sft", "dpo", "ppo", "grpo", "rloo", "reinforce_plus_plus"]
Trainer = Literal["sft", "dpo", "ppo"]
Device = Literal["auto", "cpu", "gpu"]
OnCritical = Literal["stop", "mark", "ignore"]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a recipe may be called; the name is also that of its file."""
LONGEST_NAME = 64

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
    """The files to train and to validate on; several are concatenated.

    Attributes
    ----------
    snapshot
        Whether a launch copies them first, so that a run trains on what they are now whatever becomes of them.
    """

    train: Files = None
    val: Files = None
    snapshot: bool = True


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


class Expectation(_Part):
    """What a metric should come to, as whoever wrote the recipe saw it; shown beside what it came to.

    Attributes
    ----------
    min, max
        Bounds of the value, both included.
    direction
        Whether it should rise or fall over the run.
    at_step
        The step at which the bounds hold; by default the last one.
    """

    min: float | None = None
    max: float | None = None
    direction: Literal["up", "down"] | None = None
    at_step: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.min is None and self.max is None and self.direction is None:
            raise ValueError("give min, max or direction")
        if any(bound is not None and not math.isfinite(bound) for bound in (self.min, self.max)):
            raise ValueError("min and max are finite numbers")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is larger than max")
        return self


@dataclass(frozen=True)
class Origin:
    """Where a recipe was read from: a file, and the version (SHA-256) of the text it then held."""

    file: Path
    version: str


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
    expected
        What metrics should come to, by name.
    notes
        What someone who starts it should know first.
    extends
        The recipe this one was made from; its values are already part of this one.
    """

    name: Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME)]
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
    expected: dict[str, Expectation] = Field(default_factory=dict[str, Expectation])
    notes: str = ""
    extends: str | None = None
    _origin: Origin | None = PrivateAttr(default=None)

    def __eq__(self, other: object) -> bool:
        # Where it was read from is no part of what it says.
        return isinstance(other, Recipe) and self.__dict__ == other.__dict__

    __hash__ = None  # pyright: ignore[reportAssignmentType]  it holds dictionaries

    @property
    def origin(self) -> Origin | None:
        """Where it was read from; a copy with other values keeps it. None for one made in Python."""
        return self._origin

    def read_from(self, origin: Origin) -> Recipe:
        """Return the same recipe, with where it was read from."""
        found = self.model_copy()
        found._origin = origin  # noqa: SLF001  of its own class
        return found

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
