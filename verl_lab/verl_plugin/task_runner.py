"""The Ray actor that trains: verl's own, in a process that knows our trainers."""

from __future__ import annotations

import importlib
from typing import Any, cast

from verl.trainer.main_ppo import TaskRunnerV1

from verl_lab.verl_plugin.importing import importing
from verl_lab.verl_plugin.session import TrainingSession

# Ray has made an actor of verl's class; a subclass needs the class itself, as verl's own workers do
# (verl/single_controller/ray/base.py, _unwrap_ray_remote).
_VerlTaskRunner = cast("Any", TaskRunnerV1).__ray_actor_class__


class TaskRunner(_VerlTaskRunner):
    """Registers the trainer mode, and reports an error from before the trainer could."""

    def run(self, config: Any) -> None:
        session = TrainingSession.current()
        try:
            # Registers the mode "verl_lab_sync" in the process that looks it up.
            with importing():
                importlib.import_module("verl_lab.verl_plugin.ppo")
            super().run(config)
        except Exception as error:
            session.fail(error)
            raise
