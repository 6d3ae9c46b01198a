"""Bad input: every problem is found before launch, all at once, each with what would be right."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.domain.recipe import Recipe, Resources
from verl_lab.errors import InvalidConfigurationError
from verl_lab.recipes.device import has_gpu
from verl_lab.recipes.render import render
from verl_lab.recipes.validate import validate

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.recipes.catalog import Catalog

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
STATIC = [f"{ACTOR}.use_dynamic_bsz=false", "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8"]


def told(problems: Any) -> str:
    return "\n".join(str(problem) for problem in problems)


def test_shipped_cpu_recipes_have_no_problem_once_they_have_data(catalog: Catalog, inputs: Any) -> None:
    for name in ("sft-cpu", "grpo-cpu"):
        recipe = catalog.get(name)
        assert validate(recipe, inputs.of(recipe.algorithm)) == ()


@pytest.mark.parametrize(
    ("name", "override", "key", "expected"),
    [
        ("sft-cpu", "optim.lrr=1", "optim.lrr", "The nearest: optim.lr"),
        ("sft-cpu", "+trainer.total_epoch=1", "trainer.total_epoch", "trainer.total_epochs"),
        ("sft-cpu", "optim.lr=banana", "optim.lr", "'banana' will not do; expected a number. The default is 0.001."),
        ("sft-cpu", "trainer.total_epochs=1.5", "trainer.total_epochs", "a whole number"),
        ("sft-cpu", "model.use_liger=1", "model.use_liger", "true or false"),
        ("sft-cpu", "trainer.project_name=true", "trainer.project_name", "expected text"),
        ("sft-cpu", "optim=5", "optim", "group of settings"),
        ("sft-cpu", "trainer.device=cuda", "trainer.device", "resources.device"),
        ("sft-cpu", "hydra.run.dir=/x", "hydra.run.dir", "no such setting"),
        ("sft-cpu", "hydra.searchpath=[file:///x]", "hydra.searchpath", "no such setting"),
        ("sft-cpu", "trainer.project_name=${oc.env:HOME}", "trainer.project_name", "resolvers are refused"),
        ("sft-cpu", "model.override_config={_target_: os.system}", "model.override_config", "would run code"),
        ("sft-cpu", "data.train_batch_size=${trainer.project_name}", "data.train_batch_size", "'verl-lab'"),
        ("sft-cpu", "data.max_length=${trainer.logger}", "data.max_length", "which will not do"),
        ("sft-cpu", "trainer.project_name=${trainer.project_name}", "trainer.project_name", "Recursive"),
        ("sft-cpu", "trainer.project_name=${nope.nope}", "trainer.project_name", "not found"),
        ("sft-cpu", "resources.gpus=0", "resources.gpus", "greater than or equal to 1"),
        ("sft-cpu", "resources.device=tpu", "resources.device", "'auto', 'cpu' or 'gpu'"),
        ("sft-cpu", "~optim.lr", "~optim.lr", "cannot be removed"),
        ("sft-cpu", "optim.lr=1,2", "optim.lr", "several values"),
        ("sft-cpu", "data.micro_batch_size_per_gpu=5", "data.micro_batch_size_per_gpu", "Set it to 4."),
        ("sft-cpu", "data.train_batch_size=512", "data.train_files", "256 rows, fewer than one batch of 512"),
        ("sft-cpu", "data.train_batch_size=0", "data.train_batch_size", "must be 1 or more. Set it to 1."),
        ("sft-cpu", "trainer.total_training_steps=0", "trainer.total_training_steps", "must be 1 or more"),
        ("sft-cpu", "trainer.total_epochs=0", "trainer.total_epochs", "must be 1 or more"),
        ("sft-cpu", "trainer.total_training_steps=17", "trainer.total_training_steps", "Set trainer.total_epochs=2."),
        ("sft-cpu", "trainer.test_freq=0", "trainer.test_freq", "1 or more, or -1. Set it to -1."),
        ("sft-cpu", "data.messages_key=chat", "data.train_files", "lacks the column chat"),
        ("grpo-cpu", "model_engine=megatron", "model_engine", "FSDP"),
        ("grpo-cpu", "trainer.v1.trainer_mode=sync", "trainer.v1.trainer_mode", "callbacks"),
        ("grpo-cpu", f"{ACTOR}.ppo_mini_batch_size=32", f"{ACTOR}.ppo_mini_batch_size", "more than the batch has"),
        ("grpo-cpu", f"{ACTOR}.use_dynamic_bsz=false", f"{ACTOR}.ppo_micro_batch_size_per_gpu", "Set it, or actor"),
        ("grpo-cpu", f"{ROLLOUT}.tensor_model_parallel_size=2", f"{ROLLOUT}.tensor_model_parallel_size", "not divide"),
        ("grpo-cpu", "actor_rollout_ref.rollout.name=vllm", "actor_rollout_ref.rollout.name", "needs a GPU"),
        ("grpo-cpu", "data.max_response_length=20000", f"{ACTOR}.ppo_max_token_len_per_gpu", "20128 or more"),
        ("grpo-cpu", "reward.name=score", "reward.custom_reward_function.name", "no 'score'. It has compute_score"),
        ("grpo-cpu", "reward.path=/none.py", "reward.custom_reward_function.path", "cannot be read"),
        ("grpo-cpu", "data.train=/none.parquet", "data.train_files", "/none.parquet does not exist. Expected a file"),
        ("grpo-cpu", "data.val=/", "data.val_files", "/ is no file"),
        ("grpo-cpu", "model=/", "actor_rollout_ref.model.path", "no config.json"),
        ("grpo-cpu", "model=../none", "actor_rollout_ref.model.path", "does not exist"),
        ("grpo-cpu", "model=null", "actor_rollout_ref.model.path", "no model is given"),
        ("grpo-cpu", "model='a b'", "actor_rollout_ref.model.path", "is no model"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_and_named(
    name: str, override: str, key: str, expected: str, catalog: Catalog, inputs: Any
) -> None:
    recipe = catalog.get(name)
    problems = validate(recipe, [*inputs.of(recipe.algorithm), override])
    matching = [problem for problem in problems if problem.key == key]
    assert matching, told(problems)
    assert expected in told(matching)
    assert all(problem.severity == "error" for problem in matching)


def test_all_problems_come_at_once_in_one_error(catalog: Catalog, inputs: Any) -> None:
    mistakes = [
        "optim.lrr=1",
        "optim.lr=banana",
        "data.micro_batch_size_per_gpu=5",
        "data.val=/none.parquet",
        "model=/none",
    ]
    with pytest.raises(InvalidConfigurationError) as caught:
        render(catalog.get("sft-cpu"), [*inputs.sft, *mistakes])
    assert len(caught.value.problems) == 5
    assert "Recipe 'sft-cpu' cannot be launched: 5 problems." in str(caught.value)


def test_what_a_recipe_lacks_is_asked_for(catalog: Catalog) -> None:
    text = told(validate(catalog.get("grpo-cpu")))
    assert "actor_rollout_ref.model.path: no model is given. Set model" in text
    assert "data.train_files: no data file is given." in text
    assert "data.val_files: no data file is given." in text
    assert "val_files" not in told(validate(catalog.get("sft-cpu")))


def test_micro_batches_must_divide_an_update(catalog: Catalog, inputs: Any) -> None:
    recipe = catalog.get("grpo-cpu")
    good = [*inputs.grpo, *STATIC, f"{ACTOR}.ppo_micro_batch_size_per_gpu=32"]
    assert validate(recipe, good) == ()
    assert "Set it to 4" in told(validate(recipe, [*good, f"{ACTOR}.ppo_micro_batch_size_per_gpu=6"]))
    assert "set together" in told(validate(recipe, [*good, f"{ACTOR}.ppo_micro_batch_size=32"]))


def test_warnings_are_told_and_do_not_refuse(catalog: Catalog, inputs: Any) -> None:
    rendered = render(
        catalog.get("grpo-cpu"), [*inputs.grpo, f"{ACTOR}.ppo_mini_batch_size=6", "actor_rollout_ref.rollout.n=1"]
    )
    assert {problem.key for problem in rendered.warnings} == {
        f"{ACTOR}.ppo_mini_batch_size",
        "actor_rollout_ref.rollout.n",
    }


def test_batches_must_divide_among_gpus(catalog: Catalog, inputs: Any) -> None:
    problems = validate(catalog.get("sft"), [*inputs.sft, "resources.gpus=3"], device="gpu")
    assert "64 does not divide among 3 GPUs" in told(problems)


@pytest.mark.skipif(has_gpu(), reason="the message is for machines without a GPU")
def test_a_gpu_recipe_without_a_gpu_is_told_unless_asked_for(catalog: Catalog, inputs: Any) -> None:
    assert "there is none here" in told(validate(catalog.get("sft"), inputs.sft))
    assert validate(catalog.get("sft"), inputs.sft, device="gpu") == ()
    assert "there is none here" not in told(validate(catalog.get("sft"), [*inputs.sft, "resources.device=cpu"]))


def test_data_files_are_looked_into(catalog: Catalog, inputs: Any, tmp_path: Path) -> None:
    (tmp_path / "junk.parquet").write_text("not parquet")
    (tmp_path / "rows.csv").write_text("messages\n1\n")
    pq.write_table(pa.table({"messages": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    recipe = catalog.get("sft-cpu")
    for file, expected in (
        ("junk.parquet", "is no parquet file"),
        ("rows.csv", "type that is not read here"),
        ("empty.parquet", "has no rows"),
    ):
        assert expected in told(validate(recipe, [*inputs.sft, f"data.train={tmp_path}/{file}"]))


def test_missing_pyarrow_is_said_and_no_failure(inputs: Any) -> None:
    code = f"""
