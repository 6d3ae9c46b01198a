"""An estimate of the memory that a run needs on each device, from the model's shape and verl's settings.

It follows what verl's FSDP engine and vLLM keep: weights, gradients and AdamW's two moments, sharded over the GPUs;
what one micro-batch leaves behind for the backward pass; the rollout engine's weights and its cache of keys and
values. It leaves out fragmentation, CUDA's own context and communication buffers, so it is low rather than high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verl_lab.domain.recipe import Problem
from verl_lab.recipes.arithmetic import has_critic, has_reference
from verl_lab.recipes.layers import MODEL_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.recipes.composed import Settings
    from verl_lab.recipes.device import Machine
    from verl_lab.recipes.model_folder import ModelFacts
    from verl_lab.recipes.plan import Plan

GIB = 1 << 30
_BYTES: Mapping[str, int] = {"fp32": 4, "float32": 4, "32": 4}
_ADAMW_STATES = 2
# What a decoder layer keeps for its backward pass, in values for each token and hidden unit: about 34 bytes in 16-bit
# (Korthikanti et al. 2022, "Reducing activation recomputation", equation 1, without the attention matrix).
_KEPT_PER_UNIT = 17
# Logits in the model's precision, in fp32 for the softmax, and their gradient.
_LOGITS_BYTES = 2 + 4 + 4
_NEARLY_FULL = 0.95
_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run needs on one device, in bytes.

    Attributes
    ----------
    training, rollout
        The parts of either phase, by name; on a GPU the two phases take turns, on a CPU they share.
    kept
        What of ``training`` stays on the device through the rollout, in bytes.
    available
        What one device has; None where that is not known.
    where
        What it is needed on: each GPU, or the machine by its name.
    parameters
        Of the model.
    """

    training: Mapping[str, float]
    rollout: Mapping[str, float]
    kept: float
    available: float | None
    where: str
    parameters: int

    @property
    def peak(self) -> float:
        """The larger of the two phases."""
        return max(sum(self.training.values()), self.kept + sum(self.rollout.values()))

    @property
    def least(self) -> float:
        """What no smaller batch can do without: weights, gradients and optimiser."""
        return sum(size for name, size in self.training.items() if name not in ("activations", "logits"))

    def __str__(self) -> str:
        has = "" if self.available is None else f" of {_gib(self.available)}"
        phases = [f"training {_gib(sum(self.training.values()))} ({_listed(self.training)})"]
        if self.rollout:
            phases.append(f"rollout {_gib(self.kept + sum(self.rollout.values()))} ({_listed(self.rollout)})")
        return f"about {_gib(self.peak)}{has} on {self.where}: {'; '.join(phases)}"


def estimate(plan: Plan, settings: Settings, model: ModelFacts | None, machine: Machine) -> MemoryEstimate | None:
    """Return the estimate for a machine; None where the model's shape is not known here."""
    if model is None or not model.parameters:
        return None
    is_ppo, is_cpu = plan.recipe.trainer == "ppo", plan.device == "cpu"
    processes = settings["trainer.n_gpus_per_node"] * settings["trainer.nnodes"]
    engine = f"{_ACTOR}.fsdp_config" if is_ppo else "engine"
    group = int(settings.number(f"{engine}.fsdp_size", -1))
    shards = group if 0 < group <= processes else processes
    training = _states(settings, engine, MODEL_KEY[plan.recipe.trainer].rpartition(".")[0], model, shards)
    kept = _kept(settings, engine, training)
    if is_ppo and has_critic(settings):
        critic = _states(settings, "critic.fsdp", "critic.model", model, shards)
        kept += _kept(settings, "critic.fsdp", critic)
        training |= {"critic": sum(critic.values())}
    has_lora = bool(settings.number(f"{MODEL_KEY[plan.recipe.trainer].rpartition('.')[0]}.lora_rank"))
    # DPO asks its reference before training and keeps only what it said.
    if is_ppo and has_reference(settings) and not has_lora:
        reference = model.parameters * 4 / shards
        training |= {"reference": reference}
        kept += 0 if settings["actor_rollout_ref.ref.fsdp_config.param_offload"] else reference
    training |= _batch(plan, settings, model, is_cpu=is_cpu)
    rollout = _rollout(settings, model, is_cpu=is_cpu) if is_ppo else {}
    available = machine.memory if is_cpu else min(machine.gpu_memories or (), default=None)
    where = machine.name if is_cpu else "each GPU"
    if not is_cpu and rollout and available is not None and settings[f"{_ROLLOUT}.name"] == "vllm":
        rollout = _vllm(settings, rollout, available)
    return MemoryEstimate(training, rollout, kept, available, where, model.parameters)


def memory_problems(plan: Plan, settings: Settings, found: MemoryEstimate | None) -> list[Problem]:
    """Return whether a run clearly needs more than there is."""
    if found is None or found.available is None:
        return []
    key = MODEL_KEY[plan.recipe.trainer]
    model = f"{found.parameters / 1e9:.3g} billion parameters" if found.parameters >= 1e8 else "the model"  # noqa: PLR2004  shown rounded
    need = f"{model}: {found}"
    if found.least > found.available:
        way_out = "Take a smaller model, more GPUs (resources.gpus), or LoRA (lora_rank=32)."
        return [Problem(key, settings[key], f"does not fit (an estimate): {need}.", way_out)]
    trained, sampled = sum(found.training.values()), found.kept + sum(found.rollout.values())
    limit = _NEARLY_FULL * found.available
    if trained > limit:
        batch = _size_key(plan, settings)
        why = f"will hardly fit (an estimate): {need}."
        return [Problem(batch, settings[batch], why, "Make it smaller.", severity="warning")]
    if found.rollout and sampled > limit:
        share = f"{_ROLLOUT}.gpu_memory_utilization"
        why = f"leaves too little beside what training keeps (an estimate): {need}."
        way_out = f"Lower it, or set {_ACTOR}.fsdp_config.param_offload=true and optimizer_offload=true."
        return [Problem(share, settings[share], why, way_out, severity="warning")]
    return []


