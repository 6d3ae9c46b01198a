"""A launch looks at the machine that is to train: what it has, what is in use there, and which other one has room."""

from __future__ import annotations

import getpass
import hashlib
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ssh_server import QUICK, Server

from verl_lab.domain.recipe import Recipe, Reward
from verl_lab.errors import InvalidConfigurationError
from verl_lab.lab.hosts.room import asked, machine_of, room_notes, with_room
from verl_lab.lab.launching.checks import rendered_for
from verl_lab.lab.launching.code import code_problems, lay_code, records_of
from verl_lab.recipes.imports import user_code
from verl_lab.recipes.memory import MemoryEstimate
from verl_lab.recipes.plan import make_plan
from verl_lab.recipes.validate import check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssh_fixtures import Elsewhere

    from verl_lab import Lab
    from verl_lab.domain.recipe import Device, Problem
    from verl_lab.recipes.render import Rendered

# As nvidia-smi writes them: index, name, memory used and whole (MiB), use, temperature, power.
FREE = "{}, NVIDIA H200, 0, 143771, 0, 28, 76.64\n"
FULL = "{}, NVIDIA H200, 131072, 143771, 98, 71, 688.10\n"
HALF = "{}, NVIDIA H200, 60000, 143771, 40, 60, 400.00\n"
SMALL = "{}, NVIDIA T4, 0, 15360, 0, 28, 20.00\n"


