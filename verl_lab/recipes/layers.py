"""The layers of a configuration below a recipe's parameters and the user's overrides.

From weak to strong: what verl-lab needs, what the device needs, what the recipe's fields say. The tokens
``@attempt@``, ``@run@`` and ``@scratch@`` stand for folders that the supervisor fills in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.recipes.overrides import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.domain.recipe import Algorithm, Recipe, Trainer
    from verl_lab.recipes.device import ChosenDevice

MODEL_KEY: Mapping[Trainer, str] = {
    "sft": "model.path",
    "dpo": "model.path",
    "ppo": "actor_rollout_ref.model.path",
}
"""Where each trainer reads which model to start from."""

ESTIMATORS: Mapping[Algorithm, str] = {
    "ppo": "gae",
    "grpo": "grpo",
    "rloo": "rloo",
    "reinforce_plus_plus": "reinforce_plus_plus",
}
"""verl's name of the advantage estimator of each algorithm that learns from rewards."""

TRAIN_KEY, VAL_KEY = "data.train_files", "data.val_files"
REWARD_KEY = "reward.custom_reward_function"

RESERVED: Mapping[str, str] = {
    "model_engine": "verl-lab's recipes train with verl's FSDP engine.",
    "trainer.device": "Set resources.device to cpu, gpu or auto.",
    "trainer.use_v1": "verl-lab's callbacks need verl's V1 trainer.",
    "trainer.v1.trainer_mode": "verl-lab trains in the mode that calls its callbacks.",
}
"""Keys a recipe may not set, with what to do instead: without verl-lab's own value nothing could be watched."""

CPU_ROLLOUT = "verl_lab_hf"

# Left out, verl's engines fall back to bf16, which a CPU computes very slowly.
_FP32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
_CPU_FSDP: dict[str, Any] = {"use_torch_compile": False, "mixed_precision": _FP32}
_CPU_MODEL: dict[str, Any] = {
    "override_config": {"attn_implementation": "sdpa"},
    "use_remove_padding": False,
    "enable_gradient_checkpointing": False,
}
_CPU_CRITIC: dict[str, Any] = {"critic": {"model": _CPU_MODEL, "strategy": "fsdp2", "fsdp": _CPU_FSDP}}
_CPU_ENGINE: dict[str, Any] = {
    "model": _CPU_MODEL,
    "engine": {"strategy": "fsdp2", "model_dtype": "fp32", "dtype": "float32", **_CPU_FSDP},
    "data": {"num_workers": 0},
}
_CPU_SETTINGS: Mapping[Trainer, dict[str, Any]] = {
    "sft": _CPU_ENGINE,
    "dpo": _CPU_ENGINE,
    "ppo": {
        "actor_rollout_ref": {
            "model": _CPU_MODEL,
            "actor": {
                "strategy": "fsdp2",
                "use_torch_compile": False,
                "use_dynamic_bsz": True,
                "fsdp_config": _CPU_FSDP,
            },
            "ref": {"fsdp_config": _CPU_FSDP},
            "rollout": {
                "name": CPU_ROLLOUT,
                "tensor_model_parallel_size": 1,
                "agent": {"num_workers": 1},
                "free_cache_engine": False,
            },
        },
        "data": {"dataloader_num_workers": 0},
        # None of its own: rewards are computed where answers are gathered.
        "reward": {"num_workers": 0},
        "transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": 1}}},
        # Logical resources: verl asks Ray for a "GPU" for each worker whatever the platform.
        "ray_kwargs": {"ray_init": {"num_cpus": 16, "num_gpus": 1, "object_store_memory": 500_000_000}},
    },
}


def base_settings(recipe: Recipe, device: ChosenDevice) -> dict[str, Any]:
    """Return every setting below the recipe's parameters, by verl's key; later layers have won."""
    layers = (_own(recipe), _on_cpu(recipe) if device == "cpu" else _on_gpu(recipe), _fields(recipe))
    return {key: value for layer in layers for key, value in layer.items()}


def has_critic(recipe: Recipe) -> bool:
    """Whether the algorithm trains a critic beside the policy."""
    return recipe.algorithm == "ppo"


