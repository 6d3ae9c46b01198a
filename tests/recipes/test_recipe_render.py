"""Rendering: the command that is launched composes, through Hydra, to what was meant."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
import pytest
from omegaconf import OmegaConf

from verl_lab.domain.recipe import Recipe, Resources
from verl_lab.recipes.catalog import Catalog
from verl_lab.recipes.render import Rendered, render
from verl_lab.recipes.schema import TREES, compose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.domain.recipe import Trainer

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def composed(rendered: Rendered) -> dict[str, Any]:
    """Compose what stands in ``argv`` after the program, as verl's trainer will."""
    module = f"verl_lab.verl_plugin.train_{rendered.recipe.trainer}"
    arguments = rendered.argv[rendered.argv.index(module) + 1 :]
    found = OmegaConf.to_container(composed_by_verl(rendered.recipe.trainer, arguments), resolve=True)
    assert isinstance(found, dict)
    return cast("dict[str, Any]", found)


def composed_by_verl(trainer: Trainer, arguments: Sequence[str]) -> Any:
    """Compose with the files of the verl that is installed, as Hydra does in training."""
    spec = importlib.util.find_spec("verl")
    assert spec is not None
    folder = Path((spec.submodule_search_locations or [""])[0]) / "trainer" / "config"
    with hydra.initialize_config_dir(str(folder), version_base=None):
        return hydra.compose(TREES[trainer], overrides=list(arguments))


SHIPPED = Catalog.standard(Path("/nonexistent"), NOTEBOOKS)


@pytest.mark.parametrize("name", SHIPPED.names())
def test_every_shipped_recipe_renders_and_its_command_composes(name: str, inputs: Any) -> None:
    recipe = SHIPPED.get(name)
    # Enough rows for any recipe's steps, and no more of them than there are.
    few = "data.train_batch_size=16" if recipe.resources.device == "cpu" else "data.train_batch_size=128"
    overrides = [*inputs.of(recipe.algorithm), "trainer.total_epochs=50"]
    if recipe.trainer == "ppo":
        overrides += [few, f"actor_rollout_ref.actor.ppo_mini_batch_size={few.partition('=')[2]}"]
    rendered = render(recipe, overrides, device="gpu" if recipe.resources.device == "gpu" else "auto")
    found = composed(rendered)
    assert found == OmegaConf.to_container(OmegaConf.create(rendered.config_yaml), resolve=True)
    assert found["trainer"]["default_local_dir"] == "@run@/checkpoints"
    assert found["trainer"]["resume_mode"] == "auto"
    assert found["trainer"]["experiment_name"] == name
    assert found["trainer"]["device"] == ("cuda" if rendered.device == "gpu" else "cpu")
    assert found["data"]["train_files"].startswith(str(inputs.folder))
    schema_values = {
        key: value for key, value in recipe.parameters.items() if key not in {o.split("=")[0] for o in overrides}
    }
    for key, value in schema_values.items():
        is_reference = isinstance(value, str) and value.startswith("${")
        assert OmegaConf.select(rendered.config, value[2:-1] if is_reference else key) == (
            OmegaConf.select(rendered.config, key) if is_reference else value
        ), key
    if rendered.recipe.trainer == "ppo":
        assert found["trainer"]["v1"]["trainer_mode"] == "verl_lab_sync"
        assert found["trainer"]["rollout_data_dir"] == "@attempt@/samples/rollout"
        assert found["trainer"]["validation_data_dir"] == "@attempt@/samples/validation"
        assert found["actor_rollout_ref"]["rollout"]["name"] == ("vllm" if rendered.device == "gpu" else "verl_lab_hf")
        assert found["ray_kwargs"]["ray_init"]["_temp_dir"] == "@scratch@/ray"
        assert found["reward"]["custom_reward_function"]["path"] == f"{inputs.folder}/reward.py"


def test_cpu_runs_in_fp32_on_one_process_and_loopback(catalog: Catalog, inputs: Any) -> None:
    grpo = render(catalog.get("grpo-cpu"), inputs.grpo)
    actor = composed(grpo)["actor_rollout_ref"]["actor"]
    assert set(actor["fsdp_config"]["mixed_precision"].values()) == {"fp32"}
    assert (actor["strategy"], actor["use_torch_compile"], actor["use_dynamic_bsz"]) == ("fsdp2", False, True)
    assert grpo.env["VERL_PLATFORM"] == "cpu"
    assert grpo.env["OMP_NUM_THREADS"] == "1"
    assert grpo.env["GLOO_SOCKET_IFNAME"] == "lo"
    assert grpo.env["HF_HUB_OFFLINE"] == "1"
    assert grpo.env["DIST_INIT_METHOD"] == "file://@scratch@/process-group"
    rendered = render(catalog.get("sft-cpu"), inputs.sft)
    # SFT finds its own rendezvous; a second one would stand against it.
    assert "DIST_INIT_METHOD" not in rendered.env
    sft = composed(rendered)
    assert sft["engine"]["mixed_precision"]["param_dtype"] == "fp32"
    assert sft["engine"]["strategy"] == "fsdp2"
    assert sft["model"]["use_remove_padding"] is False


