from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.host import Jump
from verl_lab.errors import TransportError
from verl_lab.transport.ssh_config import SshAlias, SshConfig, read_ssh_config

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def read(home: Path, text: str, **others: str) -> SshConfig:
    for name, content in others.items():
        (home / ".ssh" / name).write_text(content)
    (home / ".ssh" / "config").write_text(text)
    return read_ssh_config()


def one(home: Path, text: str, name: str = "box", **others: str) -> SshAlias:
    return next(alias for alias in read(home, text, **others).aliases if alias.name == name)


def test_an_alias_becomes_a_candidate(home: Path) -> None:
    alias = one(
        home,
        'Host box x\n\tHostName = "gpu.example.org"\n  user me\nPORT 2222\nIdentityFile ~/.ssh/id_box # mine\n\n# e\n',
    )
    entry = alias.entry
    assert entry is not None
    assert (entry.name, entry.hostname, entry.user, entry.port) == ("box", "gpu.example.org", "me", 2222)
    assert entry.identity == "~/.ssh/id_box"
    assert alias.notes == ()


def test_there_are_no_hosts_without_a_configuration(home: Path) -> None:
    assert read_ssh_config() == SshConfig()
    assert read(home, "") == SshConfig()


def test_a_configuration_that_cannot_be_read_is_an_error(home: Path) -> None:
    (home / ".ssh" / "config").mkdir()
    with pytest.raises(TransportError, match="Could not read"):
        read_ssh_config()


def test_jumps_are_followed_with_what_the_configuration_says_of_them(home: Path) -> None:
    text = """
Host gate
    HostName gate.example.org
    User keeper
    Port 2022
    IdentityFile ~/.ssh/gate
    ProxyJump outer
Host outer
    HostName 10.0.0.1
Host box
    ProxyJump gate,me@inner:23
"""
    entry = one(home, text).entry
    assert entry is not None
    assert entry.proxy_jump == (
        Jump(hostname="10.0.0.1"),
        Jump(hostname="gate.example.org", port=2022, user="keeper", identity="~/.ssh/gate"),
        Jump(hostname="inner", port=23, user="me"),
    )


def test_jumps_in_a_circle_are_named(home: Path) -> None:
    alias = one(home, "Host box\nProxyJump gate\nHost gate\nProxyJump box\n")
    assert alias.entry is None
    assert "circle" in alias.notes[-1]


def test_nothing_that_a_configuration_says_is_run(home: Path) -> None:
    planted = home / "planted"
    text = f"""
Match exec "touch {planted}"
    User mallory
Host box
    ProxyCommand sh -c 'touch {planted}' %h
    KnownHostsCommand /bin/touch {planted}
Host $(touch${{IFS}}{planted})
Host tricky
    HostName `touch {planted}`
Host lastly
    LocalCommand touch {planted}
    PermitLocalCommand yes
"""
    read_back = read(home, text)
    entries = {alias.name: alias for alias in read_back.aliases}
    assert entries["box"].entry is None
    assert "ProxyCommand is not supported, and is not run." in entries["box"].notes
    assert entries["tricky"].entry is None
    assert entries["lastly"].entry is not None
    assert any("localcommand" in note for note in entries["lastly"].notes)
    assert any("Match" in note and "line 2" in note for note in read_back.notes)
    assert all(alias.entry is None or alias.entry.user is None for alias in read_back.aliases)
    assert not planted.exists()


def test_of_a_jump_and_a_command_the_first_counts(home: Path) -> None:
    assert one(home, "Host box\nProxyJump gate\nProxyCommand nc %h\n").entry is not None
    assert one(home, "Host box\nProxyCommand nc %h\nProxyJump gate\n").entry is None
    assert one(home, "Host box\nProxyCommand none\nProxyJump gate\n").entry is not None


@pytest.mark.parametrize(
    ("line", "said"),
    [("HostName a;b", "hostname"), ("Port 99999", "port"), ("User -l", "user"), ("IdentityFile /a/../b", "identity"),
     ("ProxyJump a:b:c", "proxy_jump"), ("IdentityFile ${HOME}/x", "identity"), ("Port x", "port")],
)  # fmt: skip
def test_what_cannot_be_used_is_named(home: Path, line: str, said: str) -> None:
    alias = one(home, f"Host box\n{line}\n")
    assert alias.entry is None
    assert alias.notes[-1].startswith(f"{said}: ")


def test_includes_are_read_where_they_stand(home: Path) -> None:
    text = "Include conf.* missing ~nobody-of-that-name/x\nHost box\nInclude inner\nPort 5\nHost *\nUser late\n"
    config = read(home, text, **{"conf.a": "Host box\nUser early\n", "inner": "Port 4\nHost far\nPort 9\n"})
    (box,) = [alias.entry for alias in config.aliases]
    assert box is not None
    assert (box.user, box.port) == ("early", 4)
    assert config.notes == ()


