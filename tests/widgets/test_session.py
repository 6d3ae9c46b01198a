"""Live sessions without a widget: what they send, when, and to whom."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from replay import Replay

from verl_lab.widgets.comparison import Comparison
from verl_lab.widgets.comparison_session import ComparisonSession
from verl_lab.widgets.output import PANEL_MIME, told_panel
from verl_lab.widgets.panel import Panel
from verl_lab.widgets.panel_session import PanelSession
from verl_lab.widgets.source import Playback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Eventually = Callable[[Callable[[], object]], None]


class Page:
    """What was sent to a page."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, Any], Sequence[bytes]]] = []

    def send(self, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        self.heard.append((content, buffers))

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [content for content, _ in self.heard if content["type"] == kind]


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def source(recordings: Path) -> Replay:
    return Replay(recordings / "grpo-30-steps.jsonl", 12)


@pytest.fixture
def session(source: Replay, page: Page) -> Iterator[PanelSession]:
    made = PanelSession(source, page.send)
    yield made
    made.end()


def test_ready_page_gets_everything_and_a_step_brings_a_snapshot_alone(
    session: PanelSession, source: Replay, page: Page, eventually: Eventually
) -> None:
    assert page.heard == []
    session.hear({"type": "ready"})
    eventually(lambda: page.told("snapshot") and page.told("names") and page.told("findings"))
    source.play(1)
    eventually(lambda: page.told("snapshot")[-1]["header"]["step"] == source.header().step)
    assert len(page.told("names")) == 1
    session.hear({"type": "ready"})
    eventually(lambda: len(page.told("names")) == 2)


def test_answer_goes_to_who_asked_and_changes_nothing(
    session: PanelSession, page: Page, eventually: Eventually
) -> None:
    session.hear({"type": "config", "to": "one"})
    session.hear({"type": "log", "to": "other"})
    eventually(lambda: page.told("config") and page.told("log"))
    assert (page.told("config")[0]["to"], page.told("log")[0]["to"]) == ("one", "other")
    assert page.told("snapshot") == []


def test_ended_session_sends_nothing_and_hears_no_run(session: PanelSession, source: Replay, page: Page) -> None:
    session.end()
    session.hear({"type": "ready"})
    source.play(1)
    assert (page.heard, source.listeners) == ([], 0)
    assert not any(thread.name.startswith("verl-lab panel") for thread in threading.enumerate())
    session.end()


def test_what_comes_after_a_snapshot_learns_whether_more_will_come(
    source: Replay, page: Page, eventually: Eventually
) -> None:
    ends: list[bool] = []
    session = PanelSession(source, page.send, ends.append)
    session.hear({"type": "ready"})
    eventually(lambda: ends == [False])
    source.now(state="completed")
    eventually(lambda: ends[-1:] == [True])
    session.end()


def test_two_sessions_of_a_run_choose_for_themselves(source: Replay, eventually: Eventually) -> None:
    pages = (Page(), Page())
    sessions = [PanelSession(source, page.send, metrics=["actor/entropy"]) for page in pages]
    sessions[0].hear({"type": "show", "metric": "actor/grad_norm", "shown": True})
    sessions[1].hear({"type": "ready"})
    eventually(lambda: all(page.told("snapshot") for page in pages))
    shown = [[chart["metric"] for chart in page.told("snapshot")[-1]["charts"]] for page in pages]
    assert shown == [["actor/entropy", "actor/grad_norm"], ["actor/entropy"]]
    for session in sessions:
        session.end()


def test_comparison_session_follows_each_of_its_runs(page: Page, recordings: Path, eventually: Eventually) -> None:
    runs = [Replay(recordings / "grpo-30-steps.jsonl", 5, run_id=f"run-{k}") for k in range(2)]
    session = ComparisonSession(runs, page.send)
    runs[1].play(3)
    eventually(lambda: page.told("snapshot"))
    eventually(lambda: page.told("snapshot")[-1]["runs"][1]["step"] == runs[1].header().step)
    session.end()
    assert [run.listeners for run in runs] == [0, 0]


def test_output_names_its_runs_beside_the_widget(recordings: Path) -> None:
    run = Replay(recordings / "grpo-30-steps.jsonl", 5, run_id="run-a")
    other = Replay(recordings / "grpo-30-steps.jsonl", 5, run_id="run-b")
    replayed = Replay(run_id="run-c", playback=Playback(1, 9, 4, 2.5, is_playing=True))
    odd = Replay(run_id="Run D")
    widgets = [Panel(run, metrics=["actor/entropy"]), Comparison([run, other]), Panel(replayed), Panel(odd)]
    bundles = [widget._repr_mimebundle_()[0] for widget in widgets]
    assert [next(iter(bundle)) for bundle in bundles] == 4 * ["application/vnd.jupyter.widget-view+json"]
    assert [bundle.get(PANEL_MIME) for bundle in bundles] == [
        {"version": 1, "view": "run", "runs": ["run-a"], "metrics": ["actor/entropy"]},
        {"version": 1, "view": "compare", "runs": ["run-a", "run-b"], "metrics": []},
        {
            "version": 1,
            "view": "replay",
            "runs": ["run-c"],
            "metrics": [],
            "replay": {"start": 1, "end": 9, "speed": 2.5},
        },
        None,
    ]
    for widget in widgets:
        widget.close()


def test_ids_that_a_page_would_refuse_are_left_out() -> None:
    assert told_panel("run", ["<img src=x>"], []) == {}
    assert told_panel("compare", ["run-a", ""], []) == {}
