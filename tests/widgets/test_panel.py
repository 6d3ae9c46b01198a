"""The panel's thread, its messages and its display, in a real kernel and without one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from replay import Replay

from verl_lab.widgets.panel import Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.widgets.source import PanelHeader

HERE = Path(__file__).parent


def _panel_threads() -> int:
    return sum(thread.name == "verl-lab panel" for thread in threading.enumerate())


def _sent(heard: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    contents = [message for message in heard if message["msg_type"] == "comm_msg"]
    return [m for m in contents if m["content"]["data"].get("content", {}).get("type") == kind]


def test_close_ends_thread_and_subscription_even_while_it_reads() -> None:
    source = Replay()
    reading = threading.Event()
    header = source.header

    def slow_header() -> PanelHeader:
        reading.set()
        time.sleep(0.3)
        return header()

    panel = Panel(source)
    source.header = slow_header
    source.record(1, {"train/loss": 1.0})
    assert reading.wait(20)
    assert (source.listeners, _panel_threads()) == (1, 1)
    panel.close()
    source.record(2, {"train/loss": 1.0})
    assert (source.listeners, _panel_threads()) == (0, 0)
    panel.close()


def test_thread_ends_with_the_run_and_begins_again_with_it(
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    source = Replay()
    panel = Panel(source)
    source.now(state="completed", can_stop=False)
    eventually(lambda: _panel_threads() == 0)
    source.now(state="running")
    assert _panel_threads() == 1
    panel.close()


def test_changes_are_sent_at_once_but_at_most_seven_times_a_second(kernel: Any) -> None:
    _, heard = kernel.execute(
        """
        import time
        from verl_lab.widgets.panel import Panel
        source = Replay(); panel = Panel(source)
        begun = time.monotonic()
        for step in range(200):
            source.record(step, {"train/loss": 1.0 / (step + 1)}); time.sleep(0.01)
        time.sleep(0.5); took = time.monotonic() - begun
        quiet = time.monotonic()
        time.sleep(0.6); print(took)
        """.replace("\n        ", "\n")
    )
    seconds = float(next(m["content"]["text"] for m in heard if m["msg_type"] == "stream"))
    snapshots = _sent(heard, "snapshot")
    assert 2 <= len(snapshots) <= 7 * seconds + 2
    last = snapshots[-1]
    assert last["content"]["data"]["content"]["charts"][0]["count"] == 200
    assert [len(buffer) for buffer in last["buffers"]] == [800, 800]
    _, heard = kernel.execute("time.sleep(0.6)")
    assert _sent(heard, "snapshot") == []


def test_a_failing_source_is_shown_and_a_later_change_recovers(kernel: Any) -> None:
    _, heard = kernel.execute(
        """
        from verl_lab.errors import StoreError
        names = source.metric_names
        def broken(): raise StoreError("The database is locked.", "Close the other notebook.")
        source.metric_names = broken
        source.now(); time.sleep(0.4)
        source.metric_names = lambda: 1 / 0
        source.now(); time.sleep(0.4)
        source.metric_names = names
        source.now(); time.sleep(0.4)
        """.replace("\n        ", "\n")
    )
    texts = [m["content"]["data"]["content"]["text"] for m in _sent(heard, "problem")]
    assert texts[0] == "The database is locked.\nClose the other notebook."
    assert "ZeroDivisionError" in texts[1]
    assert len(_sent(heard, "snapshot")) == 1


def test_run_that_cannot_be_judged_still_shows_its_curves_and_says_why(kernel: Any) -> None:
    _, heard = kernel.execute(
        """
        from verl_lab.errors import TransportError
        def broken(step=None): raise TransportError("Could not read config.yaml.")
        judged, source.findings = source.findings, broken
        source.now(); time.sleep(0.5)
        source.findings = judged
        """.replace("\n        ", "\n")
    )
    last = _sent(heard, "snapshot")[-1]["content"]["data"]["content"]
    assert last["charts"]
    assert last["health"]["reason"] == "Could not read config.yaml."


def test_curves_do_not_wait_for_a_slow_judgement_which_follows(kernel: Any) -> None:
    _, heard = kernel.execute(
        """
        from verl_lab.domain.finding import Finding, Severity
        def slow(step=None):
            time.sleep(0.4)
            return (Finding("r", Severity.ERROR, "train/loss", 1, 1, str(len(source.series("train/loss")[0])), "", ""),)
        quick, source.findings = source.findings, slow
        source.now(); time.sleep(1.5)
        source.record(9_000, {"train/loss": 0.5}); time.sleep(1.5)
        source.findings = quick
        """.replace("\n        ", "\n")
    )
    told = [m["content"]["data"]["content"] for m in _sent(heard, "snapshot")]
    counts = [
        (message["charts"][0]["count"], int(message["banner"]["evidence"])) for message in told if message["banner"]
    ]
    assert (counts[-1][0], counts[-1][0] - 1) in counts
    assert counts[-1][0] == counts[-1][1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"type": "show", "metric": "train/los", "shown": True}, "There is no metric 'train/los'."),
        ({"type": "erase"}, "a panel cannot do 'erase'"),
        ("nonsense", "a panel cannot do 'None'"),
    ],
)
def test_a_page_that_asks_nonsense_is_told_so(kernel: Any, content: object, problem: str) -> None:
    _, heard = kernel.execute(f"panel._handle_custom_msg({content!r}, []); time.sleep(0.4)")
    assert problem in _sent(heard, "snapshot")[-1]["content"]["data"]["content"]["problem"]


def test_library_is_sent_once_to_a_page_that_keeps_asking(kernel: Any) -> None:
    ask = "panel._handle_custom_msg({'type': 'library', 'page': 'p1'}, [])"
    printed, heard = kernel.execute(f"{ask}; {ask}; {ask}; import sys; print('plotly' in sys.modules)")
    assert [len(m["buffers"]) for m in _sent(heard, "library")] == [1]
    assert printed.strip() == "False"


def test_notebook_executed_without_a_browser_keeps_the_last_picture(tmp_path: Path, recordings: Path) -> None:
    setup = f"""
import sys, threading, time
from pathlib import Path
sys.path.append({str(HERE)!r})
from replay import Replay
from verl_lab.widgets.panel import Panel, show
source = Replay(Path({str(recordings / "grpo-30-steps.jsonl")!r}), 3)
"""
    run = """
panel = Panel(source)
def train():
    source.play(27)
    source.now(state="completed", can_stop=False)
threading.Timer(0.3, train).start()
show(panel)
while source.header().state != 'completed': time.sleep(0.01)
panel.settle()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (setup, run)])
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=60, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    view, still = notebook.cells[1].outputs
    assert "application/vnd.jupyter.widget-view+json" in view.data
    assert "image/png" not in view.data
    assert "completed" in still.data["text/plain"]
    assert "Reward" in still.data["text/plain"]
    assert still.data["image/png"] in still.data["text/html"]
    assert len(nbformat.writes(notebook)) < 400_000


def test_importing_the_panel_imports_neither_plotly_nor_matplotlib_nor_torch() -> None:
    code = "import sys, verl_lab.widgets.panel; print({'plotly', 'matplotlib', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
