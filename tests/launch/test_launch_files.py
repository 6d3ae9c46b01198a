"""What a launch writes, and that its command arrives as it was given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState
from verl_lab.domain.wire import RunLayout, decode_header
from verl_lab.errors import FormatError, InvalidInputError, LaunchError, NotFoundError
from verl_lab.launch.launcher import Launcher, LaunchSpec, read_status
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .conftest import Bench

SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
NASTY = ["", " ", "a b", "it's", '"q"', "$(touch x)", "`id`", "a\nb", "-n", "*", "\\", "é…", "\udcff", "@home@", "&&"]


def spec(run: str, *argv: str, **env: str) -> LaunchSpec:
    return LaunchSpec(run, "n", argv or ("true",), env, "/", "a: 1\n", "true")


def test_run_folder_has_the_layout_of_the_wire_format(bench: Bench):
    folder = bench.start("laid-out", "steps=2")
    bench.finish("laid-out")
    layout = RunLayout(folder)
    attempt = layout.attempt(1)
    assert {p.name for p in folder.iterdir()} == {
        *(p.name for p in (layout.record, layout.config, layout.command, layout.attempts)),
        *("supervisor.lock", "supervisor.log"),
    }
    written = {p.name for p in attempt.folder.iterdir()}
    assert {p.name for p in (attempt.status, attempt.events, attempt.log, layout.command, attempt.progress)} == written
    assert (folder / "supervisor.log").read_bytes() == b""


def test_run_is_withdrawn_before_it_begins_and_not_after(bench: Bench):
    folder = bench.create("withdrawn", "steps=1")
    bench.launcher.withdraw("withdrawn")
    assert not folder.exists()
    begun = bench.start("begun", "steps=1")
    with pytest.raises(LaunchError, match="has begun"):
        bench.launcher.withdraw("begun")
    bench.finish("begun")
    assert RunLayout(begun).record.exists()


def test_stop_request_is_read_where_the_wire_format_has_it(bench: Bench):
    bench.start("asked", "steps=9999")
    bench.at_step("asked")
    bench.attempt("asked").stop_request.write_text('{"mode": "graceful", "time": 0, "grace_s": 60}')
    assert bench.finish("asked").state is RunState.STOPPED


def test_events_of_the_supervisor_are_those_of_the_wire_format(bench: Bench):
    bench.start("told", "steps=2", "step_s=600")
    bench.until("told", lambda status: status.phase == "training")
    bench.launcher.stop("told", now=True)
    bench.finish("told")
    header = decode_header(bench.attempt("told").events.read_bytes().splitlines()[0])
    status = bench.status_file("told")
    assert (header.run, header.attempt, header.boot_id) == ("told", 1, status["boot_id"])
    assert (header.pid, header.process_start) == (status["supervisor_pid"], status["supervisor_start"])
    own = [event for event in bench.events("told") if event.source == "supervisor"]
    assert [event.kind for event in own] == ["attempt_started", "stop_requested", "stop_escalated", "attempt_ended"]
    assert [event.seq for event in own] == [0, 1, 2, 3]
    assert own[2].data == {"signal": "SIGINT"}


def test_status_file_has_every_field(bench: Bench):
    bench.start("fields", "steps=1")
    bench.finish("fields")
    assert set(bench.status_file("fields")) == {
        *("version", "run", "attempt", "state", "step", "total", "phase", "reason", "exit_code", "pid"),
        *("process_start", "boot_id", "supervisor_pid", "supervisor_start", "started", "updated", "ended"),
    }


def test_arguments_and_variables_arrive_untouched(bench: Bench):
    bench.start("nasty", argv=(sys.executable, "-c", SHOW, *NASTY), ODD="a 'b'\n$(touch x) \udcff")
    bench.finish("nasty")
    argv, environment, cwd = json.loads(bench.attempt("nasty").log.read_text())
    assert argv == NASTY
    assert environment["ODD"] == "a 'b'\n$(touch x) \udcff"
    assert environment["VERL_LAB_RUN_ID"] == "nasty"
    assert environment["VERL_LAB_ATTEMPT"] == "1"
    assert environment["VERL_LAB_ATTEMPT_DIR"] == str(bench.attempt("nasty").folder)
    assert cwd == str(bench.root)
    assert bench.kinds("nasty") == ["attempt_started", "attempt_ended"]


def test_recorded_command_does_the_same_when_a_shell_runs_it(bench: Bench):
    bench.start("copied", argv=(sys.executable, "-c", SHOW, *NASTY), ODD="a 'b'\n$(touch x)")
    bench.finish("copied")
    first = json.loads(bench.attempt("copied").log.read_text())
    script = bench.attempt("copied").folder / "command.txt"
    again = json.loads(subprocess.run(["bash", str(script)], check=True, capture_output=True).stdout)
    assert (again[0], again[2]) == (first[0], first[2])
    for name in ("ODD", "VERL_LAB_ATTEMPT_DIR", "VERL_LAB_RUN_ID", "VERL_LAB_ATTEMPT"):
        assert again[1][name] == first[1][name]


def test_tokens_are_replaced_once_and_the_scratch_folder_goes(bench: Bench):
    words = ("x=@run@/checkpoints", "@attempt@", "tmp=@scratch@", "@scratch@@")
    bench.start("tokens", argv=(sys.executable, "-c", SHOW + "; os.mkdir(sys.argv[3][4:] + '/ray')", *words), A="@run@")
    bench.finish("tokens")
    argv, environment, _ = json.loads(bench.attempt("tokens").log.read_text())
    scratch = Path(argv[2].removeprefix("tmp="))
    run = bench.root / "tokens"
    assert argv == [f"x={run}/checkpoints", f"{run}/attempts/1", f"tmp={scratch}", f"{scratch}@"]
    assert environment["A"] == str(run)
    assert str(scratch).startswith("/tmp/vl-")  # noqa: S108
    assert len(str(scratch)) == len("/tmp/vl-xxxxxxxx")  # noqa: S108
    assert not scratch.exists()


def test_first_record_of_a_run_stands(bench: Bench):
    first = bench.launcher.create(spec("once", "true", A="1"))
    assert bench.launcher.create(spec("once", "false", B="2")) == first
    record = bench.launcher.read_record("once")
    assert record["launch"] == {"argv": ["true"], "env": {"A": "1"}, "cwd": "/"}
    assert (record["version"], record["run"], record["name"]) == (1, "once", "n")


def test_record_keeps_further_fields(bench: Bench):
    bench.create("rich")
    assert bench.launcher.read_record("rich")["recipe"] == {"name": "toy"}
    assert bench.launcher.read_record(str(bench.root / "rich"))["recipe"] == {"name": "toy"}


def test_record_of_a_newer_version_is_refused(bench: Bench):
    folder = bench.create("newer")
    (folder / "run.json").write_text('{"version": 2}')
    with pytest.raises(FormatError, match="version: 2"):
        bench.launcher.read_record("newer")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{", "no launch record"),
        ("[]", "no launch record"),
        ('{"launch": {}}', "no launch record"),
        ('{"launch": {"argv": [], "cwd": "/"}}', "must be text"),
        ('{"launch": {"argv": [1], "cwd": "/"}}', "must be text"),
    ],
)
def test_broken_record_is_a_launch_error(bench: Bench, broken: str, said: str):
    folder = bench.create("broken")
    (folder / "run.json").write_text(broken)
    with pytest.raises(LaunchError, match=said):
        bench.launcher.start("broken")
    assert bench.launcher.status("broken").state is RunState.CREATED


@pytest.mark.parametrize("garbled", ["{", "[]", '{"attempt": 1, "state": "dancing"}', "\udcff"])
def test_garbled_status_is_a_format_error(bench: Bench, garbled: str):
    folder = bench.create("garbled")
    attempt = RunLayout(folder).attempt(1)
    attempt.folder.mkdir(parents=True)
    attempt.status.write_bytes(garbled.encode(errors="surrogateescape"))
    for look in (bench.launcher.read_status, bench.launcher.status):
        if "dancing" in garbled and look == bench.launcher.status:
            continue  # nobody works on it, whatever it says: it is lost
        with pytest.raises(FormatError):
            look("garbled")


def test_folder_that_cannot_be_written_is_a_launch_error(bench: Bench):
    folder = bench.create("blocked")
    (folder / "attempts").write_text("a file where a folder belongs")
    with pytest.raises(LaunchError, match="Attempt 1 cannot begin"):
        bench.launcher.start("blocked")


@pytest.mark.parametrize(
    ("bad", "field"),
    [(spec("x", "a\0b"), "argv"), (spec("x", "true", A="\0"), "env"), (spec("x", "true", **{"A=B": "1"}), "env"),
     (spec("x", "true", **{"": "1"}), "env"), (LaunchSpec("x", "n", (), {}, "/", "", ""), "argv"),
     (LaunchSpec("x", "n", ("true",), {}, "/\0", "", ""), "cwd")],
)  # fmt: skip
def test_command_no_system_can_pass_is_refused_with_its_field(bench: Bench, bad: LaunchSpec, field: str):
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        bench.launcher.create(bad)
    assert list(bench.root.iterdir()) == []


def test_hostile_run_ids_are_refused(bench: Bench, dice: random.Random, rounds: Callable[[int], int]):
    parts = ["..", "/", "a", "%2e", ";", "\n", "$(id)", " ", "-", "A", "\0", "é", "~", "*", "'", "\\", "1"]
    fixed = ["", "..", "../x", "a/b", "a;b", "a\n", "$(id)", "a b", "-a", "a-", "a--b", "A", "é", "x" * 81, "%2e%2e"]
    drawn = ["".join(dice.choices(parts, k=dice.randint(1, 6))) for _ in range(rounds(1000))]
    launcher = bench.launcher
    calls = [lambda r: launcher.create(spec(r)), launcher.start, launcher.status, launcher.stop, launcher.resume,
             launcher.read_record, launcher.read_status]  # fmt: skip
    for run in [*fixed, *drawn]:
        for call in calls:
            if run.startswith("/") or set(run) <= set("a1-"):
                continue  # a folder's path, or perhaps a real id
            with pytest.raises(InvalidInputError, match="run id"):
                call(run)
    assert list(bench.root.iterdir()) == []


def test_unknown_run_names_the_nearest(bench: Bench):
    bench.create("sort-digits")
    for call in (bench.launcher.start, bench.launcher.stop, bench.launcher.resume, bench.launcher.status):
        with pytest.raises(NotFoundError, match="sort-digits"):
            call("sort-digit")


def test_created_run_is_created_and_has_nothing_to_stop_or_resume(bench: Bench):
    folder = bench.create("fresh")
    assert bench.launcher.status("fresh").state is RunState.CREATED
    assert read_status(LocalHost(), str(folder)).attempt == 0
    with pytest.raises(InvalidInputError, match="created"):
        bench.launcher.stop("fresh")
    with pytest.raises(InvalidInputError, match="not been started"):
        bench.launcher.resume("fresh")


def test_host_that_is_not_local_gives_the_same_status(bench: Bench):
    class Far(LocalHost):
        @property
        def name(self) -> str:
            return "far"

    bench.start("there", "steps=1")
    near = bench.finish("there")
    assert Launcher(Far(), str(bench.root)).status("there") == near
    assert read_status(LocalHost(), str(bench.root / "there")) == near