def test_gpu_runs_are_verls_own_apart_from_the_callbacks(catalog: Catalog, inputs: Any) -> None:
    rendered = render(catalog.get("grpo"), inputs.grpo, device="gpu")
    assert "VERL_PLATFORM" not in rendered.env
    assert not [override for override in rendered.overrides if "mixed_precision" in override]
    assert composed(rendered)["actor_rollout_ref"]["rollout"]["free_cache_engine"] is True


def test_sft_on_several_gpus_is_started_by_torchrun(catalog: Catalog, inputs: Any) -> None:
    one = render(catalog.get("sft"), inputs.sft, device="gpu", python="/x/python")
    four = render(catalog.get("sft"), [*inputs.sft, "resources.gpus=4"], device="gpu", python="/x/python")
    assert one.argv[:3] == ("/x/python", "-m", "verl_lab.verl_plugin.train_sft")
    assert four.argv[1:6] == ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4", "-m")
    assert composed(four)["trainer"]["n_gpus_per_node"] == 4


def test_the_users_overrides_win_and_the_last_of_them(catalog: Catalog, inputs: Any) -> None:
    overrides = [
        *inputs.sft,
        "optim.lr=1",
        "optim.lr=2e-4",
        "+engine.mixed_precision.param_dtype=bf16",
        "model.override_config={x: 1, y: {z: a}}",
    ]
    found = composed(render(catalog.get("sft-cpu"), overrides))
    assert found["optim"]["lr"] == 2e-4
    assert found["engine"]["mixed_precision"] == {"param_dtype": "bf16", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    assert found["model"]["override_config"] == {"attn_implementation": "sdpa", "x": 1, "y": {"z": "a"}}


def test_numbers_for_text_are_taken_as_they_were_typed(catalog: Catalog, inputs: Any) -> None:
    found = composed(
        render(catalog.get("sft-cpu"), [*inputs.sft, "trainer.experiment_name=1e5", "trainer.project_name=007"])
    )
    assert (found["trainer"]["experiment_name"], found["trainer"]["project_name"]) == ("1e5", "007")


def test_hostile_folder_names_survive_the_command_line(catalog: Catalog, inputs: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a b,c=d{e}[f]('g\")$(h);é"
    shutil.copytree(inputs.folder, folder)
    overrides = [
        f"model={folder}/model",
        f"data.train={folder}/rl.parquet",
        f"data.val={folder}/rl.parquet",
        f"reward.path={folder}/reward.py",
    ]
    rendered = render(catalog.get("grpo-cpu"), overrides)
    found = composed(rendered)
    assert found["actor_rollout_ref"]["model"]["path"] == f"{folder}/model"
    assert found["data"]["train_files"] == f"{folder}/rl.parquet"
    assert shlex.split(rendered.command)[-len(rendered.argv) :] == list(rendered.argv)


def test_the_tokens_may_stand_for_folders_with_odd_names(catalog: Catalog, inputs: Any) -> None:
    rendered = render(catalog.get("sft-cpu"), inputs.sft)
    filled = [part.replace("@run@", "/home/o'brien/a, b=c é") for part in rendered.argv]
    found = compose("sft", filled[3:])
    assert found.trainer.default_local_dir == "/home/o'brien/a, b=c é/checkpoints"


def test_relative_paths_of_overrides_are_those_of_the_working_folder(catalog: Catalog, inputs: Any) -> None:
    here = Path.cwd()
    os.chdir(inputs.folder)
    try:
        found = composed(
            render(catalog.get("sft-cpu"), ["model=model", "data.train=sft.parquet", "data.val_files=[./sft.parquet]"])
        )
    finally:
        os.chdir(here)
    assert found["model"]["path"] == str(inputs.folder / "model")
    assert found["data"]["train_files"] == str(inputs.folder / "sft.parquet")
    assert found["data"]["val_files"] == [str(inputs.folder / "sft.parquet")]


def test_total_steps_come_from_the_setting_or_the_rows(catalog: Catalog, inputs: Any) -> None:
    sft, grpo = catalog.get("sft-cpu"), catalog.get("grpo-cpu")
    assert render(sft, [*inputs.sft, "trainer.total_training_steps=5"]).total_steps == 5
    assert render(sft, [*inputs.sft, "trainer.total_epochs=3"]).total_steps == 3 * 256 // 16
    assert render(grpo, inputs.grpo).total_steps == 16
    assert render(grpo, [*inputs.grpo, "data.filter_overlong_prompts=true"]).total_steps is None


def test_hydra_is_told_to_keep_no_files_of_its_own(catalog: Catalog, inputs: Any) -> None:
    rendered = render(catalog.get("sft-cpu"), inputs.sft)
    assert rendered.argv[0] == sys.executable
    assert "hydra.output_subdir=null" in rendered.argv
    assert 'hydra.run.dir="@scratch@/hydra"' in rendered.argv


def test_callbacks_and_recipe_travel_with_the_rendering(inputs: Any) -> None:
    recipe = Recipe(name="x", algorithm="sft", callbacks=("my.module.Callback",), resources=Resources(device="cpu"))
    rendered = render(
        recipe,
        [*inputs.sft, "data.train_batch_size=16", "data.micro_batch_size_per_gpu=16", "data.use_dynamic_bsz=false"],
    )
    assert rendered.callbacks == ("my.module.Callback",)
    assert rendered.recipe.model == f"{inputs.folder}/model"
