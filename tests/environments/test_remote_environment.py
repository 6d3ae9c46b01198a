"""Environments on hosts: whole or not there, gone on with after every kind of break, compared and mended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_release import TinyRelease

from verl_lab.environments import needs, setup_log
from verl_lab.errors import EnvironmentMismatchError, InvalidInputError, NoSpaceError, UnreachableError
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from cuttable_proxy import Proxy

    from verl_lab.environments.remote import HostEnvironment
    from verl_lab.environments.report import Report
    from verl_lab.transport.base import Host
    from verl_lab.transport.ssh import SshHost


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder on the host; a home may have spaces in it."""
    return tmp_path / "home of someone" / ".verl-lab"


class Interrupted(Exception):  # noqa: N818  it stands for Ctrl-C
    """What a user's interrupt is to a set-up."""


def wrong(report: Report) -> dict[str, str]:
    return {check.name: check.found for check in report.checks if not check.ok}


def logs(root: Path) -> list[str]:
    """Return what each set-up of the host said."""
    return [path.read_text() for path in sorted(root.glob("environments/.setups/*.log"))]


def kill_there(root: Path) -> None:
    """End a set-up on the host with all it started, as a power cut does."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = json.loads((root / "environments/.setups/cpu.current.json").read_text())["pid"]
        os.killpg(pid, signal.SIGKILL)


def runs(environment: HostEnvironment, host: Host) -> bool:
    """Whether the Python that trains has all that was to be installed."""
    code = "import tinything, verl_lab"
    return host.run([environment.python(), "-c", code], timeout_s=60, env={"PYTHONPATH": ""}).exit_code == 0


def test_a_host_is_set_up_from_packages_sent_to_it_and_then_holds_them(
    ssh_host: SshHost, root: Path, tiny: TinyRelease
) -> None:
    environment = tiny.on(ssh_host, root)
    before = environment.report()
    assert wrong(before) == {"set-up": "box has no environment to train in"}
    assert "%verl_env box --setup" in str(before)
    with pytest.raises(EnvironmentMismatchError, match=r"cannot train yet.*\n%verl_env \w+ --setup"):
        environment.python()

    lines: list[str] = []
    report = environment.setup("cpu", offline=True, progress=lines.append)
    assert wrong(report) == {}
    assert runs(environment, ssh_host)
    assert environment.mismatches() == []
    assert environment.python() == f"{root}/environments/cpu/bin/python"
    assert any("Successfully installed tinything-1.0" in line for line in lines), "the log is told as it is written"
    (log,) = logs(root)
    assert all(line in lines for line in log.splitlines())

    again: list[str] = []
    environment.setup("cpu", offline=True, progress=again.append)
    assert again == ["box holds role cpu already"]
    assert len(logs(root)) == 1


def versions(environment: HostEnvironment, host: Host) -> tuple[str, ...] | None:
    """Return what the Python that trains has installed; None where there is none to train with."""
    python = environment.state().python
    if python is None:
        return None
    code = (
        "import tinything, verl_lab; from importlib.metadata import version as v; print(v('tinything'), v('verl-lab'))"
    )
    return tuple(host.run([python, "-c", code], timeout_s=60).stdout.decode().split())


def test_the_environment_is_whole_or_not_there_however_often_its_set_up_is_interrupted(
    ssh_host: SshHost,
    root: Path,
    tiny: TinyRelease,
    make_wheel: Callable[..., str],
    tmp_path: Path,
    rounds: Callable[[int], int],
    dice: random.Random,
) -> None:
    newer = TinyRelease(tmp_path / "newer", tiny.wheels, make_wheel, "0.2.0")
    newer.make_quick(tmp_path / "newer")
    allowed = {None, ("1.0", "0.1.0"), ("2.0", "0.2.0")}
    for number in range(rounds(10)):
        for release in (tiny, newer):
            environment = release.on(ssh_host, root)
            left = dice.randrange(1, 35)

            def interrupt(_line: str) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Interrupted

            with contextlib.suppress(Interrupted):
                environment.setup("cpu", offline=True, progress=interrupt)
            if dice.random() < 0.7:
                time.sleep(dice.random() * 0.5)
                kill_there(root)
            assert versions(environment, ssh_host) in allowed, number
        assert wrong(environment.setup("cpu", offline=True)) == {}, number
        assert versions(environment, ssh_host) == ("2.0", "0.2.0"), number


def test_two_that_begin_at_once_install_once(ssh_host: SshHost, root: Path, tiny: TinyRelease, tmp_path: Path) -> None:
    found: list[Any] = []

    def set_up(number: int) -> None:
        # As two users on two machines: they share nothing but the host.
        one = tiny.on(ssh_host, root, cache=tmp_path / f"cache-{number}")
        found.append(wrong(one.setup("cpu", offline=True)))

    threads = [threading.Thread(target=set_up, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{}, {}]
    assert "".join(logs(root)).count("Successfully installed tinything") == 1


def test_what_was_begun_goes_on_without_a_connection_and_is_come_back_to(
    far: SshHost, proxy: Proxy, root: Path, tiny: TinyRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = shutil.which("python3.11") or shutil.which("python3") or ""
    environment = tiny.on(far, root, python=python)
    lines: list[str] = []

    def cut_and_in_the_end_pull_the_plug(line: str) -> None:
        lines.append(line)
        if len(lines) % 5 == 0 and "unreachable" not in line:
            proxy.cut()
        if "installing the packages" in line:
            monkeypatch.setattr(setup_log, "PATIENCE_S", 0.5)
            proxy.refuses = True
            proxy.cut()

    with pytest.raises(UnreachableError, match="goes on there; setting up again follows it"):
        environment.setup("cpu", offline=True, progress=cut_and_in_the_end_pull_the_plug)
    proxy.refuses = False
    monkeypatch.setattr(setup_log, "PATIENCE_S", 60)
    again: list[str] = []
    assert wrong(environment.setup("cpu", offline=True, progress=again.append)) == {}
    assert runs(environment, far)
    (log,) = logs(root)
    said = log.splitlines()
    told = [line for line in lines if line in said]
    assert told == said[: len(told)], "each line once and in order, over all the cuts"
    # The Python that was named has no verl: the environment that was made with it trains.
    assert environment.python() == tiny.on(far, root).python() == f"{root}/environments/cpu/bin/python"


def test_another_release_is_named_before_a_launch_and_mended_by_setting_up(
    ssh_host: SshHost, root: Path, tiny: TinyRelease, make_wheel: Callable[..., str], tmp_path: Path
) -> None:
    tiny.pretend_set_up(root)
    newer = TinyRelease(tmp_path / "newer", tiny.wheels, make_wheel, "0.2.0")
    newer.make_quick(tmp_path / "newer")
    environment = newer.on(ssh_host, root)
    assert environment.mismatches() == ["verl-lab 0.1.0 there, 0.2.0 here"]
    assert wrong(environment.report())["set-up"] == "verl-lab 0.1.0 there, 0.2.0 here"
    assert wrong(environment.setup("cpu", offline=True)) == {}
    assert environment.mismatches() == []
    assert tiny.on(ssh_host, root).mismatches() == ["verl-lab 0.2.0 there, 0.1.0 here"]


def test_damage_is_found_and_mended(root: Path, tiny: TinyRelease) -> None:
    environment = tiny.on(LocalHost(), root)
    environment.setup("cpu", offline=True)
    for path in root.glob("environments/cpu/lib/python*/site-packages/tinything*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (wheel,) = root.glob("environments/.wheels/cpu/*.whl")
    good = wheel.read_bytes()
    wheel.write_bytes(good[:-20])
    (wheel.parent / "older-1.0-py3-none-any.whl").touch()
    assert environment.mismatches() == [], "one look does not see it"
    assert wrong(environment.report()) == {"packages": "1 of 1 differ: tinything missing (not 1.0)"}
    assert wrong(environment.setup("cpu", offline=True)) == {}
    assert runs(environment, LocalHost())
    assert wheel.read_bytes() == good
    assert [path.name for path in wheel.parent.iterdir()] == [wheel.name], "what is not needed went"

    shutil.rmtree(root / "environments" / "cpu")
    assert environment.mismatches() == [f"{root}/environments/cpu is gone from there or damaged"]


def test_an_installation_that_fails_says_why_and_where_the_log_is(root: Path, tiny: TinyRelease) -> None:
    (tiny.pinned / "verify_env.py").write_text("raise SystemExit('libstdc++ is too old')\n")
    environment = tiny.on(LocalHost(), root)
    with pytest.raises(EnvironmentMismatchError, match=r"(?s)libstdc\+\+ is too old.*The whole log: /.*\.log on local"):
        environment.setup("cpu", offline=True)
    assert environment.mismatches() == ["role cpu was set up there in part only"]


def test_a_full_disk_is_named_before_anything_is_begun(
    ssh_host: SshHost, root: Path, tiny: TinyRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(needs.ROOM_BYTES, "cpu", 2**60)
    with pytest.raises(NoSpaceError, match=r"has [0-9.]+ GiB free; role cpu needs .* GiB\.\n.*runs_root on a larger"):
        tiny.on(ssh_host, root).setup("cpu", offline=True)
    assert not (root / "environments").exists()


def test_a_folder_that_cannot_be_written_to_is_named(ssh_host: SshHost, tiny: TinyRelease, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root, reason in ((tmp_path / "file" / "home", "Not a directory"), (Path("/proc/verl-lab"), "No such file")):
        with pytest.raises(EnvironmentMismatchError, match=rf"cannot be written to: {reason}.*\n.*runs_root"):
            tiny.on(ssh_host, root).setup("cpu", offline=True)


@pytest.fixture
def pretend(tmp_path: Path) -> Callable[..., str]:
    """Return a function that makes a Python which says of itself what it is told to."""

    def make(version: str, **base: object) -> str:
        about = {
            "makes_environments": True,
            "executable": "",
            "libc": ["glibc", "2.36"],
            "macos": "",
            "pointer_bytes": 8,
        }
        markers = {"platform_system": "Linux", "platform_machine": "x86_64"}
        markers.update({key: str(base.pop(key)) for key in tuple(base) if key in markers})
        said = {"python": version, "markers": markers, "base": {**about, **base}}
        lines = "\n".join(json.dumps({"name": name, "finding": finding}) for name, finding in said.items())
        program = tmp_path / "python"
        program.write_text(
            f'#!/bin/sh\nfor word in "$@"; do test "$word" = --interpreter && cat <<\'E\' && exit\n{lines}\nE\ndone\n'
            f'exec {shutil.which("python3")} "$@"\n'
        )
        program.chmod(0o755)
        return str(program)

    return make


@pytest.mark.parametrize(
    ("version", "base", "role", "message"),
    [
        ("3.9.2", {}, "cpu", r"has no Python 3\.10, 3\.11 or 3\.12: .* is 3\.9\.2\.\n.*apt-get install python3"),
        ("3.13.0", {}, "cpu", r"has no Python 3\.10, 3\.11 or 3\.12: .* is 3\.13\.0"),
        ("3.11.2", {"makes_environments": False}, "cpu", r"no venv or no ensurepip.*\n.*python3-venv"),
        ("3.11.2", {"libc": ["glibc", "2.17"]}, "cpu", r"glibc 2\.17; torch is built for 2\.28.*\n.*newer system"),
        ("3.11.2", {"libc": ["", ""]}, "cpu", r"has no glibc.*\n.*Debian"),
        ("3.11.2", {"pointer_bytes": 4}, "cpu", r"32-bit Python"),
        (
            "3.11.2",
            {"platform_machine": "aarch64"},
            "training",
            r"is Linux on aarch64; role training is for Linux on x86_64",
        ),
    ],
)
def test_a_machine_that_cannot_be_set_up_is_told_so_with_the_next_step(
    version: str,
    base: dict[str, Any],
    role: str,
    message: str,
    pretend: Callable[..., str],
    root: Path,
    tiny: TinyRelease,
) -> None:
    environment = tiny.on(LocalHost(), root, python=pretend(version, **base))
    with pytest.raises(EnvironmentMismatchError, match=message):
        environment.setup(role)


def test_a_role_that_hosts_do_not_have_is_refused(root: Path, tiny: TinyRelease) -> None:
    with pytest.raises(InvalidInputError, match=r"role: 'gpu' will not do.\n.*training, cpu"):
        tiny.on(LocalHost(), root).setup("gpu")
