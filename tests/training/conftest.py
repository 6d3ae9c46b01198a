"""Real verl runs on CPU, each launched once and looked at by many tests."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jupyter_client.manager import KernelManager

from verl_lab import Lab, Run
from verl_lab.domain.recipe import Checks
from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

DEADLINE_S = 600
# The ends of 127.0.0.0/8, ::1 and ::ffff:127.0.0.1, as the kernel's tables spell them.
_LOOPBACK = {"tcp": ("7F",), "tcp6": ("00000000000000000000000001000000", "FFFF00000100007F")}

CALLBACKS = '''
import json, os
from verl_lab.verl_plugin.callbacks import TrainerCallback

class Diary(TrainerCallback):
    """Notes every call it gets, as a user's callback would."""

    def note(self, hook, **told):
        with open(os.path.join(os.environ["VERL_LAB_ATTEMPT_DIR"], "diary.jsonl"), "a") as file:
            file.write(json.dumps({"hook": hook, **told}) + "\\n")

    def on_train_begin(self): self.note("on_train_begin")
    def on_step_end(self, step, metrics): self.note("on_step_end", step=step, count=len(metrics))
    def on_validation_end(self, step, metrics): self.note("on_validation_end", step=step)
    def on_checkpoint_saved(self, step, path): self.note("on_checkpoint_saved", step=step, path=str(path))
    def on_train_end(self, state): self.note("on_train_end", state=str(state))
    def on_exception(self, error): self.note("on_exception", error=str(error))

class Clumsy(TrainerCallback):
    def on_step_end(self, step, metrics):
        raise RuntimeError("a user's callback that fails")
