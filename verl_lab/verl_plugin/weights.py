"""Whether a model is worth saving."""

from __future__ import annotations

from typing import Any

import torch


def weights_are_finite(module: torch.nn.Module) -> bool:
    """Return whether every weight that this process holds is finite."""
    for parameter in module.parameters():
        weights: Any = parameter.detach()
        if hasattr(weights, "to_local"):  # the part that this rank holds of a sharded one
            weights = weights.to_local()
        if not bool(torch.isfinite(weights).all()):
            return False
    return True


def worker_weights_are_finite(worker: Any) -> bool:
    """Return the same of the models that train inside one of verl's workers, called in its process.

    Workers that share a process lie in ``worker_dict`` (verl/single_controller/ray/base.py,
    create_colocated_worker_cls); an actor's engine is its ``actor``'s (verl/workers/engine_workers.py).
    """
    for one in getattr(worker, "worker_dict", {"": worker}).values():
        training = getattr(one, "actor", None) or one
        engine = getattr(training, "engine", None)
        module = getattr(engine, "module", None)
        for part in module if isinstance(module, list) else [module]:  # Megatron's is a list
            if part is not None and not weights_are_finite(part):
                return False
    return True