import sys
sys.modules["pyarrow"] = None
from verl_lab.recipes.catalog import Catalog, builtin_folder
from verl_lab.recipes.validate import validate
for problem in validate(Catalog([builtin_folder()]).get("sft-cpu"), {inputs.sft!r}):
    print(problem.severity, problem.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("warning") and "pyarrow is not installed" in line for line in lines)


def test_recipe_parameters_are_checked_like_overrides(inputs: Any) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "algorithm": "sft",
            "resources": {"device": "cpu"},
            "parameters": {
                "optim.lr": "${oc.env:HOME}",
                "trainer": {"totl_epochs": 1, "device": "cuda"},
                "optim.betas": 3,
                "data.use_dynamic_bsz": False,
                "data.micro_batch_size_per_gpu": 16,
            },
        }
    )
    problems = validate(recipe, inputs.sft)
    errors = {problem.key for problem in problems if problem.severity == "error"}
    assert errors == {"optim.lr", "trainer.totl_epochs", "trainer.device", "optim.betas"}


def test_recipe_fields_with_resolvers_are_refused(inputs: Any) -> None:
    recipe = Recipe(name="x", algorithm="sft", model="${oc.env:HOME}", resources=Resources(device="cpu"))
    assert "resolvers are refused" in told(validate(recipe, inputs.sft[1:]))
