"""``%verl_hosts``: hosts are added, tried, accepted, changed and removed from a cell; no secret stands on a line."""

from __future__ import annotations

import getpass
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.manager import start_new_kernel
from ssh_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_client.blocking.client import BlockingKernelClient

    from .conftest import Shell

pytestmark = pytest.mark.usefixtures("home")
ME = getpass.getuser()
PLANTED = "planted-hunter2-51"


def fingerprint(server: Server) -> str:
    command = ["ssh-keygen", "-lf", str(server.host_key)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]


def test_a_host_from_its_first_line_to_its_last(shell: Shell, sshd: Server, tmp_path: Path) -> None:
    assert "%verl_hosts add NAME ADDRESS" in repr(shell.run("%verl_hosts list").result)
    options = f"--port {sshd.port} --user {ME} --key {sshd.user_key} --runs-root {tmp_path / 'far'}"
    assert "%verl_hosts test box" in repr(shell.run(f"%verl_hosts add box 127.0.0.1 {options}").result)
    shown = fingerprint(sshd)
    line = f"%verl_hosts accept box {shown}"
    assert line in repr(shell.run("%verl_hosts test box").result)
    assert "Accepted" in shell.run(line).printed
    assert "box can be used." in repr(shell.run("%verl_hosts test box").result)
    listed = repr(shell.run("%verl_hosts list").result)
    assert f"{ME}@127.0.0.1:{sshd.port}" in listed
    assert "reachable" in listed
    view: Any = shell.run("%verl_hosts").result
    assert [host.name for host in view.hosts] == ["local", "box"]
    assert view.hosts[1].problem is None
    changed = repr(shell.run("%verl_hosts edit box localhost --runs-root none --port 22").result)
    assert f"changed: {ME}@localhost." in changed
    assert "0 secrets are encrypted with a new key" in shell.run("%verl_hosts rotate-keys").printed
    assert "removed" in shell.run("%verl_hosts remove box").printed
    assert "box" not in repr(shell.run("%verl_hosts list").result)


def test_a_host_of_the_ssh_configuration_is_completed_and_added(shell: Shell, home: Path) -> None:
    (home / ".ssh" / "config").write_text("Host gpu1 gpu2\n HostName 10.0.0.5\nHost *\n User me\n")
    assert shell.complete("%verl_hosts add gp") == ["%verl_hosts add gpu1", "%verl_hosts add gpu2"]
    assert "me@10.0.0.5" in repr(shell.run("%verl_hosts add gpu1").result)
    assert shell.complete("%verl_hosts add gp") == ["%verl_hosts add gpu2"]
    for action in ("test", "edit", "remove", "accept"):
        assert shell.complete(f"%verl_hosts {action} gp") == [f"%verl_hosts {action} gpu1"]
    assert shell.complete("%verl_hosts ro") == ["%verl_hosts rotate-keys"]
    assert shell.complete("%verl_hosts test lo") == ["%verl_hosts test local"]
    assert "%verl_hosts add gpu2 --passphrase" in shell.complete("%verl_hosts add gpu2 --passp")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ad box h", "invalid choice: 'ad'"),
        ("add", "give its NAME"),
        ("add box", "no host in ~/.ssh/config called 'box'"),
        ("add local h", "this machine"),
        ("add box h --port many", "port: 'many'"),
        ("add box me@h", "hostname: "),
        ("test bos", "no host 'bos'"),
        ("edit bos --port 3", "no host 'bos'"),
        ("edit bos", "What is to be another about bos?"),
        ("remove bos", "no host 'bos'"),
        ("accept bos", "Give the fingerprint"),
        ("accept bos MD5:aa", "fingerprint: 'MD5:aa'"),
        ("list bos", "%verl_hosts list takes no 'bos'"),
        ("test bos --port 3", "%verl_hosts test takes no --port"),
        ("view --force", "%verl_hosts view takes no --force"),
    ],
)
def test_mistakes_are_told_in_a_line(shell: Shell, line: str, said: str) -> None:
    answer = shell.run(f"%verl_hosts {line}")
    assert said in answer.told
    assert "Traceback" not in answer.printed


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"add box h --password {PLANTED}", "never typed on a line"),
        (f"add box h --passphrase={PLANTED}", "never typed on a line"),
        (f"edit box --password {PLANTED} --user me", "never typed on a line"),
        (f"add box h {PLANTED}", "too many words"),
        (f"add box h {PLANTED} --user me", "too many words"),
        (f"test box h {PLANTED}", "too many words"),
    ],
)
def test_a_secret_on_a_line_is_refused_and_not_repeated(shell: Shell, tmp_path: Path, line: str, said: str) -> None:
    answer = shell.run(f"%verl_hosts {line}")
    assert said in answer.told
    assert PLANTED not in answer.told
    assert PLANTED not in answer.printed
    written = [path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not [content for content in written if PLANTED.encode() in content]


class Kernel:
    """A notebook's kernel, with someone at the keyboard or nobody."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, code: str, answers: list[str] | None = None) -> str:
        """Run a cell and return all that would be written into the notebook."""
        said: list[str] = []

        def asked(message: Any) -> None:
            assert message["content"]["password"]
            said.append(message["content"]["prompt"])
            assert answers is not None
            self._client.input(answers.pop(0))

        reply = self._client.execute_interactive(
            code,
            allow_stdin=answers is not None,
            stdin_hook=asked,
            output_hook=lambda message: said.append(str(message["content"])),
            timeout=120,
        )
        return "\n".join([*said, str(reply["content"])])


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """Return a kernel whose lab lives in a folder of its own."""
    monkeypatch.setenv("VERL_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    manager, client = start_new_kernel()
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_password_is_asked_for_and_found_nowhere(kernel: Kernel, tmp_path: Path) -> None:
    server = Server(tmp_path / "sshd", "PasswordAuthentication yes", "PubkeyAuthentication no")
    try:
        told = [kernel.run("%load_ext verl_lab")]
        add = f"%verl_hosts add box 127.0.0.1 --port {server.port} --user {ME} --password"
        nobody = kernel.run(add)
        assert "nobody can be asked here" in nobody
        assert "no host 'box'" in kernel.run("%verl_hosts test box")
        told.append(kernel.run(add, [PLANTED]))
        assert "Password for box" in told[-1]
        told.append(kernel.run(f"%verl_hosts accept box {fingerprint(server)}"))
        told.append(kernel.run("%verl_hosts test box"))
        assert "password: it was refused" in told[-1]
        told.append(kernel.run("%xmode Verbose\nget_ipython().run_line_magic('verl_hosts', 'nonsense')"))
        told.append(kernel.run("from verl_lab import Lab\nlab = Lab()\nlab.hosts.get('box').stat('/')"))
        assert "AuthenticationError" in told[-1]
        told.append(kernel.run("%verl_debug"))
        told.append(kernel.run("%history -g\nlab.close()\n[*map(repr, globals().values())]"))
        assert PLANTED not in "\n".join(told)
        assert PLANTED not in server.log()
        written = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert [p for p in written if p.name == "verl-lab.db"]
        assert not [path for path in written if PLANTED.encode() in path.read_bytes()]
    finally:
        server.stop()
