"""The same of TRL's DPOTrainer: ``trl_gradients.py OUT MODEL REFERENCE DATA``; in a process without verl.

verl breaks where a TRL of this age can be imported (verl/models/transformers/monkey_patch.py), so it lies apart.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer  # pyright: ignore[reportMissingImports]  it lies apart

# TRL smooths labels in its "aot" loss, which for a single pair is the sigmoid loss.
LOSSES = {
    "sigmoid": ({"loss_type": ["sigmoid"], "beta": 0.3}, None),
    "smoothed": ({"loss_type": ["aot"], "beta": 0.3, "label_smoothing": 0.15}, 1),
    "ipo": ({"loss_type": ["ipo"], "beta": 0.3}, None),
}


def measure(model: str, reference: str, data: str, pairs_at_once: int | None, **loss: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = DPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            report_to=[],
            **loss,
        )
        load = AutoModelForCausalLM.from_pretrained
        trainer = DPOTrainer(
            model=load(model, dtype=torch.float32, attn_implementation="sdpa"),
            ref_model=load(reference, dtype=torch.float32, attn_implementation="sdpa"),
            args=settings,
            train_dataset=Dataset.from_json(data),
            processing_class=AutoTokenizer.from_pretrained(model),
        )
    rows = [trainer.train_dataset[n] for n in range(len(trainer.train_dataset))]
    size = pairs_at_once or len(rows)
    trainer.model.train()
    total = 0.0
    for start in range(0, len(rows), size):
        value = trainer.compute_loss(trainer.model, trainer.data_collator(rows[start : start + size]))
        (value * size / len(rows)).backward()
        total += value.item() * size / len(rows)
    metrics = {name: sum(values) / len(values) for name, values in trainer._metrics["train"].items()}
    gradients = {name: weight.grad.clone() for name, weight in trainer.model.named_parameters()}
    return {"loss": total, "metrics": metrics, "gradients": gradients}


out, model, reference, data = sys.argv[1:]
torch.save({name: measure(model, reference, data, size, **loss) for name, (loss, size) in LOSSES.items()}, out)
