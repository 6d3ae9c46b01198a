"""The magics in a real IPython shell."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell


def test_help_is_the_magics_documentation(shell: Shell) -> None:
    told = shell.run("%verl_train?").printed
    for part in ("RECIPE", "--set", "--name", "--wait", "--dry-run", "Launch verl"):
        assert part in told
    assert "usage: %verl_stop" in shell.run("%verl_stop --help").printed


def test_every_magic_has_help(shell: Shell) -> None:
    lines = shell.shell.magics_manager.lsmagic_docs()["line"]
    ours = {name: doc for name, doc in lines.items() if name.startswith("verl_")}
    assert set(ours) == {
        "verl_train", "verl_watch", "verl_runs", "verl_stop", "verl_resume", "verl_logs", "verl_recipes", "verl_env",
        "verl_debug", "verl_demo", "verl_health", "verl_diagnose", "verl_backtest", "verl_compare",
        "verl_diff", "verl_lineage", "verl_recommend", "verl_data", "verl_hosts", "verl_report",
    }  # fmt: skip
    assert all(doc.startswith("usage:") for doc in ours.values()), ours


def test_unknown_recipe_names_the_nearest_without_traceback(shell: Shell) -> None:
    answer = shell.run("%verl_train grpo-cpuu")
    assert "grpo-cpu" in answer.told
    assert "Traceback" not in answer.printed
    assert "NotFoundError" in shell.run("%verl_debug").printed


def test_unknown_configuration_key_is_refused_with_the_nearest(shell: Shell) -> None:
    told = shell.run("%verl_train grpo-cpu --dry-run --set trainer.total_trainin_steps=3").told
    assert "trainer.total_trainin_steps" in told
    assert "trainer.total_training_steps" in told


def test_wrong_type_is_refused_before_launch(shell: Shell, tmp_path: Path) -> None:
    told = shell.run("%verl_train grpo-cpu --set actor_rollout_ref.actor.optim.lr=banana").told
    assert "banana" in told
    assert "actor_rollout_ref.actor.optim.lr" in told
    assert not list((tmp_path / "home" / "runs").iterdir())


def test_missing_files_are_all_named_at_once(shell: Shell) -> None:
    told = shell.run("%verl_train sft-cpu --set model.path=/no/model data.train_files=/no/data.parquet").told
    assert "/no/model" in told
    assert "/no/data.parquet" in told


def test_line_that_does_not_parse_shows_the_usage(shell: Shell) -> None:
    assert "usage: %verl_train" in shell.run("%verl_train").told
    assert "--tail" in shell.run("%verl_logs --tail many").told
    assert "split" in shell.run("%verl_train 'open").told


def test_unknown_run_names_the_next_step(shell: Shell) -> None:
    assert "nothing" in shell.run("%verl_runs").printed or "No runs yet" in repr(shell.run("%verl_runs").result)
    assert "no run 'grpo'" in shell.run("%verl_stop grpo").told
    assert "%verl_train" in shell.run("%verl_watch").told


def test_cell_takes_overrides_as_lines_and_as_yaml(shell: Shell) -> None:
    lines = shell.run("%%verl_train grpo-cpu --dry-run\n# a comment\ntrainer.total_trainin_steps=3\ndata.trai_files=x")
    nested = shell.run("%%verl_train grpo-cpu --dry-run\ntrainer:\n  total_trainin_steps: 3\ndata: {trai_files: x}")
    for answer in (lines, nested):
        assert "trainer.total_trainin_steps" in answer.told
        assert "data.trai_files" in answer.told
    assert "expected a mapping" in shell.run("%%verl_train grpo-cpu --dry-run\n- a\n- b").told


@pytest.mark.parametrize("name", ["grpo-30-steps.jsonl", "grpo-30-steps.console.log"])
def test_watching_a_log_of_someone_elses_gives_a_run(shell: Shell, recordings: Path, name: str) -> None:
    run = shell.run(f"run = %verl_watch {recordings / name}\nrun").result
    steps, score = run.metrics("critic/score/mean")  # type: ignore[attr-defined]
    assert steps.tolist() == list(range(1, 31))
    assert score[-1] > score[0]
    assert name in repr(shell.run("%verl_runs").result)


@pytest.mark.parametrize("path", ["./nothing.jsonl", "./folder", "./prose.log"])
def test_watching_what_is_no_log_says_what_was_expected(shell: Shell, tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "prose.log").write_text("Dear diary,\ntoday nothing was trained.\n")
    told = shell.run(f"%verl_watch {path}").told
    assert path.removeprefix("./") in told
    assert "verl" in told


def test_tab_completes_recipes_runs_metrics_and_keys(shell: Shell, recordings: Path) -> None:
    assert "%verl_train grpo-cpu" in shell.complete("%verl_train grp")
    assert "%verl_train grpo-cpu --set trainer.total_epochs=" in shell.complete(
        "%verl_train grpo-cpu --set trainer.total_e"
    )
    assert "%verl_train grpo-cpu --dry-run" in shell.complete("%verl_train grpo-cpu --dr")
    assert "%%verl_train grpo-cpu\ntrainer.total_epochs=" in shell.complete("%%verl_train grpo-cpu\ntrainer.total_e")
    run = shell.run(f"run = %verl_watch {recordings / 'grpo-30-steps.jsonl'}\nrun").result
    offered = shell.complete(f"%verl_watch {run.id[:12]}")  # type: ignore[attr-defined]
    assert f"%verl_watch {run.id}" in offered  # type: ignore[attr-defined]
    assert any(c.endswith("actor/entropy") for c in shell.complete(f"%verl_watch {run.id} --metrics actor/e"))  # type: ignore[attr-defined]


def test_reloading_the_extension_leaves_no_thread(shell: Shell, recordings: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        shell.run(f"%verl_watch {recordings / 'sft-60-steps.jsonl'}")
        shell.run("%reload_ext verl_lab")
        left = [t for t in threading.enumerate() if t.name.startswith("verl-lab") and t not in before]
        assert not left
