"""How an attempt ends: state, exit code and reason."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState
from verl_lab.domain.wire import decode_event

if TYPE_CHECKING:
    from .conftest import Bench

INLINE = (sys.executable, "-c")


def test_run_that_reaches_its_last_step_completes(bench: Bench):
    bench.start("done", "steps=4")
    status = bench.finish("done")
    assert (status.state, status.exit_code, status.reason) == (RunState.COMPLETED, 0, None)
    assert (status.step, status.total, status.phase) == (4, 4, None)
    assert status.started is not None
    assert status.ended is not None
    assert status.started <= status.ended
    kinds = bench.kinds("done")
    assert (kinds[0], kinds[-1]) == ("attempt_started", "attempt_ended")
    assert bench.events("done")[-1].data == {"exit_code": 0, "state": "completed", "reason": None}
    assert "step 4" in bench.attempt("done").log.read_text()


def test_exit_zero_before_the_last_step_is_a_failure(bench: Bench):
    bench.start("early", "steps=2", "total=9", "early")
    status = bench.finish("early")
    assert (status.state, status.exit_code) == (RunState.FAILED, 0)
    assert status.reason == "Training ended early at step 2 of 9."


def test_exit_code_is_recorded_with_the_last_error_of_the_log(bench: Bench):
    bench.start("crash", "crash", "quiet")
    status = bench.finish("crash")
    assert (status.state, status.exit_code) == (RunState.FAILED, 1)
    assert status.reason == "verl did not load the verl-lab plugin. ValueError: the reward is not a number"


def test_reason_is_the_last_exception_event(bench: Bench):
    bench.start("raises", "crash")
    assert bench.finish("raises").reason == "OutOfMemoryError: no room for 7 tokens"


@pytest.mark.parametrize("code", [2, 77])
def test_exit_code_without_a_word_is_named(bench: Bench, code: int):
    bench.start("mute", argv=(*INLINE, f"raise SystemExit({code})"))
    status = bench.finish("mute")
    assert (status.state, status.exit_code) == (RunState.FAILED, code)
    assert status.reason == (
        f"verl did not load the verl-lab plugin. Training ended with exit code {code} before its first step."
    )


def test_plugin_that_failed_is_the_reason(bench: Bench):
    tell = (
        "import os,json; f=open(os.environ['VERL_LAB_ATTEMPT_DIR']+'/events.jsonl','a');"
        "f.write(json.dumps({'seq':0,'kind':'plugin_failed','data':{'error':'ImportError: no such thing'}})+'\\n');"
        "f.close(); raise SystemExit(3)"
    )
    bench.start("unplugged", argv=(*INLINE, tell))
    assert bench.finish("unplugged").reason == "verl-lab's plugin failed inside verl: ImportError: no such thing"


def test_killed_trainer_is_recorded_as_137(bench: Bench):
    bench.start("killed", "steps=9999")
    bench.at_step("killed")
    os.kill(bench.status_file("killed")["pid"], signal.SIGKILL)
    status = bench.finish("killed")
    assert (status.state, status.exit_code) == (RunState.FAILED, 137)
    assert "SIGKILL, often the kernel's out-of-memory killer" in (status.reason or "")


def test_program_that_does_not_exist_is_named(bench: Bench):
    bench.start("absent", argv=("/no/such/program", "x"))
    status = bench.finish("absent")
    assert (status.state, status.exit_code) == (RunState.FAILED, 127)
    assert "'/no/such/program'" in (status.reason or "")


def test_colour_and_ray_prefix_do_not_hide_the_error(bench: Bench):
    say = "print('\\x1b[36m(TaskRunner pid=7)\\x1b[0m RuntimeError: lost a rank'); print('bye'); raise SystemExit(1)"
    bench.start("coloured", argv=(*INLINE, say))
    assert (bench.finish("coloured").reason or "").endswith(" RuntimeError: lost a rank")


def test_torn_and_foreign_lines_in_events_do_not_matter(bench: Bench):
    spoil = (
        "import os; f=open(os.environ['VERL_LAB_ATTEMPT_DIR']+'/events.jsonl','ab');"
        'f.write(b\'\\xff\\n[1]\\n{"kind": 7}\\n{"kind": "train_end", "data": 3}\\n{"torn\'); f.close()'
    )
    bench.start("torn", argv=(*INLINE, spoil))
    status = bench.finish("torn")
    assert (status.state, status.exit_code) == (RunState.FAILED, 0)
    last = bench.attempt("torn").events.read_bytes().splitlines()[-1]
    assert decode_event(last).kind == "attempt_ended"
