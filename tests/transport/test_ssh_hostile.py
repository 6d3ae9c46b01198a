"""Names, shells and start files that a command line would not survive."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ssh_server import Server

from verl_lab.errors import TransportError
from verl_lab.transport.ssh.channel import command_line

if TYPE_CHECKING:
    from verl_lab.transport.ssh import SshHost

NAMES = (
    *("a b", "it's", '"', "$(touch pwned)", "`touch pwned`", ";touch pwned", "&touch pwned", "|x", ">x", "a\nb", "\n"),
    *("-rf", "--help", "é", "字", "\udcff", "*", "?", "[a]", "{a,b}", "~", "#", "%s", "\\", "\t", "\x01", "\x7f", "!x"),
    *("a=b", "..x", "%2e%2e", "CON", "x" * 255),
)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_a_name_and_nothing_else(ssh_host: SshHost, tmp_path: Path, name: str):
    path = str(tmp_path / "folder" / name)
    ssh_host.make_folder(str(tmp_path / "folder"))
    if len(name) < 200:
        ssh_host.write_atomic(path, b"old")
        assert ssh_host.write_new(path, b"new") is False
    else:
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"old")
    assert ssh_host.read(path) == b"old"
    assert ssh_host.list_folder(str(tmp_path / "folder")) == [name]
    found = ssh_host.stat(path)
    assert found is not None
    assert found.size == 3
    done = ssh_host.run(["cat", "--", path], timeout_s=30, env={"NAME": name})
    assert (done.exit_code, done.stdout) == (0, b"old")
    watcher = ssh_host.watcher()
    watcher.watch([str(tmp_path / "folder")])
    watcher.wait(30)
    with open(path, "ab") as file:  # noqa: PTH123
        file.write(b"er")
    assert watcher.wait(30) == {path}
    assert ssh_host.read(path, 0, 100) == b"older"
    watcher.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_relative_path_is_refused(ssh_host: SshHost, sftp_host: SshHost):
    for host in (ssh_host, sftp_host):
        for path in ("", "x", "../x", "~/x"):
            with pytest.raises(TransportError, match="not absolute"):
                host.read(path)


@pytest.mark.parametrize("python", ["/x'y", "a\nb", "a\0b", "a!b", "a\\b"])
def test_python_that_no_quoting_carries_is_refused(python: str):
    with pytest.raises(TransportError, match="python"):
        command_line(python)


SHELLS = [
    name for name in ("sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "mksh", "busybox") if shutil.which(name)
]


@pytest.mark.parametrize("shell", SHELLS)
def test_login_shells_all_start_the_agent(shell: str, tmp_path: Path):
    program = shutil.which(shell)
    call = f"{program} sh" if shell == "busybox" else program
    wrapper = tmp_path / "as-login-shell"
    wrapper.write_text(f'#!/bin/sh\nexec {call} -c "$SSH_ORIGINAL_COMMAND"\n')
    wrapper.chmod(0o755)
    server = Server(tmp_path / "sshd", f"ForceCommand {wrapper}")
    host = server.host()
    try:
        assert host.run(["echo", "it's $HOME"], timeout_s=30).stdout == b"it's $HOME\n"
    finally:
        host.close()
        server.stop()


def test_banner_noisy_start_files_and_another_locale_disturb_nothing(tmp_path: Path):
    (tmp_path / "banner").write_text("Authorised use only!\n" * 100)
    noisy = tmp_path / "noisy"
    noisy.write_text(
        "#!/bin/sh\nseq 1 5000\nprintf 'no newline \\0 \\377'\necho err >&2\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
    )
    noisy.chmod(0o755)
    options = (f"Banner {tmp_path / 'banner'}", f"ForceCommand {noisy}", "SetEnv LC_ALL=de_DE.ISO-8859-1 LANG=C")
    server = Server(tmp_path / "sshd", *options)
    host = server.host()
    try:
        path = str(tmp_path / "é字\udcff")
        host.write_atomic(path, b"x")
        assert Path(path).exists()
        assert path.rpartition("/")[2] in host.list_folder(str(tmp_path))
    finally:
        host.close()
        server.stop()


def test_python_in_a_folder_with_spaces_is_found(sshd: Server, tmp_path: Path):
    folder = tmp_path / "a folder, with = signs"
    folder.mkdir()
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    host = sshd.host(python=str(python))
    assert host.run(["echo", "x"], timeout_s=30).stdout == b"x\n"
    host.close()
