"""Hostile names, paths, arguments and lines through every way in: nothing is run, and nothing outside is touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.error import UsageError

from verl_lab import Lab, inputs
from verl_lab.domain.run import check_run_id
from verl_lab.errors import VerlLabError
from verl_lab.launch.launcher import Launcher, LaunchSpec
from verl_lab.magics.line import MagicError
from verl_lab.recipes.overrides import overrides_of_text, parse_override
from verl_lab.transport.local import LocalHost
from verl_lab.transport.ssh.channel import command_line

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from verl_lab.transport.base import Host

    from .conftest import Shell

pytestmark = pytest.mark.usefixtures("home")
SECRET = "what-nobody-outside-may-read"  # noqa: S105  it is none
# What hostile values are put together from. § is a file whose coming to be shows that a command was run, ¤ is the
# folder of what nobody may read.
PIECES = (
    *("$(touch §)", "`touch §`", ";touch §;", "|touch §", "&&touch §&&", "\ntouch §\n", "\rtouch §", ">§", "<§"),
    *("'; touch §; '", '"; touch §; "', "\\'; touch §", "-oProxyCommand=touch §", "-o ProxyCommand=touch §", "-F/§"),
    *(
        "--rsh=touch §",
        "-e touch §",
        "--pre=touch §",
        "${IFS}touch${IFS}§",
        "$(touch${IFS}§)",
        "!touch §",
        "%(touch §)",
    ),
    *("!!python/object/apply:os.system ['touch §']", "__import__('os').system('touch §')", "${oc.env:SECRET}", "{7*7}"),
    *(
        "..",
        "../..",
        "../outside/secret.txt",
        "¤/secret.txt",
        "/¤",
        "~",
        "~root/.ssh",
        "$HOME",
        "%2e%2e%2f",
        "..\\..",
    ),
    *("link", "link/secret.txt", "/etc/passwd", "/proc/self/environ", "/dev/zero", "§", "./§", "\0", "a\0b", "\0/../§"),
    *(
        "\x1b[2J",
        "\u202egpj",
        "é",
        "字",
        "🙂",
        "\ud800",
        "\udcff",
        "\u2028",
        "\x7f",
        "*",
        "?",
        "[a]",
        "{a,b}",
        "#",
        "\\",
    ),
    *(
        "-rf",
        "--",
        "-",
        "",
        ".",
        " ",
        "x" * 300,
        "1e999",
        "NaN",
        "0x10",
        "null",
        "<img src=x onerror=alert(1)>",
        "%s%n",
    ),
    *("box", "grpo-cpu", "run-1", "local", "me", "127.0.0.1", "::1", "gpu1.example.org", "22", "trainer.total_epochs"),
)
BETWEEN = ("", "", "/", " ", ":", "@", "=", ",", ".", "-")
SHELLS = re.compile(r"(^|/)(sh|bash|dash|zsh|ksh|fish|csh|tcsh|busybox|touch|ssh|scp)$")
STARTED = ("os.system", "os.exec", "os.posix_spawn", "pty.spawn", "os.startfile")
CHANGED = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
OURS = {"home", "ipython", "me", "names"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Place:
    """A folder with a lab, what lies outside of it, and what this process did beyond it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canary = folder / "canary"
        self.outside = folder / "outside"
        self.home = folder / "home"
        self.outside.mkdir()
        (self.outside / "secret.txt").write_text(SECRET)
        self.home.mkdir()
        for name in ("opened", "recipes", "datasets"):
            (self.home / name).mkdir()
            (self.home / name / "link").symlink_to(self.outside)
        self.data = folder / "data.jsonl"
        self.data.write_text('{"a": 1}\n')
        self.seen: list[str] = []
        self.may_read = False
        self.before = self._tree()

    def values(self, dice: random.Random, count: int) -> list[str]:
        return [self._value(dice) for _ in range(count)]

    def _value(self, dice: random.Random) -> str:
        parts = dice.choices(PIECES, k=dice.choice([1, 1, 2, 3]))
        text = parts[0] + "".join(dice.choice(BETWEEN) + part for part in parts[1:])
        return text.replace("§", str(self.canary)).replace("¤", str(self.outside))

    def _tree(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in [self.folder, self.outside, *self.outside.rglob("*"), self.data]:
            names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else path.read_bytes()
            found[str(path)] = names
        return found

    def check(self) -> None:
        """Say what was done that must not be."""
        assert not self.seen, self.seen[:5]
        assert not self.canary.exists(), "a command was run"
        now = self._tree()
        assert {path for path in now if now[path] != self.before.get(path)} <= {str(self.folder)}
        assert set(now[str(self.folder)]) - OURS == set(self.before[str(self.folder)]) - OURS

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        if event in STARTED:
            self.seen.append(f"{event} {args}")
        elif event == "subprocess.Popen" and (SHELLS.search(str(args[0])) or str(self.canary) in str(args[0])):
            self.seen.append(f"{event} {args[:2]}")
        elif event in CHANGED or (event == "open" and isinstance(args[2], int) and args[2] & WRITING):
            for path in args[:2] if event in ("os.rename", "os.link") else args[:1]:
                self._touched(event, path)
        elif (
            event == "open"
            and not self.may_read
            and isinstance(args[0], str | bytes)
            and b"secret.txt" in os.fsencode(args[0])
        ):
            self.seen.append(f"read {args[0]!r}")

    def _touched(self, event: str, path: object) -> None:
        if not isinstance(path, str | bytes):
            return  # a descriptor
        text = os.fsdecode(path)
        if text.startswith("/dev/") or "__pycache__" in text or not text.startswith("/"):
            return  # what is not absolute was opened in a folder that was opened before
        real = os.path.realpath(text.rpartition("/")[0])
        if text.startswith(f"{self.folder}/") and text.removeprefix(f"{self.folder}/") in OURS:
            return
        if not real.startswith(f"{self.folder}/") or real.startswith(str(self.outside)):
            self.seen.append(f"{event} {text}")


_watching: list[Place] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching:
        _watching[-1].note(event, args)


sys.addaudithook(_hook)  # for good: a process cannot take one back


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("SECRET", SECRET)
    return Place(tmp_path)


@contextmanager
def watched(place: Place, *, may_read: bool = False) -> Generator[None]:
    """Note what this process does meanwhile, then check; a user may read what they can name by its path."""
    place.may_read = may_read
    _watching.append(place)
    try:
        yield
    finally:
        _watching.pop()
    place.check()


def refused(do: Callable[[], object]) -> bool:
    """Say whether it was refused as it should be; its words are for a person, and say nothing they should not."""
    try:
        said = str(do())
    except (VerlLabError, UsageError, MagicError) as error:
        said = str(error)
        assert SECRET not in said
        return True
    assert SECRET not in said
    return False


def test_names_and_paths(place: Place, rounds: Callable[[int], int], dice: random.Random) -> None:
    """Runs, recipes, data sets, hosts and the checks beneath them, each with its own values."""
    with Lab(place.home) as lab:
        lab.recipes.save_text("mine", "extends: grpo-cpu\n")
        book = lab.recipes
        ways: dict[str, Callable[[str], object]] = {
            "run id": check_run_id,
            "path": lambda value: inputs.path_text("path", value),
            "below": lambda value: inputs.below("path", place.home / value, [place.home]),
            "open_below": lambda value: os.close(inputs.open_below("path", place.home / "opened", value)),
            "number": lambda value: inputs.whole_number("n", value, low=0, high=9),
            "run": lab.run,
            "status": lab.launcher.status,
            "start": lab.launcher.start,
            "stop": lab.launcher.stop,
            "resume": lab.launcher.resume,
            "record": lab.launcher.read_record,
            "create": lambda value: lab.launcher.create(
                LaunchSpec(value, value, ("true",), {}, str(place.home), "a: 1\n", value)
            ),
            "recipe": book.get,
            "recipe's version": lambda value: book.get("mine", value),
            "recipe's source": book.source,
            "recipe saved": lambda value: book.save_text(value, "extends: grpo-cpu\n"),
            "recipe saved to": lambda value: book.save_text("mine", "extends: grpo-cpu\n", to=value),
            "recipe's text": lambda value: book.save_text("text", value),
            "recipe's parent": lambda value: book.save_text("text", f"extends: {json.dumps(value)}\n"),
            "recipe renamed": lambda value: book.rename(value, "other"),
            "recipe forked": lambda value: book.fork("mine", value),
            "recipe deleted": lambda value: book.delete(value) and book.undo(value) if value != "mine" else None,
            "override": parse_override,
            "override's value": lambda value: parse_override(f"data.x={value}"),
            "overrides": overrides_of_text,
            "data set's name": lambda value: lab.datasets.add(place.data, name=value),
            "data set": lab.datasets.get,
            "data set removed": lab.datasets.remove,
            "host": lab.hosts.get,
            "host removed": lab.hosts.remove,
        }
        taken = 0
        lab.datasets.add(place.data, name="first")
        with watched(place):
            for do in ways.values():
                for value in place.values(dice, rounds(1000)):
                    taken += not refused(lambda do=do, value=value: do(value))
        assert taken > len(ways)  # not everything is hostile
        assert (place.outside / "secret.txt").read_text() == SECRET


def test_hosts_that_are_added(place: Place, rounds: Callable[[int], int], dice: random.Random) -> None:
    fields = ("name", "address", "user", "key", "runs_root", "python", "proxy_jump", "port", "accept")
    pythons: list[str] = []
    with Lab(place.home) as lab, watched(place):
        for field in fields:
            for value in place.values(dice, rounds(1000)):
                given: dict[str, Any] = {"name": "box", "address": "127.0.0.1", field: value}
                name = given.pop("name")
                if refused(lambda name=name, given=given: lab.hosts.add(name, **given)):
                    continue
                entry = lab.hosts.entry(name)
                for said in (entry.name, entry.hostname, entry.user, entry.python, entry.identity, entry.runs_root):
                    assert not said or not (set(said) & set(";$`|&<>\n\r\0'\"\\*?()!") or said.startswith("-")), said
                pythons += [entry.python] if entry.python else []
                lab.hosts.remove(name)
    for python in {*pythons, "/O a/=,@:python"}:
        subprocess.run(["sh", "-c", command_line(python)], check=False, capture_output=True, cwd=place.home)
    place.check()


TELL = "import json, os, sys; json.dump([sys.argv[2:], os.environ.get('V')], open(sys.argv[1], 'w'))"


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return this machine, near and far."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("ssh_host")


def test_arguments_variables_and_files_of_a_host(
    host: Host, place: Place, rounds: Callable[[int], int], dice: random.Random
) -> None:
    folder = place.folder / "names"
    folder.mkdir()
    values = place.values(dice, rounds(1000))
    told = str(folder / "told")
    with watched(place):
        for first in range(0, len(values), 50):
            batch = [value for value in values[first : first + 50] if "\0" not in value and "\ud800" not in value]
            for value in set(values[first : first + 50]) - set(batch):
                assert refused(lambda value=value: host.run(["true", value], timeout_s=60))
            host.run([sys.executable, "-c", TELL, told, *batch], timeout_s=60, env={"V": batch[0]})
            assert json.loads(Path(told).read_bytes()) == [batch, batch[0]]
        Path(told).unlink()
        names = {value for value in values if "/" not in value and value not in ("", ".", "..")}
        written = {name for name in names if not refused(lambda name=name: host.write_atomic(f"{folder}/{name}", b""))}
        assert set(host.list_folder(str(folder))) == written
        assert len(written) > len(values) // 10


def test_jobs_get_their_arguments_and_nothing_else(
    host: Host, place: Place, rounds: Callable[[int], int], dice: random.Random
) -> None:
    root = place.home / "runs"
    launcher = Launcher(host, str(root), python=sys.executable, is_far=host.name != "local")
    for first in range(0, rounds(1000), 250):
        values = [value for value in place.values(dice, 250) if "\0" not in value and "\ud800" not in value]
        run, told = f"job-{first}", str(place.home / f"told-{first}")
        argv = (sys.executable, "-c", TELL, told, *values)
        env = {"VERL_LAB_SAMPLE_S": "0", "V": values[0]}
        launcher.create(LaunchSpec(run, values[1], argv, env, str(place.home), f"a: {values[2]!r}\n", values[3]))
        launcher.start(run)
        while not launcher.read_status(run).state.is_over:
            pass
        assert json.loads(Path(told).read_bytes()) == [values, values[0]]
    place.check()


LINES = (
    *(
        "verl_train V --dry-run",
        "verl_train grpo-cpu --host V --dry-run",
        "verl_train --from V --dry-run",
        "verl_watch V",
    ),
    *("verl_stop V", "verl_resume V", "verl_logs V", "verl_runs V", "verl_recipes V", "verl_recipes V --versions"),
    *("verl_hosts add V V", "verl_hosts add box V", "verl_hosts add box h --user V", "verl_hosts accept V V"),
    *("verl_hosts test V", "verl_hosts remove V", "verl_hosts V", "verl_data V", "verl_env =V", "verl_diff V V"),
    *("verl_diagnose V", "verl_compare V V", "verl_reindex V", "verl_recommend V", "verl_lineage V", "verl_debug V"),
)


def test_lines_of_magics(shell: Shell, place: Place, rounds: Callable[[int], int], dice: random.Random) -> None:
    known = shell.shell.magics_manager.magics["line"]
    lines = [line for line in LINES if line.partition(" ")[0] in known]
    assert len(lines) > len(LINES) // 2
    with watched(place, may_read=True):
        for value in place.values(dice, rounds(1000)):
            name, _, rest = dice.choice(lines).partition(" ")
            # Braces and dollars are IPython's own: what stands in them is Python that the user wrote.
            line = rest.replace("V", value.replace("{", "{{").replace("}", "}}").replace("$", "$$"))
            refused(lambda name=name, line=line: shell.shell.run_line_magic(name, line))


def test_what_is_watched_for_is_seen(place: Place) -> None:
    for do in (
        lambda: subprocess.run(["sh", "-c", "true"], check=True),
        (place.outside / "new").touch,
        (place.home / "opened" / "link" / "secret.txt").read_text,
        place.canary.touch,
    ):
        with pytest.raises(AssertionError), watched(place):
            do()
        place.seen.clear()
        for path in (place.canary, place.outside / "new"):
            path.unlink(missing_ok=True)