class Machines:
    """Hosts over one real SSH server, each with a Python that sees an nvidia-smi of its own."""

    def __init__(self, lab: Lab, server: Server, folder: Path) -> None:
        self._lab = lab
        self._server = server
        self._folder = folder
        lab.hosts.timings = QUICK

    def add(self, name: str, *gpus: str) -> None:
        """Add a host with GPUs that are what these lines say."""
        place = self._folder / name
        (place / "bin").mkdir(parents=True)
        (place / "said").write_text("".join(line.format(k) for k, line in enumerate(gpus)))
        self._write(place / "bin" / "nvidia-smi", f"cat {shlex.quote(str(place / 'said'))}")
        python = place / "python"
        path = f"{place / 'bin'}:/usr/bin:/bin"
        self._write(python, f'PATH={shlex.quote(path)} exec {shlex.quote(sys.executable)} "$@"')
        shown = subprocess.run(
            ["ssh-keygen", "-lf", self._server.host_key], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        where = ("127.0.0.1", self._server.port, getpass.getuser(), str(self._server.user_key))
        self._lab.hosts.add(name, *where, runs_root=str(place / "root"), python=str(python), accept=shown)

    @staticmethod
    def _write(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


@pytest.fixture
def machines(lab: Lab, sshd: Server, tmp_path: Path, home: Path) -> Machines:
    del home  # without keys
    return Machines(lab, sshd, tmp_path / "machines")


def told(
    lab: Lab,
    name: str,
    *overrides: str,
    device: Device = "gpu",
    needs_gib: float | None = 20,
    for_launch: bool = True,
) -> list[Problem]:
    """Return what is told of the room for a recipe on a host; it needs so much on each GPU."""
    report = asked(lab.hosts, name)
    checked = check(lab.recipes.get("sft"), overrides, device=device, machine=machine_of(report))
    needed = None if needs_gib is None else needs_gib * 2**30
    estimate = needed and MemoryEstimate({"weights": needed}, {}, needed, None, "each GPU", int(needed // 16))
    found = with_room(lab.hosts, report, replace(checked, memory=estimate or None), for_launch=for_launch)
    return [one for one in found.problems if one.key in ("resources.gpus", "host")]


def test_host_with_too_few_gpus_is_refused_and_one_with_room_is_named(lab: Lab, machines: Machines) -> None:
    machines.add("box", FREE)
    machines.add("big", FREE, FREE, FREE)
    machines.add("full", FULL, FULL)
    (problem,) = told(lab, "box", "resources.gpus=2")
    assert (problem.severity, problem.value) == ("error", 2)
    assert str(problem) == ("resources.gpus: 2 GPUs are asked for, and box has 1. Set it to 1. There is room on big.")
    assert told(lab, "big", "resources.gpus=2") == []
    assert told(lab, "box") == []


def test_full_gpus_refuse_where_it_cannot_fit_and_warn_where_it_may(lab: Lab, machines: Machines) -> None:
    machines.add("full", FULL)
    machines.add("half", HALF)
    machines.add("mixed", FULL, FREE)
    machines.add("idle", FREE)
    (problem,) = told(lab, "full")
    assert problem.severity == "error"
    assert problem.message == ("in use on full: GPU 0 (128 of 140 GiB). 20.0 GiB is the least that it needs on each.")
    assert problem.suggestion == "Wait until they are free. There is room on idle, mixed."
    (problem,) = told(lab, "half")
    assert (problem.severity, problem.message) == ("warning", "in use on half: GPU 0 (59 of 140 GiB).")
    (problem,) = told(lab, "half", needs_gib=100)
    assert problem.severity == "error"
    (problem,) = told(lab, "mixed")
    assert problem.severity == "warning", "the other one is free"
    assert "Free there: 1." in str(problem.suggestion)
    assert [one.severity for one in told(lab, "full", needs_gib=None)] == ["error"], "less than half is free"
    assert [one.severity for one in told(lab, "half", needs_gib=None)] == ["warning"]
    assert [one.severity for one in told(lab, "full", for_launch=False)] == ["warning"], "a plan is for later"


def test_recipe_is_measured_against_the_hosts_memory(lab: Lab, machines: Machines) -> None:
    machines.add("small", SMALL)
    machines.add("none")
    assert machine_of(asked(lab.hosts, "small")).gpu_memories == (15360 << 20,)
    (problem,) = told(lab, "none")
    assert problem.message == "A GPU is asked for, and none has none."
    report = asked(lab.hosts, "none")
    assert report.memory is not None
    assert machine_of(report).memory == report.memory.total_bytes
    (problem,) = told(lab, "none", device="cpu", needs_gib=10_000)
    assert problem.severity == "error"
    assert "of memory are left on none" in problem.message


def test_checkpoint_that_does_not_fit_on_the_disk_is_told(lab: Lab, machines: Machines) -> None:
    machines.add("box", FREE)
    report = asked(lab.hosts, "box")
    assert report.disk is not None
    cramped = replace(report, disk=replace(report.disk, free_bytes=2**30))
    checked = check(lab.recipes.get("sft"), ["trainer.save_freq=5"], device="gpu", machine=machine_of(report))
    needed = MemoryEstimate({"weights": 1.0}, {}, 1.0, None, "each GPU", 10**9)
    problems = with_room(lab.hosts, cramped, replace(checked, memory=needed)).problems
    (problem,) = [one for one in problems if one.message.startswith("a checkpoint takes")]
    assert problem.severity == "warning"
    assert problem.message == "a checkpoint takes about 11.2 GiB, and 1.0 GiB are free on box."
    assert "Make room at" in str(problem.suggestion)


def test_host_that_does_not_say_what_it_has_is_trained_on_with_a_warning(lab: Lab, machines: Machines) -> None:
    machines.add("box", "nonsense\n")
    (problem,) = told(lab, "box", "resources.gpus=8")
    assert problem.severity == "warning"
    assert "the GPUs of box are not known: nvidia-smi answered 'nonsense'" in problem.message
    lab.hosts.edit("box", python="/no/such/python")
    (problem,) = told(lab, "box")
    assert problem.severity == "warning"
    assert "what box has is not known" in problem.message


def test_what_was_told_at_launch_of_the_machine_alone_is_shown(lab: Lab, write_run: Callable[..., Any]) -> None:
    run = write_run("noted").begin()
    record = json.loads(run.layout.record.read_text())
    record["warnings"] = ["host: in use on box: GPU 0 (59 of 140 GiB).", "trainer.save_freq: another thing."]
    run.layout.record.write_text(json.dumps(record))
    assert room_notes(run.run) == record["warnings"][:1]


def write_reward(folder: Path, text: str) -> Recipe:
    folder.mkdir(exist_ok=True)
    (folder / "reward.py").write_text(text)
    return Recipe(name="mine", algorithm="grpo", reward=Reward(path=str(folder / "reward.py")))


def test_modules_are_laid_beside_the_run_and_recorded(
    lab: Lab, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "__init__.py").write_text("from kit import wheel")
    (tmp_path / "kit" / "wheel.py").write_text("name = 'wheel'")
    code = user_code(make_plan(write_reward(tmp_path / "rewards", "import kit, json"), (), "cpu"), Path.cwd())
    folder = str(elsewhere.folder / "run")
    assert elsewhere.host.stat(folder) is None
    place = lay_code(elsewhere.host, folder, code)
    assert place == f"{folder}/code"
    assert elsewhere.host.read(f"{place}/kit/wheel.py") == b"name = 'wheel'"
    done = elsewhere.host.run(
        ["sh", "-c", f"cd {shlex.quote(place)} && {sys.executable} -c 'import kit; print(kit.wheel.name)'"],
        timeout_s=20,
    )
    assert done.stdout == b"wheel\n"
    one = next(one for one in records_of(code) if one["module"] == "kit.wheel")
    assert one == {
        "module": "kit.wheel",
        "path": str(tmp_path / "kit" / "wheel.py"),
        "hash": hashlib.sha256(b"name = 'wheel'").hexdigest(),
        "size": 14,
    }


def test_module_that_the_host_lacks_refuses_the_launch_by_name(
    lab: Lab, machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.add("box")
    monkeypatch.chdir(tmp_path)
    text = "import json, no_such_module.deep\ntry:\n    import another_one\nexcept ImportError:\n    pass\n"
    code = user_code(make_plan(write_reward(tmp_path / "rewards", text), (), "cpu"), Path.cwd())
    (problem,) = code_problems(code, lab.hosts.get("box"), sys.executable)
    assert problem.key == "reward.custom_reward_function.path"
    assert f"{tmp_path}/rewards/reward.py imports no_such_module.deep, which box does not have." in str(problem)
    assert f"{sys.executable} -m pip install" in str(problem)

    def rendered(callback: str) -> Rendered:
        recipe = lab.recipes.get("sft-cpu").model_copy(update={"callbacks": (callback,)})
        return rendered_for(lab.hosts, "box", recipe, inputs(tmp_path), device="cpu", python=sys.executable)

    with pytest.raises(InvalidConfigurationError, match=r"the callback gone\.Watch imports gone, which box does not"):
        rendered("gone.Watch")
    (tmp_path / "gone.py").write_text("")
    assert rendered("gone.Watch").callbacks == ("gone.Watch",)


def inputs(folder: Path) -> Sequence[str]:
    """Return overrides that give SFT a model and data."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text("{}")
    Tokenizer(WordLevel({"?": 0}, unk_token="?")).save(str(folder / "model" / "tokenizer.json"))  # noqa: S106
    (folder / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    talk: list[dict[str, Any]] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    pq.write_table(pa.Table.from_pylist([{"messages": talk}] * 256), folder / "sft.parquet")
    return [f"model={folder}/model", f"data.train={folder}/sft.parquet", f"data.val={folder}/sft.parquet"]
