"""Who is spoken to, and who speaks: keys, fingerprints, refusals; no secret leaves before the host is known."""

from __future__ import annotations

import pickle
import socket
import subprocess
import traceback
from typing import TYPE_CHECKING

import pytest
from ssh_server import QUICK, make_key

from verl_lab.domain.secret import Secret
from verl_lab.errors import TransportError
from verl_lab.transport.ssh import AuthenticationError, HostKeyError, KnownHosts, SshHost, Timings, UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from ssh_server import Server

WRONG = "wrong-pässword-7f3a"


def shown_by_ssh_keygen(key: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True).stdout.split()[1]


def test_unknown_host_is_refused_with_its_fingerprint_and_accepted_by_it(sshd: Server, tmp_path: Path):
    known = KnownHosts(tmp_path / "known_hosts", ())
    host = SshHost(sshd.entry(), known, timings=QUICK)
    with pytest.raises(HostKeyError, match="is not known") as caught:
        host.connect()
    assert caught.value.fingerprint == shown_by_ssh_keygen(sshd.host_key)
    assert caught.value.can_accept
    assert pickle.loads(pickle.dumps(caught.value)).fingerprint == caught.value.fingerprint  # noqa: S301  our own
    with pytest.raises(HostKeyError, match="not SHA256:wrong"):
        host.accept_key("SHA256:wrong")
    assert not (tmp_path / "known_hosts").exists()
    host.accept_key(caught.value.fingerprint)
    host.accept_key(caught.value.fingerprint)
    assert host.run(["true"], timeout_s=60).exit_code == 0
    assert (tmp_path / "known_hosts").read_text().count("\n") == 1
    host.close()


def test_changed_key_is_refused_before_anything_is_said(sshd: Server, tmp_path: Path):
    make_key(tmp_path / "other")
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    asked: list[str] = []
    known = KnownHosts(tmp_path / "known_hosts", ())
    host = SshHost(sshd.entry(user="nobody-came"), known, asked.append, QUICK)
    with pytest.raises(HostKeyError, match="another key") as caught:
        host.connect()
    assert not caught.value.can_accept
    with pytest.raises(HostKeyError, match="another key"):
        host.accept_key(shown_by_ssh_keygen(sshd.host_key))
    assert asked == []
    assert "nobody-came" not in sshd.log()
    host.close()


@pytest.mark.parametrize("hashed", [False, True])
def test_openssh_files_are_understood(sshd: Server, tmp_path: Path, hashed: bool):  # noqa: FBT001  pytest hands it in
    kind, key = sshd.host_key.with_suffix(".pub").read_text().split()[:2]
    theirs = tmp_path / "theirs"
    theirs.write_text(
        f"# a comment\n\nother,[127.0.0.1]:{sshd.port} {kind} {key} comment\n@cert-authority * {kind} {key}\n"
    )
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", theirs], check=True, capture_output=True)
    host = SshHost(sshd.entry(), KnownHosts(tmp_path / "own", (theirs,)), timings=QUICK)
    assert host.run(["true"], timeout_s=60).exit_code == 0
    host.close()


def test_revoked_key_and_negated_name_are_refused(sshd: Server, tmp_path: Path):
    kind, key = sshd.host_key.with_suffix(".pub").read_text().split()[:2]
    own = tmp_path / "own"
    for text, said in (
        (f"* {kind} {key}\n@revoked * {kind} {key}\n", "revoked"),
        (f"*,![127.0.0.1]:{sshd.port} {kind} {key}\n", "not known"),
    ):
        own.write_text(text)
        host = SshHost(sshd.entry(), KnownHosts(own, ()), timings=QUICK)
        with pytest.raises(HostKeyError, match=said):
            host.connect()
        host.close()


def test_wrong_password_is_tried_once_and_shown_nowhere(tmp_path: Path):
    from ssh_server import Server

    server = Server(tmp_path / "sshd", "PasswordAuthentication yes")
    asked: list[str] = []

    def secrets(kind: str) -> Secret:
        asked.append(kind)
        return Secret(WRONG)

    host = server.host(secrets=secrets, identity=None, auth=("password", "keyboard-interactive"))
    try:
        for _ in range(5):
            with pytest.raises(AuthenticationError, match="refused") as caught:
                host.connect()
            shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(host)
            assert WRONG not in shown
        assert asked == ["password"]
        assert server.log().count("Failed password") == 1
        assert WRONG not in server.log()
        with pytest.raises(AuthenticationError):
            host.reconnect()
        assert server.log().count("Failed password") == 2
    finally:
        host.close()
        server.stop()


def test_key_with_a_passphrase_is_unlocked_by_it(sshd: Server, tmp_path: Path):
    make_key(tmp_path / "locked", "open sesame")
    sshd.let_in(tmp_path / "locked")
    identity = str(tmp_path / "locked")
    host = sshd.host(identity=identity, secrets=lambda _: Secret("open sesame"))
    assert host.run(["true"], timeout_s=60).exit_code == 0
    host.close()
    for secret, said in ((None, "needs its passphrase"), (Secret("no"), "passphrase is wrong")):
        host = sshd.host(identity=identity, secrets=lambda _, secret=secret: secret)
        with pytest.raises(AuthenticationError, match=said):
            host.connect()
        host.close()


def test_key_that_is_not_let_in_and_one_that_is_none_are_named(sshd: Server, tmp_path: Path):
    make_key(tmp_path / "stranger")
    (tmp_path / "text").write_text("no key\n")
    for name, said in (("stranger", "was refused"), ("text", "not a private key"), ("none", "No such file")):
        host = sshd.host(identity=str(tmp_path / name))
        with pytest.raises(AuthenticationError, match=said):
            host.connect()
        host.close()


def test_a_host_is_reached_through_another(sshd: Server, own_sshd: Server, tmp_path: Path):
    own_sshd.let_in(sshd.user_key)
    jump = {"hostname": "127.0.0.1", "port": own_sshd.port, "identity": str(sshd.user_key), "user": sshd.entry().user}
    kind, key = own_sshd.host_key.with_suffix(".pub").read_text().split()[:2]
    known = sshd.known()
    sshd_line = (sshd.folder / "known_hosts").read_text().replace("*", f"[127.0.0.1]:{sshd.port}")
    (tmp_path / "known").write_text(f"[127.0.0.1]:{own_sshd.port} {kind} {key}\n{sshd_line}")
    known = KnownHosts(tmp_path / "known", ())
    host = SshHost(sshd.entry(proxy_jump=(jump,)), known, timings=QUICK)
    assert host.run(["true"], timeout_s=60).exit_code == 0
    assert "Accepted publickey" in own_sshd.log()
    host.close()


def test_nobody_there_and_a_server_that_is_none_are_unreachable(tmp_path: Path, sshd: Server):
    with socket.socket() as closed, socket.socket() as mute:
        closed.bind(("127.0.0.1", 0))
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        for listener in (closed, mute):
            host = sshd.host(listener.getsockname()[1], timings=Timings(connect_s=0.5))
            with pytest.raises(UnreachableError, match="unreachable") as caught:
                host.connect()
            assert caught.value.hint
            host.close()


def test_host_without_that_python_says_so(sshd: Server):
    host = sshd.host(python="/no/such/python")
    with pytest.raises(TransportError, match="runs no commands") as caught:
        host.run(["true"], timeout_s=60)
    assert "no such Python" in str(caught.value.__cause__)
    assert host.stat("/") is not None
    host.close()
