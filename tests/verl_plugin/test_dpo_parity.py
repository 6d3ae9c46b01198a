"""Preference optimisation against TRL's, and against itself on two ranks and in other micro-batches."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from verl_lab.demo.make_task import make_model, make_tokenizer

HERE = Path(__file__).parent
TRL = Path(sys.prefix) / "apart" / "trl"
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
TOLERANCE = 1e-5
PAIRS = 8

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model that trains, another as its reference, and conversations of many lengths."""
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = make_tokenizer()
    for name, seed in (("policy", 1), ("reference", 2)):
        tokenizer.save_pretrained(folder / name)
        make_model(tokenizer, seed=seed).save_pretrained(folder / name)
    dice = random.Random(0)

    def said(role: str, least: int, most: int) -> dict[str, str]:
        return {"role": role, "content": "".join(dice.choices("0123456789abc ", k=dice.randint(least, most)))}

    rows = [
        {
            "prompt": [said("system", 2, 4)] * (number % 2) + [said("user", 2, 9)],
            "chosen": [said("assistant", 1, 14)],
            "rejected": [said("assistant", 1, 14)],
        }
        for number in range(PAIRS)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def ours(inputs: Path, out: Path, *launcher: str) -> dict[str, Any]:
    data = inputs / "pairs.jsonl"
    fp32 = "{param_dtype: fp32, reduce_dtype: fp32, buffer_dtype: fp32}"
    overrides = [
        "trainer.device=cpu",
        f"trainer.default_local_dir={inputs / 'none'}",
        f"model.path={inputs / 'policy'}",
        f"+dpo.reference_path={inputs / 'reference'}",
        "+model.override_config.attn_implementation=sdpa",
        "model.use_remove_padding=false",
        "model.enable_gradient_checkpointing=false",
        "engine.strategy=fsdp2",
        "engine.use_torch_compile=false",
        "engine.model_dtype=fp32",
        f"+engine.mixed_precision={fp32}",
        f"data.train_files={data}",
        f"data.val_files={data}",
        f"data.train_batch_size={PAIRS}",
        "data.micro_batch_size_per_gpu=3",  # the last share is never full
        "data.use_dynamic_bsz=false",
        "data.max_length=64",
        "data.num_workers=0",
    ]
    command = [sys.executable, *launcher, str(HERE / "dpo_parts" / "our_gradients.py"), str(out), *overrides]
    env = {**os.environ, **QUIET, "VERL_PLATFORM": "cpu", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(out)


@pytest.fixture(scope="module")
def one_rank(inputs: Path) -> dict[str, Any]:
    return ours(inputs, inputs / "one.pt")


@pytest.fixture(scope="module")
def two_ranks(inputs: Path) -> dict[str, Any]:
    return ours(inputs, inputs / "two.pt", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def trl(inputs: Path) -> dict[str, Any]:
    assert TRL.is_dir(), "TRL is installed apart from the rest by `make setup-test`."
    files = [inputs / "trl.pt", inputs / "policy", inputs / "reference", inputs / "pairs.jsonl"]
    command = [sys.executable, HERE / "dpo_parts" / "trl_gradients.py", *files]
    env = {**os.environ, **QUIET, "PYTHONPATH": str(TRL), "HF_HOME": str(inputs / "hf")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(files[0])


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    gradients = one["gradients"]
    assert gradients.keys() == other["gradients"].keys()
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 0.01
    return max(float((gradients[name] - other["gradients"][name]).abs().max()) for name in gradients)


@pytest.mark.parametrize("loss", ["sigmoid", "smoothed", "ipo"])
def test_loss_metrics_and_gradients_are_those_of_trl(one_rank: dict[str, Any], trl: dict[str, Any], loss: str) -> None:
    mine, theirs = one_rank[loss], trl[loss]
    assert mine["loss"] == pytest.approx(theirs["loss"], abs=TOLERANCE)
    assert largest_difference(mine, theirs) < TOLERANCE
    for name in mine["metrics"].keys() - {"logps/accuracies"}:  # TRL has no such metric
        assert mine["metrics"][name] == pytest.approx(theirs["metrics"][name], abs=TOLERANCE, rel=1e-6), name
    assert abs(mine["metrics"]["rewards/margins"]) > 0.01  # a model that is its own reference would agree too easily


@pytest.mark.parametrize("other", ["one pair at a time", "sized by tokens"])
def test_how_a_batch_is_cut_changes_nothing(one_rank: dict[str, Any], other: str) -> None:
    assert one_rank[other]["loss"] == pytest.approx(one_rank["sigmoid"]["loss"], abs=TOLERANCE)
    assert largest_difference(one_rank[other], one_rank["sigmoid"]) < TOLERANCE
    assert one_rank[other]["metrics"] == pytest.approx(one_rank["sigmoid"]["metrics"], abs=TOLERANCE, rel=1e-6)


@pytest.mark.parametrize("case", ["sigmoid", "smoothed", "ipo", "one pair at a time", "sized by tokens"])
def test_two_ranks_compute_what_one_does(one_rank: dict[str, Any], two_ranks: dict[str, Any], case: str) -> None:
    assert two_ranks[case]["loss"] == pytest.approx(one_rank[case]["loss"], abs=TOLERANCE)
    assert largest_difference(two_ranks[case], one_rank[case]) < TOLERANCE
    assert two_ranks[case]["metrics"] == pytest.approx(one_rank[case]["metrics"], abs=TOLERANCE, rel=1e-6)


def test_reference_and_validation_do_not_depend_on_the_ranks(
    one_rank: dict[str, Any], two_ranks: dict[str, Any]
) -> None:
    assert torch.isfinite(one_rank["reference"]).all()
    torch.testing.assert_close(two_ranks["reference"], one_rank["reference"], atol=TOLERANCE, rtol=1e-6)
    assert two_ranks["held out"] == pytest.approx(one_rank["held out"], abs=TOLERANCE, rel=1e-6)
    # The held-out pairs are those of the batch, and validation has no micro-batches in its mean.
    margin = one_rank["sigmoid"]["metrics"]["rewards/margins"]
    assert one_rank["held out"]["val/rewards/margins"] / 0.1 == pytest.approx(margin / 0.3, rel=1e-4)
