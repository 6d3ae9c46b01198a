"""``python -m verl_lab.verl_plugin.train_ppo <hydra overrides>``: PPO, GRPO and their family."""

from __future__ import annotations

from typing import Any

import hydra

from verl_lab.verl_plugin.importing import importing
from verl_lab.verl_plugin.launch import Launch, reporting_failure

_launch = Launch()


@hydra.main(config_path="pkg://verl.trainer.config", config_name="ppo_trainer", version_base=None)
def _train(config: Any) -> None:
    with reporting_failure(_launch.fail):
        with importing():
            import ray
            from verl.trainer.main_ppo import run_ppo
            from verl.trainer.ppo.utils import need_critic, need_reference_policy
            from verl.utils.config import validate_config
            from verl.utils.device import auto_set_device

            from verl_lab.verl_plugin.task_runner import TaskRunner

        auto_set_device(config)
        validate_config(
            config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
        )
        _launch.enter("starting ray")
        run_ppo(config, task_runner_class=ray.remote(TaskRunner))


def main() -> None:
    """Load verl and train."""
    with reporting_failure(_launch.fail):
        _launch.load_verl()
    _train()


if __name__ == "__main__":
    main()
