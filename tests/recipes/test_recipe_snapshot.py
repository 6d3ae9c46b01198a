"""The snapshot of verl's configuration: like the verl that is installed, and all that a check needs."""

from __future__ import annotations

import filecmp
import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.environments.pins import Versions
from verl_lab.recipes.snapshot import FOLDER, chosen_version, folder_of, installed_version, versions

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("snapshot_verl", ROOT / "environments" / "snapshot_verl.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_snapshot_is_that_of_the_installed_verl(tmp_path: Path) -> None:
    taken = script()
    package, version, license_file = taken.installed()
    taken.snapshot(package, version, license_file, tmp_path / "now")
    kept = folder_of(version)
    assert files(tmp_path / "now") == files(kept), "run `make snapshot`"
    differing = [name for name in files(kept) if not filecmp.cmp(kept / name, tmp_path / "now" / name, shallow=False)]
    assert differing == [], "run `make snapshot`"


def test_a_change_in_verl_is_seen(tmp_path: Path) -> None:
    taken = script()
    package, version, license_file = taken.installed()
    changed = tmp_path / "verl"
    for folder in ("trainer", "workers", "utils", "experimental"):
        for file in (package / folder).rglob("*"):
            if file.suffix in (".py", ".yaml"):
                copy = changed / file.relative_to(package)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    algorithms = changed / "trainer" / "ppo" / "core_algos.py"
    algorithms.write_text(algorithms.read_text().replace('GRPO = "grpo"', 'GRPO = "grpo"\n    NEW = "brand_new"'))
    engine = changed / "workers" / "config" / "engine.py"
    engine.write_text(engine.read_text().replace('["fsdp", "fsdp2", "fsdp_turbo"]', '["fsdp", "fsdp2", "fsdp9"]'))
    taken.snapshot(changed, version, license_file, tmp_path / "now")
    record = json.loads((tmp_path / "now" / "declarations.json").read_text())
    assert "brand_new" in record["choices"]["algorithm.adv_estimator"]
    assert record["classes"]["FSDPEngineConfig"]["demands"] == {"strategy": ["fsdp", "fsdp2", "fsdp9"]}
    assert record["choices"]["*.strategy"] == ["fsdp", "fsdp2", "fsdp9"]


def test_a_choice_that_verl_no_longer_has_stops_the_snapshot(tmp_path: Path) -> None:
    taken = script()
    (tmp_path / "trainer" / "ppo").mkdir(parents=True)
    (tmp_path / "trainer" / "ppo" / "core_algos.py").write_text("")
    with pytest.raises(SystemExit, match="verl has no AdvantageEstimator any more"):
        taken.choices(tmp_path)


def test_there_is_a_snapshot_of_the_pinned_verl_with_its_licence() -> None:
    assert versions() == [Versions.load().verl]
    assert installed_version() == chosen_version() == versions()[-1]
    assert "Apache License" in (folder_of(chosen_version()) / "LICENSE").read_text()
    assert "Apache-2.0" in (FOLDER / "README.md").read_text()


BLOCKER = """
    import sys
    from importlib.machinery import PathFinder
    from importlib import metadata

    GONE = {"torch", "verl", "ray", "transformers", "tensordict", "vllm"}

    class Without:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return None if name.partition(".")[0] in GONE else PathFinder.find_spec(name, path, target)

        @staticmethod
        def find_distributions(context=metadata.DistributionFinder.Context()):
            found = metadata.MetadataPathFinder.find_distributions(context)
            return (one for one in found if one.metadata["Name"] not in GONE)

    sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [Without]
    try:
        import verl
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit("verl can be imported after all")
"""


def without_torch(code: str, folder: Path) -> str:
    """Run code in a process in which torch, verl and ray are not installed."""
    program = textwrap.dedent(BLOCKER) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> str:
    return f"""
        import os
        os.environ["VERL_LAB_HOME"] = {str(tmp_path / "home")!r}
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        shell.run_line_magic("load_ext", "verl_lab")
    """


def test_a_dry_run_without_torch_lists_wrong_key_type_and_batch_size(inputs: Any, shell: str, tmp_path: Path) -> None:
    mistakes = [
        "trainer.total_epoch=3",
        "actor_rollout_ref.actor.optim.lr=banana",
        "actor_rollout_ref.actor.ppo_mini_batch_size=32",
    ]
    line = " ".join(["grpo-cpu --dry-run --set", *inputs.grpo, *mistakes])
    told = without_torch(f"{shell}\n        shell.run_cell({f'%verl_train {line}'!r})", tmp_path)
    assert "'grpo-cpu' cannot be launched: 3 problems." in told
    assert "trainer.total_epoch: verl has no such setting. The nearest: trainer.total_epochs" in told
    assert "actor_rollout_ref.actor.optim.lr: 'banana' will not do; expected a number. The default is 1e-06." in told
    assert "actor_rollout_ref.actor.ppo_mini_batch_size: 32 prompts an update are more than the batch has" in told
    assert "Set it to 16 or a divisor of it." in told


def test_a_dry_run_without_torch_shows_the_plan(inputs: Any, shell: str, tmp_path: Path) -> None:
    line = " ".join(["grpo-cpu --dry-run --set", *inputs.grpo])
    told = without_torch(f"{shell}\n        shell.run_line_magic('verl_train', {line!r})._ipython_display_()", tmp_path)
    assert "verl_lab.verl_plugin.train_ppo" in told
    assert "rules will have data" in told
    assert "verl: is not installed here; settings were checked against those of verl" in told


def test_without_verl_a_launch_is_refused_before_anything_is_written(inputs: Any, tmp_path: Path) -> None:
    told = without_torch(
        f"""
        from verl_lab import Lab
        from verl_lab.errors import EnvironmentMismatchError
        with Lab({str(tmp_path / "home")!r}) as lab:
            try:
                lab.train("grpo-cpu", {inputs.grpo!r})
            except EnvironmentMismatchError as error:
                print(error)
            print(lab.runs())
        """,
        tmp_path,
    )
    assert "verl is not installed here, so nothing can be trained." in told
    assert told.splitlines()[-1] == "[]"
