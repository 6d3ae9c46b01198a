"""Which engine verl takes for a critic; how one trains on a CPU is seen in tests/training."""

from __future__ import annotations

import os
import subprocess
import sys

LOOK = """
from verl_lab.verl_plugin.value_model import CriticWorker, ValueModelEngine
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine_workers import TrainingWorker

assert EngineRegistry.get_engine_cls("value_model", "fsdp2") is ValueModelEngine
assert EngineRegistry.get_engine_cls("value_model", "fsdp") is not ValueModelEngine
assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is not ValueModelEngine
assert issubclass(CriticWorker, TrainingWorker)
"""


def test_critic_on_nvidia_is_loaded_as_configured_and_the_rest_is_verls() -> None:
    there = {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda", "VERL_ENGINE_VENDOR": "nvidia"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=os.environ | there, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
