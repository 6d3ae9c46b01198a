"""LoRA: the trained model with its adapters merged in, as transformers loads it.

verl 0.9.1 writes a model with adapters under the names they have inside peft (``base_model.model…``,
verl/utils/checkpoint/fsdp_checkpoint_manager.py), of which transformers knows none: it would load
random weights, with no more than a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from omegaconf import open_dict
from peft.tuners.lora import LoraLayer
from verl.utils.device import get_device_id
from verl.utils.fsdp_utils import normalize_peft_param_name
from verl.utils.model import get_hf_auto_model_class
from verl.utils.transformers_compat import drop_tied_target_keys

from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

_HF_MODEL = "hf_model"


def take_over_hf_model(config: Any) -> bool:
    """Return whether to write merged models, and then ask verl for its own no longer.

    Parameters
    ----------
    config
        verl's ``sft_trainer_engine`` configuration; ``checkpoint.save_contents`` may be changed.
    """
    model, checkpoint = config.model, config.checkpoint
    has_adapters = (model.lora_rank or 0) > 0 or model.lora_adapter_path is not None
    if not has_adapters or _HF_MODEL not in checkpoint.save_contents:
        return False
    with open_dict(config):
        checkpoint.save_contents = [part for part in checkpoint.save_contents if part != _HF_MODEL]
    return True


def save_merged(module: Any, folder: Path, *, is_writer: bool) -> None:
    """Write the weights of a peft model with its adapters merged in; all ranks take part.

    Parameters
    ----------
    module
        The model inside verl's engine; it is left as it is.
    folder
        Where configuration and tokenizer lie already.
    is_writer
        Whether this rank is the one that writes.

    Raises
    ------
    InvalidInputError
        If an adapter is on something else than a linear layer.
    """
    merged = normalize_peft_param_name(_merged(module, keep=is_writer))
    if not is_writer:
        return
    config = module.config
    model_class: Any = get_hf_auto_model_class(config)
    with init_empty_weights():
        shell = model_class.from_config(config)
    drop_tied_target_keys(merged, shell, config)
    shell.save_pretrained(folder, state_dict=merged)


def _merged(module: Any, *, keep: bool) -> dict[str, torch.Tensor]:
    """Return the model's tensors, those under an adapter with it added; empty where they are not kept."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in module.state_dict().items():
        whole = _whole(tensor)
        if keep:
            found[name] = whole.cpu()
    for name, layer in module.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        for adapter in layer.active_adapters:
            if adapter not in layer.lora_A:
                raise InvalidInputError(
                    f"model.target_modules: the adapter of {name} cannot be merged; it is on no linear layer.",
                    "Leave hf_model out of checkpoint.save_contents, or the layer out of model.target_modules.",
                )
            delta = _delta(layer, adapter)
            if keep:
                found[f"{name}.base_layer.weight"] += delta.cpu()
    return found


def _delta(layer: Any, adapter: str) -> torch.Tensor:
    """Return what an adapter adds to its layer: ``scaling * B @ A`` (arXiv:2106.09685, equation 3)."""
    with torch.no_grad():
        delta = layer.scaling[adapter] * (_whole(layer.lora_B[adapter].weight) @ _whole(layer.lora_A[adapter].weight))
    return delta.T if getattr(layer, "fan_in_fan_out", False) else delta


def _whole(tensor: Any) -> torch.Tensor:
    """Return a whole tensor of which each rank may hold a part, which may lie in the machine's memory."""
    held = tensor.detach()
    return held.to(get_device_id()).full_tensor() if hasattr(held, "full_tensor") else held
