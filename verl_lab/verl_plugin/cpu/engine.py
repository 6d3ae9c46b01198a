"""FSDP2 engines for the CPU: an actor with a language-model head and a critic with a value head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import AutoModelForTokenClassification
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead


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
class CPUEngineWithValueHead(_WithoutOffload, FSDPEngineWithValueHead):
    """Critic."""

    def _build_module(self) -> Any:
        # verl.utils.model.load_valuehead_model asks for flash attention, whatever the configuration says.
        model: Any = self.model_config  # type: ignore[attr-defined]
        model.hf_config.num_labels = 1
        model.hf_config.classifier_dropout = 0.0
        module = AutoModelForTokenClassification.from_pretrained(
            model.local_path,
            config=model.hf_config,
            dtype=PrecisionType.to_dtype(self.engine_config.model_dtype or "fp32"),
            attn_implementation=model.override_config.get("attn_implementation", "sdpa"),
            trust_remote_code=model.trust_remote_code,
        )
        if model.enable_gradient_checkpointing:
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return module
