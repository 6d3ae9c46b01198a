"""The demo: made once, whole or not there, and nothing of a person's written over."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab import Lab
from verl_lab.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.lab.demo import Demo

RECIPES = ("sort-digits-sft", "sort-digits-grpo", "sort-digits-dpo")
# What a laptop that trains nothing does without.
TRAINING = ("torch", "transformers", "ray", "verl")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the demo: broken off, then asked for twice at once."""
    home = tmp_path_factory.mktemp("home")
    place = home / "demo"

    def break_off(line: str) -> None:
        if line.startswith("Loading"):
            raise KeyboardInterrupt

    with Lab(home) as lab, pytest.raises(KeyboardInterrupt):
        lab.demo(break_off)
    assert list(place.iterdir()) == []
    assert not set(RECIPES) & set(lab.recipes.names())
    (place / ".making-killed" / "out").mkdir(parents=True)  # what a kernel leaves that is killed meanwhile

    told: list[list[str]] = [[], []]

    def make(lines: list[str]) -> Demo:
        with Lab(home) as lab:
            return lab.demo(lines.append)

    with ThreadPoolExecutor() as both:
        one, other = both.map(make, told)
    assert one == other
    assert sorted(bool(lines) for lines in told) == [False, True], "one makes it, the other waits"
    assert [path.name for path in place.iterdir()] == ["sort-digits"]
    return home


@pytest.fixture
def lab_of(home: Path, tmp_path: Path) -> Callable[[], Lab]:
    """Return a lab where the demo was made, to be changed at will."""
    shutil.copytree(home, tmp_path / "lab")
    return lambda: Lab(tmp_path / "lab")


def test_every_recipe_of_the_demo_can_be_launched_as_it_is(home: Path) -> None:
    with Lab(home) as lab:
        made = lab.demo()
        assert made.recipes == RECIPES
        assert {entry.place for entry in lab.recipes.list() if entry.name in RECIPES} == {"user"}
        assert [problem for name in RECIPES for problem in lab.validate(name)] == []
        assert lab.recipes.get("sort-digits-sft").model == str(made.model)
        assert lab.recipes.get("sort-digits-grpo").model == str(made.warm)
    assert repr(made).splitlines()[-1] == "Next: %verl_train sort-digits-grpo"


def test_what_is_there_stays_and_what_somebody_changed_is_named(lab_of: Callable[[], Lab]) -> None:
    with lab_of() as lab:
        reward = lab.demo().folder / "reward.py"
        reward.write_text("# mine")
        recipe = lab.recipes.get("sort-digits-grpo")
        lab.recipes.save(recipe.model_copy(update={"description": "mine"}))
        made = lab.demo(lambda line: pytest.fail(f"It makes something: {line}"))
        assert made.kept == ("sort-digits-grpo",)
        assert lab.recipes.get("sort-digits-grpo").description == "mine"
        assert reward.read_text() == "# mine"
        assert "%verl_recipes sort-digits-grpo --delete" in repr(made)
        lab.recipes.delete("sort-digits-grpo")
        assert lab.demo().kept == ()
        assert lab.recipes.get("sort-digits-grpo") == recipe


def test_where_it_cannot_be_written_is_told(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        (tmp_path / "demo").touch()
        with pytest.raises(TransportError, match="sort-digits cannot be written"):
            lab.demo()


def test_where_nothing_can_train_it_says_what_to_install(tmp_path: Path, home: Path) -> None:
    python = _python_without(TRAINING, tmp_path / "laptop")
    code = "import sys; from verl_lab import Lab; print(Lab(sys.argv[1]).demo(print))"
    there, missing = (
        subprocess.run([python, "-c", code, str(place)], capture_output=True, text=True, check=False)
        for place in (home, tmp_path / "none")
    )
    assert there.stdout.splitlines()[-1].startswith("Next: "), there.stderr
    assert missing.returncode == 1
    assert f"torch, transformers, ray, verl are not installed for {python}" in missing.stderr
    assert 'pip install "verl-lab[verl]==' in missing.stderr
    assert list((tmp_path / "none" / "demo").iterdir()) == []


def _python_without(names: tuple[str, ...], folder: Path) -> str:
    """Make an environment that has what this one has, but for some packages."""
    venv.create(folder, symlinks=True)
    (there,) = folder.glob("lib/python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name not in names and not (there / path.name).exists():
            (there / path.name).symlink_to(path)
    return str(folder / "bin" / Path(sys.executable).name)
