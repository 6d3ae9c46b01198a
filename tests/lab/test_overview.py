"""``lab.overview``: the list of runs, kept up to date while somebody looks."""

from __future__ import annotations

import math
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.lab.overview import News
    from verl_lab.lab.summary import RunSummary


def rows_when(lab: Lab, holds: Callable[[dict[str, RunSummary]], object]) -> dict[str, RunSummary]:
    """Return the rows by name, once something holds of them."""
    deadline = time.monotonic() + 60
    while not holds(found := {row.name: row for row in lab.overview.rows()}):
        if time.monotonic() > deadline:
            pytest.fail(f"What was awaited did not come: {found}")
        time.sleep(0.05)
    return found


def test_runs_that_are_over_are_judged_and_not_followed(lab: Lab, write_run: Callable[..., Any]) -> None:
    for name in ("one", "two"):
        write_run(name).begin().steps(1, 20, "critic/score/mean", lambda _: math.nan).status(
            "failed", ended=time.time()
        )
    write_run("live").begin().steps(1, 5, "critic/score/mean", float)
    found = rows_when(lab, lambda rows: all(row.health is not None for row in rows.values()))
    assert found["one"].worst == "critical"
    assert found["one"].can_resume
    assert found["live"].can_stop
    ids = {name: row.id for name, row in found.items()}

    def followed() -> list[str]:
        return [name for name, run_id in ids.items() if lab.reader.is_following(run_id)]

    rows_when(lab, lambda _: followed() == ["live"])


def test_what_other_processes_make_and_remove_is_seen(lab: Lab, write_run: Callable[..., Any]) -> None:
    gone = write_run("gone").begin().steps(1, 3, "train/loss", float)
    rows_when(lab, lambda rows: "gone" in rows and rows["gone"].step == 3)
    write_run("later").begin().steps(1, 7, "train/loss", float)
    rows_when(lab, lambda rows: "later" in rows and rows["later"].spark is not None)
    shutil.rmtree(gone.layout.folder)
    row = rows_when(lab, lambda rows: len(rows) == 2)["gone"]
    assert row.step == 3


def test_news_is_what_changed_and_each_finding_once(lab: Lab, write_run: Callable[..., Any]) -> None:
    run = write_run("run").begin().steps(1, 10, "critic/score/mean", lambda _: 1.0)
    rows_when(lab, lambda rows: rows and rows["run"].health is not None)
    heard: list[News] = []
    end = lab.overview.subscribe(heard.append)
    run.steps(11, 15, "critic/score/mean", lambda _: math.nan)
    rows_when(lab, lambda _: any(news.findings for news in heard))
    run.steps(16, 19, "critic/score/mean", lambda _: math.nan)
    rows_when(lab, lambda _: heard[-1].rows and heard[-1].rows[-1].step == 19)
    told = [(finding.rule, finding.severity) for news in heard for _, finding in news.findings]
    assert len(told) == len(set(told)) > 0
    end()
    count = len(heard)
    run.steps(20, 22, "critic/score/mean", lambda _: math.nan)
    rows_when(lab, lambda rows: rows["run"].step == 22)
    assert len(heard) == count


def test_one_damaged_folder_hides_no_other(lab: Lab, write_run: Callable[..., Any]) -> None:
    write_run("sound").begin()
    for name, content in (("a", "{"), ("b", '{"version": 1, "recipe": 5}'), ("c", '{"version": 99}')):
        folder = lab.settings.runs_root / f"bad-{name}"
        folder.mkdir()
        (folder / "run.json").write_text(content)
    (lab.settings.runs_root / "Not a Run Id").mkdir()
    (lab.settings.runs_root / "Not a Run Id" / "run.json").write_text("{}")
    assert [run.name for run in lab.runs()] == ["sound"]
    assert [row.name for row in lab.overview.rows()] == ["sound"]


def test_thread_ends_with_the_lab(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Lab(tmp_path / "home") as lab:
        lab.overview.rows()
        assert set(threading.enumerate()) != before
    assert set(threading.enumerate()) <= before