def test_files_that_include_themselves_come_to_an_end(home: Path) -> None:
    config = read(home, "Include config config\nHost box\n")
    assert [alias.name for alias in config.aliases] == ["box"]
    assert any("too many files" in note for note in config.notes)


def test_pipes_and_devices_are_not_waited_for(home: Path) -> None:
    os.mkfifo(home / "pipe")
    config = read(home, f"Include {home}/pipe /dev/zero /**\nHost box\n")
    assert [alias.name for alias in config.aliases] == ["box"]
    assert any("no plain file" in note for note in config.notes)


def test_noise_is_read_past(home: Path, dice: random.Random, rounds: Callable[[int], int]) -> None:
    words = [
        "Host",
        "box",
        "Match",
        "Include",
        "*",
        "=",
        '"',
        "'",
        "\\",
        "\0",
        "é",
        "#",
        "User",
        "Port",
        "\n",
        " ",
        ",",
        "%",
    ]
    for _ in range(rounds(1000)):
        text = "".join(dice.choices(words, k=dice.randint(0, 40)))
        read(home, f"{text}\nHost last\n")
    (home / ".ssh" / "config").write_bytes(dice.randbytes(5000))
    read_ssh_config()


NAMES = ["box", "boy", "gpu1", "gpu2", "far"]
PATTERNS = [*NAMES, "bo?", "gpu*", "*", "!gpu1", "g[a-z]u1"]


def random_configuration(dice: random.Random) -> str:
    lines: list[str] = []
    for _ in range(dice.randint(1, 6)):
        lines.append("Host " + " ".join(dice.choices(PATTERNS, k=dice.randint(1, 3))))
        for keyword, value in (
            ("HostName", dice.choice(["h1", "%h.example.org", "10.0.0.1"])),
            ("User", dice.choice(["me", "you"])),
            ("Port", dice.choice(["22", "2222"])),
            ("IdentityFile", dice.choice(["/keys/one", '"/keys/two words"', "~/.ssh/three"])),
            ("ProxyJump", dice.choice(["none", "gate", "me@gate:23"])),
        ):
            if dice.random() < 0.4:
                lines.append(f"  {keyword}{dice.choice([' ', '=', '  = '])}{value}")
    return "\n".join([*lines, "Host " + " ".join(NAMES)])


def openssh(file: Path, name: str) -> dict[str, str] | None:
    """Return what OpenSSH makes of a configuration, of each keyword the first value; None for jumps in a circle."""
    program = shutil.which("ssh")
    assert program, "OpenSSH's client is not installed"
    said = subprocess.run([program, "-F", str(file), "-G", name], capture_output=True, text=True, check=False)
    if "jumphost loop" in said.stderr:
        return None
    assert said.returncode == 0, said.stderr
    found: dict[str, str] = {}
    for line in said.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, value)
    return found


def test_what_is_read_is_what_openssh_reads(home: Path, dice: random.Random, rounds: Callable[[int], int]) -> None:
    file, jumped = home / ".ssh" / "config", 0
    for _ in range(rounds(100)):
        file.write_text(random_configuration(dice))
        gate = openssh(file, "gate")
        # OpenSSH notices only some circles, and starts processes without end in the others.
        if gate is not None and "proxyjump" in gate:
            gate = None
        for alias in read_ssh_config().aliases:
            if alias.name not in NAMES:
                continue
            theirs = openssh(file, alias.name)
            assert theirs is not None
            entry = alias.entry
            if gate is None and "proxyjump" in theirs:
                assert entry is None
                assert "circle" in alias.notes[-1]
                continue
            assert entry is not None, (alias, file.read_text())
            assert (entry.hostname, str(entry.port)) == (theirs["hostname"], theirs["port"]), file.read_text()
            assert (entry.user or getpass.getuser()) == theirs["user"], file.read_text()
            assert (entry.identity or "~/.ssh/id_rsa") == theirs["identityfile"], file.read_text()
            # OpenSSH tells how the jump is written; what it means is what it makes of that name.
            jump = theirs.get("proxyjump")
            if jump is None or gate is None:
                assert entry.proxy_jump == ()
                continue
            jumped += 1
            (ours,) = entry.proxy_jump
            assert (ours.hostname, str(ours.port)) == (gate["hostname"], "23" if "23" in jump else gate["port"])
            assert (ours.user or getpass.getuser()) == ("me" if "@" in jump else gate["user"])
    assert jumped
