"""FSDP2 engines for the CPU: an actor with a language-model head and a critic with a value head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from verl_lab.verl_plugin.value_model import ValueModelEngine


class _WithoutOffload:
    """Keeps a model where it is: offloading to the CPU needs pinned memory, hence an accelerator."""

    engine_config: Any

    def _build_fsdp_module(self, module: Any) -> Any:
        configured = self.engine_config
        # verl forces the offload on whatever only runs forward, such as the reference model.
        self.engine_config = replace(configured, forward_only=False, offload_policy=False)
        try:
            return super()._build_fsdp_module(module)  # type: ignore[misc]
        finally:
            self.engine_config = configured


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
class CPUEngineWithLMHead(_WithoutOffload, FSDPEngineWithLMHead):
    """Actor, reference model and SFT."""


@EngineRegistry.register(model_type="value_model", backend="fsdp2", device="cpu")
class CPUEngineWithValueHead(_WithoutOffload, ValueModelEngine):
    """Critic."""