def environment(trainer: Trainer, device: ChosenDevice, *, local_model: bool) -> dict[str, str]:
    """Return the environment variables of the training process.

    ``local_model`` says that the model is a folder: nothing then needs the hub.
    """
    found = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "TMPDIR": "@scratch@"}
    if local_model:
        found["HF_HUB_OFFLINE"] = "1"
    if device == "cpu":
        # Two processes with two threads each were ten times slower than with one each.
        found |= {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if trainer != "ppo":
        return found
    found |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # Workers that Ray starts in advance have another environment than verl's, and are never used.
        "RAY_prestart_worker_first_driver": "0",
        # Half a minute or one, which Ray gives, may not be enough on a machine that does much else.
        "RAY_gcs_server_port_wait_time_s": "180",
        "RAY_worker_register_timeout_seconds": "300",
        # Without it Ray replaces the loopback address it was given by the network card's.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    if device == "cpu":
        found |= {
            "TQ_NUM_THREADS": "2",
            "TQ_CLIENT_ZMQ_IO_THREADS": "2",
            # A file that no attempt before has used, as torch's rendezvous demands.
            "DIST_INIT_METHOD": "file://@scratch@/process-group",
        }
    return found


def _own(recipe: Recipe) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "trainer.logger": ["console"],
        "trainer.project_name": "verl-lab",
        "trainer.experiment_name": recipe.name,
        "trainer.nnodes": 1,
        "trainer.default_local_dir": "@run@/checkpoints",
        "trainer.resume_mode": "auto",
    }
    if recipe.trainer != "ppo":
        return settings
    if has_critic(recipe):
        # Otherwise verl looks for a model in its author's home.
        settings["critic.model.path"] = "${actor_rollout_ref.model.path}"
    return settings | {
        "trainer.use_v1": True,
        "trainer.v1.trainer_mode": "verl_lab_sync",
        "trainer.rollout_data_dir": "@attempt@/samples/rollout",
        "trainer.validation_data_dir": "@attempt@/samples/validation",
        "algorithm.adv_estimator": ESTIMATORS[recipe.algorithm],
        "ray_kwargs.ray_init.address": "local",
        "ray_kwargs.ray_init.include_dashboard": False,
        "ray_kwargs.ray_init._node_ip_address": "127.0.0.1",
        # Ray puts Unix sockets there, whose paths end at 107 bytes.
        "ray_kwargs.ray_init._temp_dir": "@scratch@/ray",
    }


def _on_gpu(recipe: Recipe) -> dict[str, Any]:
    """Return verl's own platform and rollout, without what needs flash-attn, which is seldom installed."""
    shared: dict[str, Any] = {"trainer.device": "cuda", "trainer.n_gpus_per_node": recipe.resources.gpus}
    model = {"override_config": {"attn_implementation": "sdpa"}, "use_remove_padding": False}
    if recipe.trainer != "ppo":
        return shared | dict(flatten({"model": model, "engine": {"strategy": "fsdp2"}}))
    parts = {"model": model, "actor": {"strategy": "fsdp2"}, "rollout": {"name": "vllm"}}
    critic = {"critic": {"model": model, "strategy": "fsdp2"}} if has_critic(recipe) else {}
    return shared | dict(flatten({"actor_rollout_ref": parts} | critic))


def _on_cpu(recipe: Recipe) -> dict[str, Any]:
    """Return what verl needs to train without a GPU: one process, fp32, no compiled or flash kernels."""
    shared: dict[str, Any] = {"trainer.device": "cpu", "trainer.n_gpus_per_node": 1}
    critic = _CPU_CRITIC if has_critic(recipe) else {}
    return shared | dict(flatten(_CPU_SETTINGS[recipe.trainer] | critic))


def _fields(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's fields under verl's keys."""
    fields: dict[str, Any] = {
        MODEL_KEY[recipe.trainer]: recipe.model,
        TRAIN_KEY: recipe.data.train,
        VAL_KEY: recipe.data.val,
    }
    if recipe.reward is not None:
        fields |= {f"{REWARD_KEY}.path": recipe.reward.path, f"{REWARD_KEY}.name": recipe.reward.name}
    return {key: value for key, value in fields.items() if value is not None}
