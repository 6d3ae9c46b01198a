"""The catalog: layers of folders, inheritance, paths, and broken files beside good ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from verl_lab.errors import FormatError, InvalidInputError, NotFoundError
from verl_lab.lab.demo import SHIPPED
from verl_lab.recipes.catalog import Catalog, builtin_folder

DEMO = SHIPPED / "recipes"


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def test_every_shipped_recipe_loads() -> None:
    catalog = Catalog.standard(DEMO, Path("/nonexistent"))
    assert {"grpo", "grpo-cpu", "sft", "sft-cpu", "sort-digits-grpo", "sort-digits-sft"} <= set(catalog.names())
    for name in catalog.names():
        recipe = catalog.get(name)
        assert recipe.name == name
        assert recipe.description


def test_demo_recipes_point_to_the_demo_of_the_lab_they_lie_in(tmp_path: Path) -> None:
    made = tmp_path / "demo" / "sort-digits"
    shutil.copytree(DEMO, tmp_path / "recipes")
    catalog = Catalog.standard(tmp_path / "recipes", Path("/nonexistent"))
    sft, grpo = catalog.get("sort-digits-sft"), catalog.get("sort-digits-grpo")
    assert (sft.model, grpo.model) == (str(made / "model"), str(made / "warm"))
    assert sft.data.train == str(made / "sft_train.parquet")
    assert grpo.data.val == str(made / "heldout.parquet")
    assert grpo.reward is not None
    assert grpo.reward.path == str(made / "reward.py")
    assert (sft.resources.device, grpo.resources.device) == ("cpu", "cpu")
    assert grpo.parameters["actor_rollout_ref.rollout.n"] == 8


def test_later_folders_win_and_a_recipe_may_extend_the_one_it_hides(tmp_path: Path) -> None:
    write(tmp_path / "user", "sft", "extends: sft\nparameters: {optim.lr: 3e-5}")
    write(tmp_path / "project", "sft", "extends: sft\nmodel: org/name\nparameters: {trainer: {total_epochs: 9}}")
    catalog = Catalog([builtin_folder(), tmp_path / "user", tmp_path / "project", tmp_path / "missing"])
    recipe = catalog.get("sft")
    assert recipe.model == "org/name"
    assert recipe.parameters["trainer.total_epochs"] == 9
    assert recipe.parameters["optim.lr"] == 3e-5
    assert recipe.parameters["optim.lr_scheduler_type"] == "cosine"


def test_nested_and_dotted_parameters_are_the_same(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a",
        "algorithm: sft\nparameters:\n  trainer.save_freq: 1\n  trainer: {test_freq: 2}\n  optim: {betas: [0.9, 0.95]}",
    )
    assert Catalog([tmp_path]).get("a").parameters == {
        "trainer.save_freq": 1,
        "trainer.test_freq": 2,
        "optim.betas": [0.9, 0.95],
    }


def test_paths_are_relative_to_the_recipe_and_hub_ids_stay(tmp_path: Path) -> None:
    (tmp_path / "r" / "here").mkdir(parents=True)
    file = write(
        tmp_path / "r",
        "a",
        "algorithm: grpo\nmodel: here\nreward: {path: ../f.py}\n"
        "data: {train: [x.parquet, /abs/y.parquet, 's3://b/z.parquet']}",
    )
    recipe = Catalog([]).load_file(file)
    assert recipe.model == str(tmp_path / "r" / "here")
    assert recipe.data.train == [str(tmp_path / "r" / "x.parquet"), "/abs/y.parquet", "s3://b/z.parquet"]
    assert recipe.reward is not None
    assert recipe.reward.path == str(tmp_path / "f.py")
    other = write(tmp_path / "r", "b", "algorithm: sft\nmodel: Qwen/Qwen3-0.6B")
    assert Catalog([]).load_file(other).model == "Qwen/Qwen3-0.6B"
    gone = write(tmp_path / "r", "c", "algorithm: sft\nmodel: ../gone")
    assert Catalog([]).load_file(gone).model == str(tmp_path / "gone")


def test_unknown_recipe_names_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="'gpro'") as caught:
        catalog.get("gpro")
    assert "grpo" in str(caught.value)
    with pytest.raises(NotFoundError):
        catalog.get("../../etc/passwd")


def test_a_broken_recipe_is_told_by_name_and_leaves_the_others_usable(tmp_path: Path) -> None:
    write(tmp_path, "broken", "algorithm: [")
    write(tmp_path, "good", "algorithm: sft")
    catalog = Catalog([tmp_path])
    assert catalog.names() == ["broken", "good"]
    assert catalog.get("good").algorithm == "sft"
    with pytest.raises(FormatError, match=r"broken\.yaml, line 1"):
        catalog.get("broken")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("algorithm: dpp", "algorithm"),
        ("description: x", "algorithm: is missing"),
        ("algorithm: sft\nmodelx: x", "line 2, column 1: modelx: a recipe has no such field. The nearest: model"),
        ("algorithm: sft\nresources:\n  gpus: many", "line 3, column 3: resources.gpus"),
        ("algorithm: sft\nexpected: {loss: {}}", "give min, max or direction"),
        ("algorithm: sft\nexpected: {loss: {min: 2, max: 1}}", "min is larger than max"),
        ("algorithm: sft\nexpected: {loss: {min: .nan}}", "finite"),
        (
            "algorithm: sft\nexpected: {loss: {maxx: 1}}",
            "expected.loss.maxx: a recipe has no such field. The nearest: max",
        ),
        ("algorithm: sft\ndata: {trian: x}", "data.trian: a recipe has no such field. The nearest: train"),
        ("algorithm: sft\nresources: {gpus: 0}", "resources.gpus"),
        ("algorithm: sft\nparameters: 5", "parameters: 5 is no mapping"),
        ("algorithm: sft\nparameters: {'a b': 1}", "'a b' is no key"),
        ("algorithm: sft\nparameters: {model: {_target_: os.system}}", "_target_ is not accepted"),
        ("algorithm: sft\ncallbacks: ['os system']", "dotted name"),
        ("algorithm: sft\nname: other", "the file is called 'r'"),
        ("extends: [1]", "is no name of a recipe"),
        ("extends: r", "Break the circle"),
        ("algorithm: sft\nmodel: 5", "model"),
    ],
)
def test_a_recipe_of_the_wrong_shape_names_the_field(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path, "r", text)
    with pytest.raises(InvalidInputError) as caught:
        Catalog([tmp_path]).get("r")
    assert told in str(caught.value)


def test_extending_in_a_circle_or_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", "extends: b")
    write(tmp_path, "b", "extends: a")
    write(tmp_path, "c", "extends: grop")
    catalog = Catalog([builtin_folder(), tmp_path])
    with pytest.raises(InvalidInputError, match="circle"):
        catalog.get("a")
    with pytest.raises(NotFoundError, match="'grop'"):
        catalog.get("c")
