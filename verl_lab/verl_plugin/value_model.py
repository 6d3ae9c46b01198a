"""The critic, loaded with the attention that its configuration asks for.

verl 0.9.1 loads a value model with flash attention whatever the configuration says
(verl/utils/model.py, load_valuehead_model), and flash-attn is seldom installed; the rest is verl's.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForTokenClassification
from verl.utils.fsdp_utils import get_init_weight_context_manager
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithValueHead
from verl.workers.engine_workers import TrainingWorker

_FLASH = "flash_attention_2"


class ValueModelEngine(FSDPEngineWithValueHead):
    """verl's engine for a value model, but for how the model is loaded."""

    model_config: Any
    engine_config: Any
    device_mesh: Any

    def _build_module(self) -> Any:
        settings = self.model_config
        attention = settings.override_config.get("attn_implementation", "sdpa")
        if attention == _FLASH:
            return super()._build_module()  # type: ignore[misc]  verl's classes come untyped through a decorator
        dtype = PrecisionType.to_dtype(self.engine_config.model_dtype or "fp32")
        settings.hf_config.num_labels = 1
        # A value is a regression: none of the dropouts a classifier may have.
        settings.hf_config.classifier_dropout = 0.0
        loading: Any = get_init_weight_context_manager(
            use_meta_tensor=not settings.hf_config.tie_word_embeddings, mesh=self.device_mesh
        )
        with loading():
            module = AutoModelForTokenClassification.from_pretrained(
                settings.local_path,
                config=settings.hf_config,
                dtype=dtype,
                attn_implementation=attention,
                trust_remote_code=settings.trust_remote_code,
            )
        module.to(dtype)
        if settings.enable_gradient_checkpointing:
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return module


# verl's own is registered for "cuda" whatever the vendor; the one of a vendor comes first.
EngineRegistry.register(model_type="value_model", backend="fsdp2", device="cuda", vendor="nvidia")(ValueModelEngine)


class CriticWorker(TrainingWorker):
    """verl's worker in a process that knows the engine above."""
