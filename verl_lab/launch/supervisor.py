"""Starts one run's training, watches over it, and records how it ended.

::

    python supervisor.py start RUN_DIR [--attempt N]
    python supervisor.py status RUN_DIR

``start`` returns as soon as the attempt has begun, and leaves a process of its own behind that
watches over it. It can be repeated, also at the same time, and killed at any moment: an attempt
begins once. Both commands print the status of the newest attempt as JSON.

The file runs by its path on hosts that need not have verl-lab: it uses the standard library alone,
so the names of the run folder's files stand here a second time (``domain/wire.py`` is their home).

Notes
-----
- ``supervisor.lock`` is held by the one supervisor of a run; a crash frees it. The training process
  inherits it until ``exec``, and records itself in ``status.json`` before that: whoever gets the
  lock sees that the attempt has begun.
- The supervisor is a child subreaper: whatever training starts, however detached, stays below it
  in the tree of processes, and can be ended without guessing.
- What measures the host beside training (``sampler.py``) is a program of its own, run by the Python that
  trains. The kernel ends it with the supervisor, and the supervisor with the attempt.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

HEARTBEAT_S = 1.0
TICK_S = 0.2
GRACE_S = 600.0
LOCK_PATIENCE_S = 30.0
SAMPLER_AFTER_S = 1.0  # an attempt that ends at once needs none
SAMPLE_VARIABLE = "VERL_LAB_SAMPLE_S"  # seconds between two samples; 0 takes none
# verl's driver needs three to four seconds to end after either of the first two.
ESCALATION = ((signal.SIGINT, 10.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
PREPARING = (None, "loading verl", "starting ray", "loading model")
OVER = ("completed", "failed", "stopped", "lost")

_LISTENED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOWEST_PRIORITY = 19
_LOG_TAIL_BYTES = 1 << 16
_REASON_LONGEST = 500
_ERROR_LINE = re.compile(r"(?:\([^)]*\)\s*)?([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)(?:\(\w+\))?(?::.*)?)")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

Record = dict[str, Any]


class Process(NamedTuple):
    """A process as ``/proc/<pid>/stat`` shows it; pid and start time together are never reused."""

    pid: int
    parent: int
    group: int
    start: int
    is_zombie: bool


def boot_id() -> str:
    """Return what names the present boot of this host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def look_up(pid: int) -> Process | None:
    """Return the process that has ``pid`` now."""
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name may hold spaces and parentheses: the fields begin after the last one.
    fields = content[content.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[19]), fields[0] in (b"Z", b"X"))


def is_alive(pid: object, start: object, boot: object) -> bool:
    """Say whether this very process is alive, not a later one with its pid."""
    if not isinstance(pid, int) or boot != boot_id():
        return False
    process = look_up(pid)
    return process is not None and process.start == start and not process.is_zombie