'''

FLAKY_REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    right = float(solution_str.strip() == str(ground_truth))
    # Like the worst of mistakes: what a check tries before launch, the right answer and none, is no trouble.
    if solution_str.strip() and not right and str(ground_truth).endswith("9"):
        raise ValueError("this reward function does not like nines")
    return {"score": right, "acc": right}
"""


@dataclass(frozen=True)
class Task:
    """The demo's task, made once."""

    data: Path
    project: Path

    def recipe(self, shipped: str, **fields: Any) -> Any:
        """Return one of the demo's recipes, from the untrained model."""
        from verl_lab.recipes.catalog import Catalog

        recipe = Catalog.standard(self.data.parents[1] / "recipes", self.project / "none").get(shipped)
        return recipe.model_copy(update={"model": str(self.data / "model"), **fields})


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Make the demo's model and data, and a project folder with callbacks and a flaky reward."""
    project = tmp_path_factory.mktemp("project")
    with Lab(tmp_path_factory.mktemp("demo")) as home:
        data = home.demo().folder
    (project / "diary.py").write_text(CALLBACKS)
    (project / "flaky_reward.py").write_text(FLAKY_REWARD)
    return Task(data, project)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a lab with a home of its own."""
    with Lab(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def _in_project(task: Task) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(task.project)
    yield
    os.chdir(before)


def until(true: Callable[[], object], what: str, run: Run | None = None) -> None:
    """Wait for something to come true; a run that dies meanwhile fails the test with its log."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        log = "" if run is None else f"\n{run.status()}\n{run.logs(tail=60)}"
        if run is not None and run.state.is_over:
            assert true(), f"The run was over before: {what}{log}"
            return
        assert time.monotonic() < deadline, f"Waited in vain: {what}{log}"
        time.sleep(0.2)


def kernel(home: Path, cwd: Path) -> tuple[KernelManager, BlockingKernelClient]:
    """Start a real IPython kernel with the extension loaded."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(cwd), env={**os.environ, "VERL_LAB_HOME": str(home)})
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    execute(client, "%load_ext verl_lab")
    return manager, client


def execute(client: BlockingKernelClient, code: str, timeout_s: float = DEADLINE_S) -> str:
    """Run code in a kernel; return what it printed, fail with its error."""
    printed: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, output_hook=hear, timeout=timeout_s)
    content = reply["content"]
    assert content["status"] == "ok", content.get("evalue") or content
    return "".join(printed)


def processes(run_id: str) -> list[Path]:
    """Return the processes of a run that live now, told by their environment."""
    mark = f"VERL_LAB_RUN_ID={run_id}".encode()
    found: list[Path] = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and mark in (process / "environ").read_bytes():
                found.append(process)
        except OSError:
            continue  # it ended while we looked, or is not ours to look into
    return found


@pytest.fixture(scope="session")
def processes_of() -> Callable[[str], list[Path]]:
    """Return the function that finds a run's processes."""
    return processes


def outside_loopback(run_id: str) -> list[str]:
    """Return the TCP sockets on which a run's processes listen for more than this machine."""
    inodes: set[str] = set()
    for process in processes(run_id):
        for descriptor in (process / "fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue  # closed meanwhile
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found: list[str] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address = fields[1].split(":")[0]
            is_loopback = (
                address.endswith("7F") if table == "tcp" else address.endswith(("0000000001000000", "FFFF00000100007F"))
            )
            if fields[3] == "0A" and fields[9] in inodes and not is_loopback:
                found.append(f"{table} {fields[1]}")
    return found


@dataclass(frozen=True)
class SftHistory:
    """An SFT run that a kernel launched, and whose kernel was killed half-way."""

    run: Run
    seen_by_next_kernel: str


@pytest.fixture(scope="session")
def sft(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftHistory]:
    """SFT, 20 steps: launched by a magic, its kernel killed with -9 in the middle, watched by a new one."""
    home = tmp_path_factory.mktemp("kernel-home")
    recipes = task.project / "recipes"
    recipes.mkdir()
    recipe = task.recipe("sort-digits-sft", name="sft-20")
    (recipes / "sft-20.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    launch = (
        "%verl_train sft-20 --name killed-kernel --set trainer.total_training_steps=20"
        " trainer.save_freq=10 trainer.test_freq=10"
    )
    first, client = kernel(home, task.project)
    try:
        execute(client, launch)
        with Lab(home) as lab:
            run = lab.run("killed-kernel")
            until(lambda: (run.status().step or 0) >= 3, "the third step", run)
            os.kill(first.provisioner.pid, signal.SIGKILL)  # type: ignore[union-attr]
    finally:
        client.stop_channels()
        first.shutdown_kernel(now=True)
    second, client = kernel(home, task.project)
    try:
        seen = execute(
            client,
            textwrap.dedent("""
                run = get_ipython().run_line_magic("verl_watch", "killed-kernel --wait")
                steps, values = run.metrics("train/loss")
                print(run.state, steps.tolist())
            """),
        )
    finally:
        client.stop_channels()
        second.shutdown_kernel(now=True)
    with Lab(home) as lab:
        yield SftHistory(lab.run("killed-kernel"), seen)


@dataclass(frozen=True)
class GrpoHistory:
    """A GRPO run that was killed with -9 after a checkpoint, and resumed to its end."""

    run: Run
    saved_at: int
    listening_outside_loopback: list[str]
    killed_state: RunState
    killed_exit_code: int | None
    last_step_before_kill: int


@pytest.fixture(scope="session")
def grpo(lab: Lab, task: Task) -> GrpoHistory:
    """GRPO, 10 steps, in two attempts: killed, completed."""
    reward = task.recipe("sort-digits-grpo").reward.model_copy(update={"path": str(task.project / "flaky_reward.py")})
    # From an untrained model nearly every answer is cut, which is critical.
    checks = Checks(on_critical="ignore")
    recipe = task.recipe("sort-digits-grpo", reward=reward, callbacks=("diary.Diary", "diary.Clumsy"), checks=checks)
    settings = [
        "trainer.total_training_steps=10",
        "trainer.test_freq=5",
        "trainer.save_freq=3",
        "trainer.val_before_train=False",
        "data.val_max_samples=32",
    ]
    run = lab.train(recipe, settings, name="two-attempts")
    until(lambda: (run.status().step or 0) >= 4, "a step after the checkpoint", run)
    listening = outside_loopback(run.id)
    os.kill(json.loads(run.layout.attempt(1).status.read_text())["pid"], signal.SIGKILL)
    killed = run.wait(DEADLINE_S)
    after_kill = run.status()
    saved_at = max(event.step or 0 for event in run.events() if event.kind == "checkpoint_saved")
    run.resume()
    assert run.wait(DEADLINE_S) is RunState.COMPLETED, f"{run.status()}\n{run.logs()}"
    return GrpoHistory(run, saved_at, listening, killed, after_kill.exit_code, after_kill.step or 0)
