"""The environments of one host: what it has, making them there, and whether they are what this release wants."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import platformdirs

from verl_lab.environments.asking import answer_of, argv_of
from verl_lab.environments.kit import Kit
from verl_lab.environments.needs import base_python, report_before, require_folder, require_platform, require_room
from verl_lab.environments.pins import Versions
from verl_lab.environments.pushing import Pusher
from verl_lab.environments.report import Check, Report
from verl_lab.environments.setup_log import SetupLog
from verl_lab.environments.verify import PROBE, PROBE_TIMEOUT_S, findings, judge, judge_packages, role_of
from verl_lab.environments.wheels import Target
from verl_lab.errors import EnvironmentMismatchError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.transport.base import Host

    Tell = Callable[[str], None]

ROLES = ("training", "cpu", "base")
"""What a host can be set up for."""
TRAINING_ROLES = ("training", "cpu")
"""Of these, the first that is there trains."""
_LOOK_S = 60.0
_SURVEY_S = 300.0
# What making an environment anew mends; of the rest, the host itself has to be mended.
_MENDED_BY_SETUP = ("set-up", "python", "packages", "verl-lab", "torch", "verl", "plugin")


@dataclass(frozen=True)
class State:
    """How it stands with a host's environment, as far as one look tells.

    Attributes
    ----------
    role
        The role that was asked about, or the one that would train; None where there is none.
    python
        The Python that trains; None where there is none.
    mismatches
        What keeps it from training as it would here, each in a few words; empty where nothing does.
    """

    role: str | None
    python: str | None
    mismatches: tuple[str, ...] = ()


class HostEnvironment:
    """The environments of one host, below ``<root>/environments``; the same near and far.

    Parameters
    ----------
    host
        The machine.
    root
        The folder on it that all of verl-lab's lies in; absolute.
    python
        The Python that the user named for this host: environments are made with it, and where none was and it has
        verl, it is the one that trains. None to look for one.
    fix
        How a person sets the host up: the one action that mends what ``mismatches`` names; None for the magic's line.
    pinned, package, cache
        Other scripts and locks than this release's, another wheel than verl-lab as it is here, another folder for
        what is fetched and packed here.
    """

    def __init__(
        self,
        host: Host,
        root: str,
        *,
        python: str | None = None,
        fix: str | None = None,
        pinned: Path | None = None,
        package: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        self._host = host
        self._root = root
        self._given = python
        self.fix = fix or f"%verl_env {host.name} --setup"
        self._pinned = pinned
        self._package = package
        self._cache = cache or Path(platformdirs.user_cache_dir("verl-lab")) / "environments"
        self._folder = str(PurePosixPath(root) / "environments")

    def state(self, role: str | None = None) -> State:
        """Look, in one round trip, at what was written down when the environment was made.

        Parameters
        ----------
        role
            None for the one that would train.

        Raises
        ------
        TransportError
            The host does not answer.
        """
        looked = self._look(*([role] if role else TRAINING_ROLES))
        ready = [one for one in looked if looked[one]["record"] is not None]
        if self._given and not any(looked[one]["record"].get("given") == self._given for one in ready):
            kept = self._state_of_given(role)
            if kept is not None:
                return kept
        begun = [one for one in looked if looked[one]["running"] is not None or looked[one]["is_half_made"]]
        chosen = role or next(iter((*ready, *begun)), None)
        if chosen is None:
            return State(None, None, (f"{self._host.name} has no environment to train in",))
        found = looked[chosen]
        is_whole = found["record"] is not None and found["running"] is None and not found["is_half_made"]
        return State(chosen, found["python"] if is_whole else None, self._differences(chosen, found))

    def mismatches(self, role: str | None = None) -> list[str]:
        """Name what keeps the environment from training as it would here; ``state`` tells its Python as well."""
        return list(self.state(role).mismatches)

    def python(self) -> str:
        """Return the path of the Python that trains on this host.

        Raises
        ------
        EnvironmentMismatchError
            There is none yet, or not all of it.
        TransportError
            The host does not answer.
        """
        state = self.state()
        if state.python is None:
            said = "; ".join(state.mismatches)
            raise EnvironmentMismatchError(f"{self._host.name} cannot train yet: {said}.", f"{self.fix} sets it up.")
        return state.python

    def report(self, role: str | None = None) -> Report:
        """Try what must work in the environment: packages, torch, verl, GPUs. It takes seconds, since it imports them.

        Where there is no environment yet, the report says what the host has to make one with.

        Raises
        ------
        TransportError
            The host does not answer.
        """
        state = self.state(role)
        if state.python is None:
            return report_before(self._survey(), state.mismatches, self._host.name, self.fix)
        chosen = state.role or role_of(self._probe(state.python))
        deep = ["--deep"] if chosen in Versions.load(self._pinned).torch else []
        found = self._probe(state.python, *deep)
        judged = judge(found, chosen, state.python, self.fix, self._pinned)
        said = "; ".join(state.mismatches)
        setup = Check("set-up", not said, said or "as this release makes it", "as this release makes it", self.fix)
        return Report(chosen, f"{state.python} on {self._host.name}", (setup, *judged.checks))

    def setup(
        self, role: str | None = None, *, offline: bool | None = None, progress: Tell = lambda _line: None
    ) -> Report:
        """Make, complete or repair the environment of a role, and return the report on it.

        The host works on its own: when this call is interrupted or the connection is gone, it goes on, and the next
        call follows it. What was left half done is made anew.

        Parameters
        ----------
        role
            ``training`` or ``cpu``; None for ``training`` where the host has a GPU, else ``cpu``.
        offline
            Whether packages are collected here and sent; None to do so where the host reaches no package index.
        progress
            Called with each line of the log as it is written there.

        Raises
        ------
        InvalidInputError
            There is no such role for a host.
        EnvironmentMismatchError
            The host cannot be set up as it is, or the installation failed; the message says why.
        NoSpaceError
            There is less room than the environment needs.
        TransportError
            The host does not answer.
        """
        if role is not None and role not in ROLES:
            raise InvalidInputError(f"role: {role!r} will not do.", f"A host's role is {', '.join(ROLES)}.")
        log = SetupLog(self._host, self._folder, lambda one: self._look(one)[one]["running"], progress)
        survey = log.patiently(self._survey)
        chosen = role or ("training" if survey["gpus"] else "cpu")
        require_folder(survey, self._root, self._host.name)
        base = base_python(survey, self._host.name)
        require_platform(base, chosen, self._host.name)
        found = self._after_others(chosen, log)
        is_whole = not self._differences(chosen, found)
        if is_whole:
            report = log.patiently(lambda: self.report(chosen))
            if all(check.ok for check in report.checks if check.name in _MENDED_BY_SETUP):
                progress(f"{self._host.name} holds role {chosen} already")
                return report
        elif found["record"] is None:
            require_room(survey, chosen, self._root, self._host.name)
        kit = Kit.of(chosen, self._pinned, self._package)
        pusher = Pusher(self._host, base["path"], self._folder, self._cache, log)
        with pusher.alone():
            pusher.push(kit)
            if self._is_cut_off(base["path"], log) if offline is None else offline:
                offline = True
                pusher.push_wheels(kit, Target.of(base))
        record = {**kit.record, "given": self._given}
        said = {"role": chosen, "offline": bool(offline), "anew": is_whole, "record": record}
        path = log.start(base["path"], kit.name, said)
        log.require(log.follow(chosen, path), chosen, self._root, path)
        self._after_others(chosen, log)  # one that waited for this one finds nothing to do, and needs a moment for it
        return log.patiently(lambda: self.report(chosen))

    def _after_others(self, role: str, log: SetupLog) -> dict[str, Any]:
        """Follow a set-up that is at work, such as one that was begun before; return how it stands then."""
        found = log.patiently(lambda: self._look(role)[role])
        if found["running"] is not None:
            log.say(f"a set-up of role {role} is at work on {self._host.name}; following it")
        while found["running"] is not None:
            log.follow(role, found["running"].get("log"))
            found = log.patiently(lambda: self._look(role)[role])
        return found

    def _differences(self, role: str, found: dict[str, Any]) -> tuple[str, ...]:
        if found["running"] is not None:
            return (f"role {role} is being set up there",)
        if found["is_half_made"]:
            return (f"role {role} was set up there in part only",)
        if found["record"] is None:
            return (f"role {role} is not set up there",)
        if found["python"] is None:
            return (f"{self._folder}/{role} is gone from there or damaged",)
        return tuple(Kit.of(role, self._pinned, self._package).differences(found["record"]))

    def _state_of_given(self, role: str | None) -> State | None:
        """Ask a Python that the user keeps, since nothing is written down about it; None if it does not train."""
        assert self._given is not None  # noqa: S101  the caller looked
        found = self._probe(self._given)
        chosen = role or role_of(found)
        if chosen not in TRAINING_ROLES or role_of(found) not in TRAINING_ROLES:
            return None
        wrong = [one for one in judge_packages(found, chosen, self.fix, self._pinned) if not one.ok]
        return State(chosen, self._given, tuple(f"{one.name}: {one.found}, wanted {one.wanted}" for one in wrong))

    def _is_cut_off(self, python: str, log: SetupLog) -> bool:
        """Whether the host reaches no package index."""
        answer = log.patiently(lambda: answer_of(self._host, python, "reach", (), _LOOK_S))
        if answer["why_not"] is None:
            return False
        log.say(f"{self._host.name} does not reach {answer['index']}: {answer['why_not']}. Packages are sent from here")
        return True

    def _look(self, *roles: str) -> dict[str, Any]:
        return answer_of(self._host, self._given, "look", [self._folder, *roles], _LOOK_S)

    def _survey(self) -> dict[str, Any]:
        said = {"root": self._root, "python": self._given, "probe": PROBE.read_text(encoding="utf-8")}
        return answer_of(self._host, self._given, "survey", [json.dumps(said)], _SURVEY_S)

    def _probe(self, python: str, *options: str) -> dict[str, Any]:
        done = self._host.run(argv_of(python, PROBE, *options), timeout_s=PROBE_TIMEOUT_S)
        said, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return findings(said, errors, f"{self._host.name}:{python}", done.exit_code)