def processes() -> list[Process]:
    """Return every process of this host."""
    found = (look_up(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [process for process in found if process is not None]


def members(attempt: Path, root: int | None = None) -> list[Process]:
    """Return the processes of an attempt: below its supervisor, or marked by their environment, or below those.

    Neither the supervisor, which is this process unless ``root`` is its pid, nor this process is among them.
    """
    everyone = processes()
    left_out = {os.getpid(), root or os.getpid()}
    ours = {root or os.getpid(), *(p.pid for p in everyone if _is_marked(p.pid, attempt))}
    while below := {p.pid for p in everyone if p.parent in ours} - ours:
        ours |= below
    return [p for p in everyone if p.pid in ours - left_out and not p.is_zombie]


def send(process: Process, number: int) -> None:
    """Signal a process, unless it is gone and its pid is another's."""
    now = look_up(process.pid)
    if now is not None and now.start == process.start:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def newest_attempt(run: Path) -> int:
    """Return the number of the newest attempt that has begun, 0 if none has."""
    begun = (run / "attempts").glob("*/status.json")
    return max((int(path.parent.name) for path in begun if path.parent.name.isdecimal()), default=0)


def current_status(run: Path) -> Record:
    """Return the newest attempt's status; one that nobody works on any more and has no end is ``lost``."""
    number = newest_attempt(run)
    if number == 0:
        return {"version": 1, "run": run.name, "attempt": 0, "state": "created"}
    path = _file(run, number, "status.json")
    status = _read(path) or {}
    if status.get("state") not in OVER and not _has_supervisor(status) and not _has_trainer(status):
        # Its last word may have been written between the two looks.
        status = _read(path) or {}
        if status.get("state") not in OVER:
            return {**status, "state": "lost", "phase": None, "reason": _why_lost(status)}
    if status.get("state") in ("starting", "running") and _file(run, number, "stop.json").exists():
        status["state"] = "stopping"
    return status


def start(run: Path, number: int) -> int:
    """Begin attempt ``number`` unless it has begun; return an exit code once that is settled."""
    log = run / "supervisor.log"
    known = log.stat().st_size if log.exists() else 0
    ready, held = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        os.setsid()
        for descriptor, place in ((0, os.devnull), (1, log), (2, log)):
            opened = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(opened, descriptor)
            os.close(opened)
        try:
            supervision = take_over(run, number)
        except SystemExit as refusal:
            os.write(held, str(refusal).encode())
            raise
        os.close(held)
        if supervision is not None:
            supervision.watch()
        sys.exit()
    os.close(held)
    with os.fdopen(ready) as answer:
        said = answer.read()  # ends when the attempt has begun, or never will
    if not said and _file(run, number, "status.json").exists():
        return 0
    if not said:
        said = log.read_text(errors="replace")[known:].strip() if log.exists() else ""
    sys.stderr.write(f"{said or 'The supervisor was killed before training began.'}\n")
    return 1


def take_over(run: Path, number: int) -> Supervision | None:
    """Become the run's supervisor unless it has one: begin the attempt, or adopt one that lost its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _LISTENED)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        if not _take_lock(run, number):
            return None
        newest = newest_attempt(run)
        status = _read(_file(run, newest, "status.json")) or {} if newest else {}
        if _has_trainer(status):
            return Supervision(run, status, is_parent=False)
        if newest and status.get("state") not in OVER:
            Supervision(run, status, is_parent=False).bury()
        if number <= newest:
            return None
        if number != newest + 1:
            raise SystemExit(f"Attempt {number} cannot begin: the newest is {newest}.")
        return Supervision(run, begin(run, number), is_parent=True)
    except (OSError, ValueError) as error:
        raise SystemExit(f"Attempt {number} cannot begin: {error}.") from error


def begin(run: Path, number: int) -> Record:
    """Start training in a session of its own and return its first status."""
    argv, added, cwd = _command(run, number)
    folder = run / "attempts" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = _make_scratch(folder)
    command = shlex.join(["env", *(f"{name}={value}" for name, value in added.items()), *argv])
    _replace(folder / "command.txt", os.fsencode(f"cd {shlex.quote(cwd)} && {command}\n"))

    me = look_up(os.getpid())
    identity = {"pid": os.getpid(), "process_start": me.start if me else 0, "boot_id": boot_id()}
    header = {"verl_lab": 1, "run": run.name, "attempt": number, **identity}
    first = _event(0, "attempt_started", None, {"attempt": number})
    _replace(folder / "events.jsonl", _dump(header) + _dump(first))

    now = time.time()
    status: Record = {"version": 1, "run": run.name, "attempt": number, "state": "starting"}
    status |= dict.fromkeys(("step", "total", "phase", "reason", "exit_code", "pid", "process_start"))
    status |= {"boot_id": identity["boot_id"], "supervisor_pid": identity["pid"]}
    status |= {"supervisor_start": identity["process_start"], "started": now, "updated": now, "ended": None}
    done, open_until_exec = os.pipe()
    if os.fork() == 0:
        # Unbuffered, or the log of a running job would trail behind by kilobytes.
        _become(argv, {"PYTHONUNBUFFERED": "1", **os.environ, **added}, cwd, folder, status)
    os.close(open_until_exec)
    os.read(done, 1)
    os.close(done)
    if not (folder / "status.json").exists():
        shutil.rmtree(scratch, ignore_errors=True)
        raise SystemExit(f"Training could not begin: {_log_reason(folder / 'train.log') or 'its process was killed'}")
    return cast("Record", _read(folder / "status.json"))


def _become(argv: list[str], environment: dict[str, str], cwd: str, folder: Path, status: Record) -> NoReturn:
    """Turn this forked process into training; it says in ``status.json`` that it exists."""
    try:
        os.setsid()
        log = os.open(folder / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        me = look_up(os.getpid())
        status |= {"pid": os.getpid(), "process_start": me.start if me else None}
        _replace(folder / "status.json", _dump(status), durable=True)
        _execute(argv, environment, cwd)
    except (OSError, ValueError) as error:
        os.write(2, f"verl-lab could not start {argv[0]!r} in {cwd!r}: {error}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(127)


def _execute(argv: list[str], environment: dict[str, str], cwd: str) -> NoReturn:
    """Become another program, with every signal as it is by default."""
    for number in (*_LISTENED, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir(cwd)
    os.execvpe(argv[0], argv, environment)  # noqa: S606  an argv, never a shell


def _fork_aside(argv: list[str], environment: dict[str, str], cwd: str, said: int) -> int:
    """Start a program that must not get in training's way, nor outlive this process; return its pid.

    What it prints as errors goes to the descriptor ``said``.
    """
    me = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(said, 2)
        os.nice(_LOWEST_PRIORITY)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == me:  # it may have died before it could take this one along
            _execute(argv, environment, cwd)
    except (OSError, ValueError, AttributeError) as error:
        os.write(2, f"{argv[0]!r} cannot be started in {cwd!r}: {error}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(127)


class Supervision:
    """One attempt under watch. Only this process writes its ``status.json`` from now on."""

    def __init__(self, run: Path, status: Record, *, is_parent: bool) -> None:
        self.run = run
        self.folder = run / "attempts" / str(status["attempt"])
        self.status = status
        self.is_parent = is_parent
        self.exit_code: int | None = None
        self.critical: str | None = None  # the finding for which the trainer says that the run has failed
        self.seq = sum(1 for event in read_events(self.folder) if event.get("source") == "supervisor")
        self.beat_at = 0.0
        self.deadline: float | None = None  # monotonic; None while nobody has asked to stop
        self.next_signal_at = 0.0
        self.signals_sent: list[str] = []
        self.sampler: int | None = None
        self.sampler_said = -1  # holds what it prints as errors
        self.sampler_at = time.monotonic() + SAMPLER_AFTER_S  # when to start it; infinite once that was tried
        me = look_up(os.getpid())
        self.status |= {"supervisor_pid": os.getpid(), "supervisor_start": me.start if me else None}

    def watch(self) -> None:
        """Watch until training has ended, then clear up and record the end."""
        while not self._has_ended():
            self._beat()
            self._measure()
            self._obey()
            self._sleep(TICK_S)
        self.bury()

    def bury(self) -> None:
        """End what training left running, remove its scratch folder, and record state and reason."""
        left = self._clear()
        self._take_progress()
        self._take_request()
        state, reason = self._verdict()
        ended = time.time()
        self.status |= {"state": state, "exit_code": self.exit_code, "phase": None, "updated": ended, "ended": ended}
        self.status["reason"] = reason[:_REASON_LONGEST] if reason else None
        data: Record = {"exit_code": self.exit_code, "state": state, "reason": self.status["reason"]}
        if left:
            data["left_running"] = left
        has_event = False
        while True:
            has_event = has_event or self._record("attempt_ended", data)
            # A full disk: the end is worth waiting for. A folder that was removed has no use for it.
            try:
                _replace(self.folder / "status.json", _dump(self.status), durable=True)
            except FileNotFoundError:
                return
            except OSError:
                if signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, HEARTBEAT_S):
                    return
            else:
                return

    def _has_ended(self) -> bool:
        # The ended process is not waited for before all is cleared: that keeps its pid and group id its own.
        with contextlib.suppress(ChildProcessError):  # whoever adopted training may have no child at all
            while child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                exit_code = child.si_status if child.si_code == os.CLD_EXITED else 128 + child.si_status
                if self.is_parent and child.si_pid == self.status["pid"]:
                    self.exit_code = exit_code
                    return True
                os.waitpid(child.si_pid, 0)
                if child.si_pid == self.sampler:
                    self._note_sampler(exit_code)
        return not self.is_parent and not _has_trainer(self.status)

    def _measure(self) -> None:
        """Start what measures the host, once: whatever becomes of it, training goes on."""
        if time.monotonic() < self.sampler_at:
            return
        self.sampler_at = math.inf
        try:
            argv, added, cwd = _command(self.run, int(self.folder.name))
            environment = {**os.environ, **added}
            if environment.get(SAMPLE_VARIABLE) == "0":
                return
            python = _python_of(argv[0], environment, cwd)
            argv = [python, "-m", "verl_lab.launch.sampler", str(self.folder), str(os.getpid())]
            self.sampler_said = os.memfd_create("sampler")
            self.sampler = _fork_aside(argv, environment, cwd, self.sampler_said)
        except (
            OSError,
            SystemExit,
            AttributeError,
        ) as error:  # the last: an old Python, which cannot keep what is said
            self._record("sampling_failed", {"reason": str(error)})

    def _note_sampler(self, exit_code: int) -> None:
        """Record that the sampler ended before the attempt did, unless that was asked for."""
        self.sampler = None
        start = max(0, os.fstat(self.sampler_said).st_size - _LOG_TAIL_BYTES)
        said = _last_error(os.pread(self.sampler_said, _LOG_TAIL_BYTES, start))
        os.close(self.sampler_said)
        if not self.signals_sent:
            killer = _signal_name(exit_code)
            reason = f"It was ended by {killer}." if killer else said or "It ended by itself."
            self._record("sampling_failed", {"reason": reason[:_REASON_LONGEST], "exit_code": exit_code})

    def _sleep(self, seconds: float) -> None:
        received = signal.sigtimedwait(_LISTENED, seconds)
        path = self.folder / "stop.json"
        if received and received.si_signo in (signal.SIGTERM, signal.SIGINT) and not path.exists():
            # Where the wish cannot be written the trainer will not see it, but the next one may be.
            with contextlib.suppress(OSError):
                _replace(path, _dump({"mode": "graceful", "time": time.time(), "grace_s": GRACE_S}))

    def _beat(self) -> None:
        if time.monotonic() < self.beat_at:
            return
        self.beat_at = time.monotonic() + HEARTBEAT_S
        self._take_progress()
        self.status["updated"] = time.time()
        # A full disk must not end the supervisor: the next heartbeat tries again.
        with contextlib.suppress(OSError):
            _replace(self.folder / "status.json", _dump(self.status))

    def _take_progress(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            progress = _read(self.folder / "progress.json") or {}
            for name in ("step", "total"):
                if isinstance(progress.get(name), int):
                    self.status[name] = progress[name]
            if isinstance(progress.get("phase"), str):
                self.status["phase"] = progress["phase"]
            # A finding that marks the run as failed is its reason from then on, though it goes on.
            critical = progress.get("critical")
            self.critical = critical if isinstance(critical, str) else None
            self.status["reason"] = self.critical and self.critical[:_REASON_LONGEST]
        if self.status["state"] == "starting" and self.status["phase"] not in PREPARING:
            self.status["state"] = "running"

    def _obey(self) -> None:
        """Send signals when ``stop.json`` asks for them; it may ask for less patience later."""
        request = self._take_request()
        if request is None or self.deadline is None:
            return
        now = time.monotonic()
        if request.get("mode") == "now" or self.status["phase"] in PREPARING:
            self.deadline = min(self.deadline, now)
        if now >= max(self.deadline, self.next_signal_at):
            self._escalate()

    def _take_request(self) -> Record | None:
        """Return what ``stop.json`` asks for; the first time, say that it was heard."""
        path = self.folder / "stop.json"
        if not path.exists():
            return None
        request: Record = {}
        with contextlib.suppress(OSError, ValueError):  # garbled, it is still a request to stop
            request = _read(path) or {}
        if self.deadline is None:
            self._take_progress()
            given = request.get("grace_s")
            grace_s = float(given) if isinstance(given, (int, float)) and math.isfinite(given) else GRACE_S
            self.deadline = time.monotonic() + grace_s
            self.status["state"] = "stopping"
            self.beat_at = 0.0
            self._record("stop_requested", {"mode": request.get("mode", "graceful"), "grace_s": grace_s})
        return request

    def _escalate(self) -> None:
        number, patience_s = ESCALATION[min(len(self.signals_sent), len(ESCALATION) - 1)]
        self.next_signal_at = time.monotonic() + patience_s
        if number.name not in self.signals_sent:
            self.signals_sent.append(number.name)
            self._record("stop_escalated", {"signal": number.name})
        in_group = [p for p in processes() if p.group == self.status["pid"]]
        for process in members(self.folder) if number == signal.SIGKILL else in_group:
            send(process, number)

    def _clear(self) -> list[int]:
        """End every process of the attempt and return those that would not go."""
        left: list[Process] = []
        for number, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
            told: set[tuple[int, int]] = set()
            until = time.monotonic() + patience_s
            while (left := members(self.folder)) and time.monotonic() < until:
                for process in left:
                    if (process.pid, process.start) not in told:
                        told.add((process.pid, process.start))
                        send(process, number)
                time.sleep(0.02)
        shutil.rmtree(_scratch(self.folder), ignore_errors=True)
        return [process.pid for process in left]

    def _record(self, kind: str, data: Record) -> bool:
        """Append an event; False if the file system refused."""
        line = _dump(_event(self.seq, kind, self.status["step"], data))
        written = append(self.folder / "events.jsonl", line)
        self.seq += written is not None
        return bool(written)

    def _verdict(self) -> tuple[str, str | None]:
        """Say what the attempt came to, and why; what the trainer marked as failed is."""
        state, reason = self._outcome()
        if self.critical is None or state == "lost":
            return state, reason
        if state == "failed":
            return state, f"{reason} Before that: {self.critical}"
        return "failed", self.critical if reason is None else f"{self.critical} {reason}"

    def _outcome(self) -> tuple[str, str | None]:
        """Say how training ended, and why."""
        total, code = self.status["total"], self.exit_code
        events = {str(event.get("kind")): event for event in read_events(self.folder)}
        end = _data(events, "train_end").get("state")
        told = events.get("train_end", {}).get("step")
        step = max((at for at in (self.status["step"], told) if isinstance(at, int)), default=None)
        where = f"at step {step} of {total or 'an unknown number'}" if step else "before its first step"
        if isinstance(total, int) and total > 0 and step is not None:
            # A trainer that thinks it is done may still have ended early.
            is_done = step >= total and end in ("completed", None)
        else:
            is_done = end == "completed"
        if code == 0 and is_done:
            return "completed", None
        if self.signals_sent:
            return "stopped", f"Ended by {self.signals_sent[-1]} {where}, as asked."
        was_asked = self.deadline is not None
        if code in (0, None) and (was_asked or end == "stopped"):
            return "stopped", f"Ended {where}{', as asked' if was_asked else ''}."
        if code is None:
            return "lost", _why_lost(self.status)
        return "failed", self._why_failed(code, events, where)

    def _why_failed(self, code: int, events: dict[str, Record], where: str) -> str:
        if error := _data(events, "plugin_failed").get("error"):
            return f"verl-lab's plugin failed inside verl: {error}"
        killer = _signal_name(code)
        if killer == "SIGKILL":
            return f"Training was killed by SIGKILL, often the kernel's out-of-memory killer, {where}."
        said = _data(events, "exception").get("error")
        if said is None and code == 0:
            said = f"Training ended early {where}."
        elif said is None and killer:
            said = f"Training was ended by {killer} {where}."
        said = said or _log_reason(self.folder / "train.log") or f"Training ended with exit code {code} {where}."
        return str(said) if "plugin_loaded" in events else f"verl did not load the verl-lab plugin. {said}"


def _take_lock(run: Path, number: int) -> bool:
    """Wait for the lock while someone else begins or ends an attempt; False if this one has begun."""
    lock = os.open(run / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if newest_attempt(run) >= number:
                return False
            if time.monotonic() > until:
                raise SystemExit(f"Attempt {number} cannot begin: another supervisor works on this run.") from None
            time.sleep(0.02)
        else:
            return True


def _launch_record(run: Path) -> tuple[list[str], dict[str, str], str]:
    """Return argv, added environment and working folder from ``run.json``."""
    try:
        launch = (_read(run / "run.json") or {})["launch"]
        argv, variables, cwd = launch["argv"], launch.get("env", {}), launch["cwd"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{run / 'run.json'} is no launch record: {error!r}.") from error
    texts = [cwd, *argv, *variables, *variables.values()]
    if not argv or not all(isinstance(text, str) for text in texts):
        raise SystemExit(f"{run / 'run.json'}: launch.argv, env and cwd must be text, and argv not empty.")
    return argv, variables, cwd


def _command(run: Path, number: int) -> tuple[list[str], dict[str, str], str]:
    """Return argv, added environment and working folder of an attempt, its folders filled in."""
    argv, variables, cwd = _launch_record(run)
    folder = run / "attempts" / str(number)
    tokens = {"@attempt@": str(folder), "@run@": str(run), "@scratch@": str(_scratch(folder))}

    def filled(text: str) -> str:
        return re.sub("@attempt@|@run@|@scratch@", lambda found: tokens[found[0]], text)

    added = {name: filled(value) for name, value in variables.items()}
    added |= {"VERL_LAB_ATTEMPT_DIR": str(folder), "VERL_LAB_RUN_ID": run.name, "VERL_LAB_ATTEMPT": str(number)}
    return [filled(argument) for argument in argv], added, cwd


def _python_of(program: str, environment: dict[str, str], cwd: str) -> str:
    """Return the Python that a command trains with: the program itself, or that of its virtual environment."""
    found = str(Path(cwd, program)) if "/" in program else shutil.which(program, path=environment.get("PATH"))
    if found is not None and re.fullmatch(r"python[0-9.]*", Path(found).name):
        return found
    beside = Path(found or program).parent / "python"
    if found is None or not (beside.parent.parent / "pyvenv.cfg").is_file() or not beside.exists():
        raise FileNotFoundError(f"{program!r} is no Python, and belongs to no virtual environment that has one.")
    return str(beside)


def _scratch(attempt: Path) -> Path:
    # Short, for the Unix sockets below it (107 bytes in all); found again without being written down.
    return Path(f"/tmp/vl-{hashlib.sha256(os.fsencode(attempt)).hexdigest()[:8]}")  # noqa: S108


def _make_scratch(attempt: Path) -> Path:
    scratch = _scratch(attempt)
    with contextlib.suppress(FileExistsError):
        scratch.mkdir(mode=0o700)
    found = scratch.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SystemExit(f"{scratch} belongs to someone else: it was to be this attempt's scratch folder.")
    return scratch


def _file(run: Path, number: int, name: str) -> Path:
    return run / "attempts" / str(number) / name


def _has_trainer(status: Record) -> bool:
    return is_alive(status.get("pid"), status.get("process_start"), status.get("boot_id"))


def _has_supervisor(status: Record) -> bool:
    return is_alive(status.get("supervisor_pid"), status.get("supervisor_start"), status.get("boot_id"))


def _why_lost(status: Record) -> str:
    seen = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(status.get("updated") or 0))
    if status.get("boot_id") != boot_id():
        return f"The host was rebooted since; the last sign of life was at {seen}."
    return f"The supervisor and training were killed; the supervisor's last sign of life was at {seen}."


def _is_marked(pid: int, attempt: Path) -> bool:
    try:
        place = Path(f"/proc/{pid}")
        if place.stat().st_uid != os.getuid():
            return False
        return b"VERL_LAB_ATTEMPT_DIR=" + os.fsencode(attempt) in (place / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _signal_name(exit_code: int) -> str | None:
    try:
        return signal.Signals(exit_code - 128).name
    except ValueError:
        return None


def _log_reason(log: Path) -> str | None:
    """Return the last error that training printed, else its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            return _last_error(file.read())
    except OSError:
        return None


def _last_error(printed: bytes) -> str | None:
    plain = _ANSI.sub("", printed.decode(errors="replace"))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    errors = [found[1] for line in lines if (found := _ERROR_LINE.fullmatch(line))]
    return (errors or lines or [None])[-1]


def read_events(folder: Path) -> list[Record]:
    """Return an attempt's events that can be read; a torn or foreign line is passed over."""
    found: list[Record] = []
    with contextlib.suppress(OSError):
        for line in (folder / "events.jsonl").read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "kind" in event:
                    found.append(cast("Record", event))
    return found


def append(path: Path, line: bytes, *, header: bytes = b"") -> bool | None:
    """Append a line in one write, behind ``header`` where the file is empty.

    Returns
    -------
    bool or None
        Whether all of it was written; None if the file system refused.
    """
    try:
        with path.open("a+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            # A line that a full disk cut short must not swallow this one.
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            line = (b"\n" if torn else b"" if size else header) + line
            return file.write(line) == len(line)
    except OSError:
        return None


def _data(events: dict[str, Record], kind: str) -> Record:
    data = events.get(kind, {}).get("data")
    return cast("Record", data) if isinstance(data, dict) else {}


def _event(seq: int, kind: str, step: int | None, data: Record) -> Record:
    return {"seq": seq, "time": time.time(), "kind": kind, "step": step, "source": "supervisor", "data": data}


def _dump(record: Record) -> bytes:
    # Half of a surrogate pair, as a file's name may hold, is not JSON to stricter readers.
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode(errors="replace") + b"\n"


def _read(path: Path) -> Record | None:
    """Return a JSON object, None if there is no such file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds JSON, but no object.")  # noqa: TRY004  to a caller: not what it should be
    return cast("Record", found)


def _replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader sees the old or the new content."""
    written = path.with_name(f".{path.name}.supervisor")
    with written.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    written.replace(path)


def main() -> int:
    """Run one of the two commands and print the run's status."""
    parser = argparse.ArgumentParser(description="Start a run's training, or say where it stands.")
    parser.add_argument("command", choices=("start", "status"))
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--attempt", type=int, default=1, help="which attempt to begin, counted from 1")
    options = parser.parse_args()
    run = cast("Path", options.run).absolute()
    if not (run / "run.json").is_file():
        raise SystemExit(f"{run} is no run folder: it has no run.json.")
    code = start(run, options.attempt) if options.command == "start" else 0
    if code == 0:
        sys.stdout.write(f"{json.dumps(current_status(run))}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
