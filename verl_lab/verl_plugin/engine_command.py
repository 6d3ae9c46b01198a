"""What the commands have in common that train on verl's engine without Ray: one process a rank, a trainer each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import hydra

from verl_lab.verl_plugin.importing import importing
from verl_lab.verl_plugin.launch import Launch, reporting_failure
from verl_lab.verl_plugin.process_group import joined_process_group

if TYPE_CHECKING:
    from collections.abc import Callable


def run(load_trainer: Callable[[], Callable[[Any, Any], Any]]) -> None:
    """Load verl, read the configuration from the command line, and train.

    Parameters
    ----------
    load_trainer
        Imports the trainer's class, which takes the configuration and a session: verl has to be loaded first.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    launch = Launch(is_reporting=is_first)

    @hydra.main(config_path="pkg://verl.trainer.config", config_name="sft_trainer_engine", version_base=None)
    def train(config: Any) -> None:
        from verl_lab.verl_plugin.session import TrainingSession

        session = TrainingSession.current() if is_first else TrainingSession(None)
        with reporting_failure(session.fail), joined_process_group():
            with importing():
                from verl.utils.device import auto_set_device

                trainer = load_trainer()
            auto_set_device(config)
            trainer(config, session).fit()

    with reporting_failure(launch.fail):
        launch.load_verl()
    train()
