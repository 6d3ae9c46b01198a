"""The guest inside verl's process: what makes a verl training a verl-lab run.

``entry`` is what verl loads (entry point ``verl.plugins``); ``train_ppo`` and ``train_sft`` are the
commands that train. This package itself imports neither verl nor torch, so that a user's callback
module, and the reader of a recipe, can name ``TrainerCallback`` anywhere.
"""

from __future__ import annotations

from verl_lab.verl_plugin.callbacks import TrainerCallback

__all__ = ["TrainerCallback"]
