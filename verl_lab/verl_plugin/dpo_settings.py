"""The settings of direct preference optimisation that verl's own configuration has no place for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf

from verl_lab.errors import InvalidInputError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

LOSSES = ("sigmoid", "ipo")


@dataclass(frozen=True)
class DPOSettings:
    """The group ``dpo`` of a configuration; ``recipes/dpo_settings.yaml`` has the defaults and says what each is for.

    Attributes
    ----------
    beta
        Strength of the pull towards the reference; with ``ipo`` it is the paper's τ.
    loss_type
        ``sigmoid`` or ``ipo``.
    label_smoothing
        Share of the preferences taken to be the wrong way round, below one half; ``sigmoid`` only.
    reference_path
        Folder or hub id of the reference model; None for the model that training starts from.
    prompt_key, chosen_key, rejected_key
        Columns of the data.
    max_prompt_length
        Tokens of a prompt that are kept, counted from its end; None keeps all.
    plain_text
        Whether texts are taken as they are, without a chat template.
    """

    beta: float
    loss_type: str
    label_smoothing: float
    reference_path: str | None
    prompt_key: str
    chosen_key: str
    rejected_key: str
    max_prompt_length: int | None
    plain_text: bool

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise InvalidInputError(f"dpo.beta: {self.beta} is not above 0.", "0.1 is usual.")
        if self.loss_type not in LOSSES:
            raise InvalidInputError(f"dpo.loss_type: there is no {self.loss_type!r}.", f"Set {' or '.join(LOSSES)}.")
        if not 0 <= self.label_smoothing < 0.5:  # noqa: PLR2004  at one half, no preference is left
            raise InvalidInputError(
                f"dpo.label_smoothing: {self.label_smoothing} is no share from 0 to below 0.5.", "0.1 is usual."
            )
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise InvalidInputError(
                f"dpo.label_smoothing: the {self.loss_type} loss has none.", "Set it to 0, or dpo.loss_type=sigmoid."
            )
        if self.max_prompt_length is not None and self.max_prompt_length < 1:
            raise InvalidInputError(
                f"dpo.max_prompt_length: {self.max_prompt_length} keeps no prompt.", "Set it to 1 or more, or to null."
            )

    @classmethod
    def of(cls, config: DictConfig) -> DPOSettings:
        """Read the group ``dpo`` of a configuration over the defaults.

        Raises
        ------
        InvalidInputError
            If a key is unknown, or a value cannot be.
        """
        defaults: dict[str, Any] = yaml.safe_load((files("verl_lab") / "recipes" / "dpo_settings.yaml").read_text())[
            "dpo"
        ]
        given: Any = OmegaConf.to_container(config.get("dpo") or OmegaConf.create(), resolve=True)
        for key in given:
            if key not in defaults:
                raise InvalidInputError(
                    f"dpo.{key}: there is no such setting.", f"The nearest: {', '.join(nearest(key, defaults))}."
                )
        return cls(**{**defaults, **given})
