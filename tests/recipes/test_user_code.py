"""The user's own modules are found in the text of what a run imports, as Python would find them in training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.recipe import Reward
from verl_lab.recipes.imports import UserCode, user_code
from verl_lab.recipes.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verl_lab.recipes.catalog import Catalog

    Find = Callable[..., UserCode]


@pytest.fixture
def find(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """Return what writes files into the folder of a launch, and finds the code of a recipe that uses them."""
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def found(files: Mapping[str, str], *overrides: str, reward: str | None = "reward.py", **fields: Any) -> UserCode:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.chdir(tmp_path / "project")
        chosen = None if reward is None else Reward(path=reward)
        recipe = catalog.get("grpo-cpu").model_copy(update={"reward": chosen, **fields})
        return user_code(make_plan(recipe, overrides, "cpu"), Path.cwd())

    return found


def inside(code: UserCode) -> list[str]:
    return [one.inside for one in code.modules]


def test_modules_are_followed_from_file_to_file(find: Find) -> None:
    code = find(
        {
            "reward.py": "import json, first\nfrom kit.parts import wheel\nimport sympy.parsing\n",
            "first.py": "def later():\n    import second\n",
            "second.py": "import first",
            "kit/__init__.py": "",
            "kit/parts/__init__.py": "from . import axle\nfrom ..tools import hammer",
            "kit/parts/wheel.py": "",
            "kit/parts/axle.py": "import importlib\nimportlib.import_module('third')",
            "kit/tools.py": "hammer = 1",
            "kit/unused.py": "import nowhere_at_all",
            "third.py": "import fourth",
            "fourth.py": "",
            "stranger.py": "",
        }
    )
    assert inside(code) == [
        "first.py",
        "fourth.py",
        "kit/__init__.py",
        "kit/parts/__init__.py",
        "kit/parts/axle.py",
        "kit/parts/wheel.py",
        "kit/tools.py",
        "kit/unused.py",
        "second.py",
        "third.py",
    ]
    assert code.problems == ()
    assert {"json", "sympy", "importlib"} <= set(code.others)
    assert "nowhere_at_all" not in code.others, "nothing that is used imports it"
    module = next(one for one in code.modules if one.name == "first")
    assert module.content == module.path.read_bytes()


def test_callbacks_and_what_settings_name_are_code_too(find: Find) -> None:
    external = "actor_rollout_ref.model.external_lib=engines"
    files = {"mine/watch.py": "import ruler", "ruler.py": "", "engines.py": ""}
    code = find(files, external, reward=None, callbacks=("mine.watch.Watch", "verl_lab.verl_plugin.TrainerCallback"))
    assert inside(code) == ["engines.py", "mine/watch.py", "ruler.py"]
    gone = find({}, reward=None, callbacks=("ruler.sub.Watch", "not_here.Watch"))
    assert [str(one) for one in gone.problems] == [
        "callbacks: the callback ruler.sub.Watch imports ruler.sub, which is not there. Correct the name."
    ]
    assert gone.others["not_here"].importer == "the callback not_here.Watch"


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import fancy\nexcept ImportError:\n    fancy = None",
        "try:\n    import fancy\nexcept (KeyError, ModuleNotFoundError):\n    pass",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import fancy",
    ],
)
def test_import_whose_failure_is_caught_can_be_missing(find: Find, text: str) -> None:
    assert find({"reward.py": text}).others["fancy"].is_optional
    assert not find({"reward.py": f"{text}\nimport fancy"}).others["fancy"].is_optional


def test_import_for_types_alone_is_none(find: Find) -> None:
    code = find({"reward.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fancy\n    import own"})
    assert "fancy" not in code.others


def test_what_python_would_take_first_is_taken(find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given").mkdir()
    for name in ("shared", "given_only"):
        (tmp_path / "given" / f"{name}.py").write_text("given = 1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "given"))
    files = {
        "rewards/mine.py": "import shared, given_only, numpy, beside, yaml",
        "rewards/numpy.py": "",
        "rewards/beside.py": "",
        "rewards/shared.py": "",
        "shared.py": "here = 1",
        "yaml/notes.txt": "a folder that happens to be called like a package",
    }
    code = find(files, reward="rewards/mine.py")
    taken = {one.name: one.path.relative_to(tmp_path).as_posix() for one in code.modules}
    assert taken == {
        "shared": "project/shared.py",
        "given_only": "given/given_only.py",
        "beside": "project/rewards/beside.py",
    }
    assert {"numpy", "yaml"} <= set(code.others)


def test_what_cannot_be_sent_is_told_with_its_importer(find: Find, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "quick.abi3.so").write_bytes(b"\x7fELF")
    code = find({"reward.py": "import quick, broken, large", "broken.py": "def (", "large.py": f"# {'x' * 2**22}"})
    told = {str(problem.value).rpartition("/")[2]: problem.message for problem in code.problems}
    assert set(told) == {"quick", "broken.py", "large"}
    assert "reward.py imports quick, which is compiled for this machine" in told["quick"]
    assert "broken.py cannot be read as Python" in told["broken.py"]
    assert "more than 4 MiB of code" in told["large"]


def test_recipe_without_code_has_none(find: Find) -> None:
    assert find({"notes.txt": ""}, reward=None) == UserCode()
