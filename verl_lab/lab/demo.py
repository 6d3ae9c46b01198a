"""The demo: a task, a tiny model and recipes, small enough to train on any machine, made in the lab's home."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.environments.pins import Versions
from verl_lab.errors import EnvironmentMismatchError, TransportError
from verl_lab.recipes.book import USER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from verl_lab.lab.lab import Lab
    from verl_lab.recipes.book import RecipeBook

SHIPPED = Path(__file__).parents[1] / "demo"
"""Scripts for the Python that trains, and recipes: data as far as the lab is concerned."""
_RECIPES = ("sort-digits-sft", "sort-digits-grpo", "sort-digits-dpo")
_TABLES = ("sft_train", "sft_val", "rl_train", "dpo_train", "heldout", "dpo_heldout")
_PARTS = ("model", "warm", "reward.py", *(f"{table}.parquet" for table in _TABLES))
_NEEDED = ("torch", "transformers", "pandas", "ray", "verl")
_SCRATCH = ".making-"


@dataclass(frozen=True)
class Demo:
    """The demo as it lies in a lab: sort five digits.

    Attributes
    ----------
    folder
        Models, data and reward function.
    recipes
        The names of its recipes.
    kept
        Those of them that are not as the demo has them: somebody changed them, and they stay so.
    """

    folder: Path
    recipes: tuple[str, ...] = _RECIPES
    kept: tuple[str, ...] = ()

    @property
    def model(self) -> Path:
        """The untrained model, where supervised fine-tuning begins."""
        return self.folder / "model"

    @property
    def warm(self) -> Path:
        """The model that has seen the demonstrations, where reinforcement and preferences begin."""
        return self.folder / "warm"

    @property
    def held_out(self) -> Path:
        """The problems that no training sees."""
        return self.folder / "heldout.parquet"

    def __repr__(self) -> str:
        lines = [f"Models, data and reward function: {self.folder}", f"Recipes: {', '.join(self.recipes)}"]
        lines += [
            f"{name} is not as the demo has it, and stays so. To have the demo's: %verl_recipes {name} --delete, "
            "then %verl_demo."
            for name in self.kept
        ]
        return "\n".join([*lines, "Next: %verl_train sort-digits-grpo"])


def demo(lab: Lab, progress: Callable[[str], object] | None) -> Demo:
    """Make what is missing of the demo; see ``Lab.demo``."""
    say = progress or _say_nothing
    folder = lab.settings.home / "demo" / "sort-digits"
    try:
        with _alone(folder.parent):
            missing = [part for part in _PARTS if not (folder / part).exists()]
            if missing:
                _require_training()
                with _made(folder.parent, say) as made:
                    folder.mkdir(exist_ok=True)
                    for part in missing:
                        (made / part).rename(folder / part)
            book = lab.recipes
            kept = tuple(name for name in _RECIPES if not _put(book, name))
    except OSError as error:
        if isinstance(error, TransportError):
            raise
        raise TransportError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return Demo(folder, kept=kept)


def _say_nothing(_line: str) -> None:
    pass


@contextlib.contextmanager
def _alone(place: Path) -> Generator[None]:
    """Keep other notebooks from making it too; what one left that was killed is removed."""
    place.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in place.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def _require_training() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        pins = Versions.load()
        raise EnvironmentMismatchError(
            f"The demo trains on this machine, and {', '.join(missing)} are not installed for {sys.executable}.",
            f"Without a GPU, first torch's CPU build: pip install torch=={pins.torch['cpu']} --index-url "
            "https://download.pytorch.org/whl/cpu\n"
            f'Then the rest: pip install "verl-lab[verl]=={pins.verl_lab}"\n'
            "Restart the kernel after that, and run this again.",
        )


@contextlib.contextmanager
def _made(place: Path, say: Callable[[str], object]) -> Generator[Path]:
    """Make all parts in a folder beside, by the Python that trains; the folder is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=place) as scratch:
        out, log = Path(scratch) / "out", Path(scratch) / "log"
        say("Loading torch and transformers…")
        command = [sys.executable, "-m", "verl_lab.demo.make_task", str(out)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as errors:
            # In a session of its own: an interrupt of the notebook is for us, who then end it.
            process = subprocess.Popen(
                command, cwd=scratch, env=env, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )
        with process:
            try:
                for line in process.stdout or ():
                    say(line.strip())
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said = log.read_text(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise EnvironmentMismatchError(
                f"The demo could not be made: {said[0]}", "%verl_env says what is installed, and what should be."
            )
        shutil.copyfile(SHIPPED / "reward.py", out / "reward.py")
        yield out


def _put(book: RecipeBook, name: str) -> bool:
    """Put a recipe into the user's book unless there is one; return whether the one that counts is the demo's."""
    text = (SHIPPED / "recipes" / f"{name}.yaml").read_text("utf-8")
    if not book.file_for(name, USER).exists():
        book.save_text(name, text, to=USER)
    return book.source(name).text == text
