"""``setup_remote_env.sh``, the magic and the lab: the same set-up from a shell, a cell and Python."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from verl_lab import Lab
from verl_lab.environments import __main__ as command
from verl_lab.environments import remote
from verl_lab.errors import EnvironmentMismatchError, InvalidInputError, NotFoundError
from verl_lab.lab.hosts import environments
from verl_lab.magics.environment import show_environment
from verl_lab.magics.family import VerlMagics
from verl_lab.magics.line import MagicError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssh_server import Server
    from tiny_release import TinyRelease

SCRIPT = Path(__file__).parents[2] / "environments" / "setup_remote_env.sh"


@pytest.fixture
def lab(sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Return a lab with one host over SSH."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    home = tmp_path / "lab"
    with Lab(home) as made:
        kind, public = sshd.host_key.with_suffix(".pub").read_text().split()[:2]
        (home / "known_hosts").write_text(f"* {kind} {public}\n")
        far, key = str(tmp_path / "far"), str(sshd.user_key)
        made.hosts.add("box", "127.0.0.1", sshd.port, getpass.getuser(), key, runs_root=far)
        yield made


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VERL_LAB_HOME": str(home), "PYTHON": sys.executable}
    return subprocess.run(
        [SCRIPT, *words], env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_the_script_reports_on_a_host_and_says_what_is_wrong(sshd: Server, tmp_path: Path) -> None:
    who, key = f"{getpass.getuser()}@127.0.0.1:{sshd.port}", str(sshd.user_key)
    unknown = run(tmp_path, who, "--key", key)
    assert unknown.returncode == 1
    assert "is not known. Its ssh-ed25519 key is SHA256:" in unknown.stderr
    kind, known = sshd.host_key.with_suffix(".pub").read_text().split()[:2]
    (tmp_path / "known_hosts").write_text(f"* {kind} {known}\n")
    found = run(tmp_path, who, "--key", key, "--root", str(tmp_path / "far"), "--check")
    assert found.returncode == 1, "it is not as it should be"
    assert "127.0.0.1 has no environment to train in" in found.stdout
    assert f"set-up: environments/setup_remote_env.sh {who}" in found.stdout
    assert "--offline" in run(tmp_path, "--help").stdout
    refused = run(tmp_path, "someone@what?")
    assert (refused.returncode, "will not do" in refused.stderr) == (2, True)


def test_the_command_ends_well_where_the_host_is_as_it_should_be(
    sshd: Server, tmp_path: Path, tiny: TinyRelease, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VERL_LAB_HOME", str(tmp_path))
    kind, known = sshd.host_key.with_suffix(".pub").read_text().split()[:2]
    (tmp_path / "known_hosts").write_text(f"* {kind} {known}\n")
    monkeypatch.setattr(command, "HostEnvironment", lambda host, root, **_: tiny.on(host, root))
    tiny.pretend_set_up(tmp_path / "far")
    words = [f"{getpass.getuser()}@127.0.0.1:{sshd.port}", "cpu", "--key", str(sshd.user_key), "--offline"]
    assert command.main([*words, "--root", str(tmp_path / "far")]) == 0
    told = capsys.readouterr().out
    assert "127.0.0.1 holds role cpu already" in told
    assert "as this release makes it" in told


def test_the_lab_and_the_magic_report_set_up_and_refuse(
    lab: Lab, tiny: TinyRelease, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote, "HostEnvironment", lambda host, root, **_: tiny.on(host, root))

    def line(text: str) -> object:
        parser = cast("Any", VerlMagics.verl_env).parser
        return show_environment(lab, parser.parse_args(text.split()))

    with pytest.raises(
        EnvironmentMismatchError, match=r"box is not set up.*has no environment.*\n%verl_env box --setup mends"
    ):
        environments.ready(lab, "box")
    assert "box has no environment to train in" in str(line("box"))
    assert "as this release makes it" in str(line("box --setup --role cpu --offline"))
    assert "setup: " in capsys.readouterr().out
    state = environments.ready(lab, "box")
    assert (state.role, state.python) == ("cpu", f"{lab.hosts.root('box')}/environments/cpu/bin/python")
    assert environments.environment(lab, "box").ok

    assert environments.ready(lab, "local").python == sys.executable
    with pytest.raises(InvalidInputError, match=r"'local' is this machine.*\n.*setup_local_env\.sh"):
        line("--setup")
    with pytest.raises(MagicError, match="add --setup"):
        line("box --offline")
    with pytest.raises(NotFoundError, match="no host 'bux'"):
        line("bux")