def _states(settings: Settings, engine: str, model_key: str, model: ModelFacts, shards: int) -> dict[str, float]:
    """Return what the weights and their training take; with LoRA only the adapters are trained."""
    parameters = model.parameters or 0
    size = _BYTES.get(str(settings[f"{engine}.model_dtype"]), 2)
    rank = int(settings.number(f"{model_key}.lora_rank"))
    trained = parameters if rank == 0 else _adapters(model, rank)
    return {
        "weights": (parameters + (trained if rank else 0)) * size / shards,
        "gradients": trained * size / shards,
        "optimiser": _ADAMW_STATES * trained * size / shards,
    }


def _adapters(model: ModelFacts, rank: int) -> int:
    """Return the parameters of adapters on every linear layer: two thin matrices for each of about seven a layer."""
    if not (model.layers and model.hidden):
        return (model.parameters or 0) // 50
    return model.layers * 7 * 2 * rank * 2 * model.hidden


def _kept(settings: Settings, engine: str, states: Mapping[str, float]) -> float:
    """Return what stays on the device while it samples: gradients are freed, the rest only if it is offloaded."""
    weights = 0 if settings[f"{engine}.param_offload"] else states["weights"]
    return weights + (0 if settings[f"{engine}.optimizer_offload"] else states["optimiser"])


def _batch(plan: Plan, settings: Settings, model: ModelFacts, *, is_cpu: bool) -> dict[str, float]:
    """Return what one micro-batch leaves on a device for its backward pass."""
    if not (model.layers and model.hidden and model.vocabulary):
        return {}
    tokens = micro_batch_tokens(plan, settings)
    part = MODEL_KEY[plan.recipe.trainer].rpartition(".")[0]
    width = 4 if is_cpu else 2
    if settings[f"{part}.enable_gradient_checkpointing"]:
        units = model.layers + _KEPT_PER_UNIT  # each layer's input, and one layer worked out anew
    else:
        units = model.layers * _KEPT_PER_UNIT
    fused = settings[f"{part}.use_fused_kernels"] or settings[f"{part}.use_liger"]
    logits = 0 if fused else tokens * model.vocabulary * _LOGITS_BYTES
    return {"activations": tokens * model.hidden * units * width, "logits": logits}


def micro_batch_tokens(plan: Plan, settings: Settings) -> float:
    """Return the most tokens that one device works on at a time."""
    if plan.recipe.trainer == "ppo":
        longest = settings["data.max_prompt_length"] + settings["data.max_response_length"]
        if settings[f"{_ACTOR}.use_dynamic_bsz"]:
            answers = settings[f"{_ACTOR}.ppo_mini_batch_size"] * settings[f"{_ROLLOUT}.n"]
            return min(settings[f"{_ACTOR}.ppo_max_token_len_per_gpu"], answers * longest)
        return settings.number(f"{_ACTOR}.ppo_micro_batch_size_per_gpu", 1) * longest
    longest = settings["data.max_length"] * (2 if plan.recipe.trainer == "dpo" else 1)
    if settings["data.use_dynamic_bsz"]:
        return min(settings["data.max_token_len_per_gpu"], settings["data.train_batch_size"] * longest)
    return settings["data.micro_batch_size_per_gpu"] * longest


def _rollout(settings: Settings, model: ModelFacts, *, is_cpu: bool) -> dict[str, float]:
    """Return what the sampling engine holds: its copy of the weights, and keys and values of the answers at work."""
    size = 4 if is_cpu else _BYTES.get(str(settings[f"{_ROLLOUT}.dtype"]), 2)
    parallel = max(1, int(settings.number(f"{_ROLLOUT}.tensor_model_parallel_size", 1)))
    parts: dict[str, float] = {"engine's weights": (model.parameters or 0) * size / parallel}
    if model.layers and model.kv_heads and model.head_size:
        longest = settings["data.max_prompt_length"] + settings["data.max_response_length"]
        answers = settings["data.train_batch_size"] * settings[f"{_ROLLOUT}.n"]
        at_work = min(settings.number(f"{_ROLLOUT}.max_num_seqs", answers), answers)
        each = 2 * model.layers * model.kv_heads * model.head_size * size / parallel
        parts["keys and values"] = each * longest * at_work
    return parts


def _vllm(settings: Settings, parts: Mapping[str, float], available: float) -> dict[str, float]:
    """Return what vLLM takes: its share of the whole memory, however little it needs of it."""
    share = settings.number(f"{_ROLLOUT}.gpu_memory_utilization", 0.5) * available
    weights = parts["engine's weights"]
    return {"engine's weights": weights, "keys and values": max(0.0, share - weights)}


def _size_key(plan: Plan, settings: Settings) -> str:
    """Return the setting that the size of a micro-batch hangs on."""
    part = f"{_ACTOR}.ppo" if plan.recipe.trainer == "ppo" else "data."
    dynamic = settings[f"{_ACTOR}.use_dynamic_bsz" if plan.recipe.trainer == "ppo" else "data.use_dynamic_bsz"]
    name = "max_token_len_per_gpu" if dynamic else "micro_batch_size_per_gpu"
    return f"{part}_{name}" if plan.recipe.trainer == "ppo" else f"{part}{name}"


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / (1 << 20):.3g} MiB"
