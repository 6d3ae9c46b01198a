"""``lab.hosts`` against a real SSH server: added, tried, accepted, edited, removed; no secret shows itself."""

from __future__ import annotations

import contextlib
import gc
import getpass
import logging
import platform
import shutil
import socket
import subprocess
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ssh_server import QUICK, Server, make_key

from verl_lab import Lab
from verl_lab.domain.secret import Secret
from verl_lab.errors import InvalidInputError, NotFoundError, TransportError
from verl_lab.store import RunRow
from verl_lab.transport.ssh import AuthenticationError, HostKeyError, SshHost, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cuttable_proxy import Proxy

pytestmark = pytest.mark.usefixtures("home")
ME = getpass.getuser()
PLANTED = "plänted-hunter2-9c41"
OTHER = "another-0b7e-planted"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a lab that does not wait long."""
    with Lab(tmp_path / "home") as made:
        made.hosts.timings = QUICK
        yield made


@pytest.fixture(scope="module")
def password_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that takes passwords alone."""
    server = Server(tmp_path_factory.mktemp("sshd-password"), "PasswordAuthentication yes", "PubkeyAuthentication no")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, sshd: Server) -> Path:
    """Return a key with the planted passphrase that the server lets in."""
    key = tmp_path_factory.mktemp("keys") / "locked"
    make_key(key, PLANTED)
    sshd.let_in(key)
    return key


def fingerprint(server: Server) -> str:
    command = ["ssh-keygen", "-lf", str(server.host_key)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]


def add(lab: Lab, server: Server, name: str = "box", **fields: Any) -> SshHost:
    """Add a server that is known, and return it as the lab gives it."""
    usual: dict[str, Any] = {
        "port": server.port,
        "user": ME,
        "key": str(server.user_key),
        "accept": fingerprint(server),
    }
    usual |= {"runs_root": str(lab.settings.home / "far")}
    lab.hosts.add(name, "127.0.0.1", **{**usual, **fields})
    host = lab.hosts.get(name)
    assert isinstance(host, SshHost)
    return host


def step(lab: Lab, name: str = "box") -> tuple[str, str, str]:
    """Return the step of a test that fails, what is wrong, and what to do next."""
    found = lab.hosts.test(name)
    bad = [one for one in found.steps if one.is_ok is False]
    assert len(bad) == 1, found
    at = found.steps.index(bad[0])
    assert all(one.is_ok for one in found.steps[:at])
    assert all(one.is_ok is None for one in found.steps[at + 1 :])
    assert not found
    assert bad[0].fix
    assert bad[0].found in repr(found)
    return bad[0].name, bad[0].found, bad[0].fix


def test_a_host_of_the_ssh_configuration_is_added_by_its_name(lab: Lab, home: Path) -> None:
    (home / ".ssh" / "config").write_text(
        "Host gpu1\n HostName 10.0.0.5\n Port 2222\n User me\n IdentityFile ~/.ssh/own\n ProxyJump gate\n"
        "Host gate\n HostName gate.example.org\nHost odd\n ProxyCommand nc %h %p\nHost *\n User everyone\n"
    )
    card = lab.hosts.add("gpu1")
    assert "me@10.0.0.5:2222 through everyone@gate.example.org" in repr(card)
    assert "lab.hosts.test('gpu1')" in repr(card)
    lab.hosts.add("gate", user="you", port=23)
    entry = lab.hosts.entry("gate")
    assert (entry.hostname, entry.user, entry.port) == ("gate.example.org", "you", 23)
    with pytest.raises(InvalidInputError, match="ProxyCommand is not supported"):
        lab.hosts.add("odd")
    with pytest.raises(NotFoundError, match=r"called 'gpu2'\.\nThe nearest: gpu1.*lab\.hosts\.add\('gpu2', "):
        lab.hosts.add("gpu2")
    assert [host.name for host in lab.hosts.list()] == ["local", "gate", "gpu1"]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("hostname", {"address": "me@h"}),
        ("port", {"address": "h", "port": 0}),
        ("user", {"address": "h", "user": "a;b"}),
        ("identity", {"address": "h", "key": "../x"}),
        ("proxy_jump", {"address": "h", "proxy_jump": "a:b:c"}),
        ("runs_root", {"address": "h", "runs_root": "runs"}),
        ("python", {"address": "h", "python": "py'"}),
        ("secret", {"address": "h", "password": ""}),
        ("fingerprint", {"address": "h", "accept": "MD5:aa"}),
    ],
)
def test_a_field_that_will_not_do_is_named_and_nothing_is_added(lab: Lab, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        lab.hosts.add("box", **fields)
    assert lab.hosts.names() == ("local",)


def test_names_that_cannot_be_added(lab: Lab) -> None:
    lab.hosts.add("box", "h", user="first")
    for name, said in (("local", "this machine"), ("box", "already"), ("a b", "name: ")):
        with pytest.raises(InvalidInputError, match=said):
            lab.hosts.add(name, "h", password=PLANTED)
    assert lab.hosts.entry("box").user == "first"
    with pytest.raises(InvalidInputError, match="is this machine"):
        lab.hosts.edit("local", port=1)
    with pytest.raises(InvalidInputError, match="is this machine"):
        lab.hosts.remove("local")
    with pytest.raises(NotFoundError, match=r"no host 'bos'\.\nThe nearest: box"):
        lab.hosts.get("bos")


def test_first_contact_is_refused_with_what_to_type_and_accepted_by_it(lab: Lab, sshd: Server) -> None:
    lab.hosts.add("box", "127.0.0.1", sshd.port, ME, str(sshd.user_key))
    shown = fingerprint(sshd)
    with pytest.raises(HostKeyError, match="is not known") as caught:
        lab.hosts.get("box").run(["true"], timeout_s=60)
    assert caught.value.fingerprint == shown
    assert f"lab.hosts.accept('box', '{shown}')" in str(caught.value)
    assert f"%verl_hosts accept box {shown}" in str(caught.value)
    assert step(lab)[0] == "host key"
    assert shown in step(lab)[1]
    with pytest.raises(HostKeyError, match="shows a key with the fingerprint"):
        lab.hosts.accept("box", "SHA256:" + "a" * 43)
    with pytest.raises(HostKeyError, match="is not known"):
        lab.hosts.get("box").stat("/")
    lab.hosts.accept("box", shown)
    lab.hosts.accept("box", shown)
    assert lab.hosts.get("box").run(["true"], timeout_s=60).exit_code == 0
    assert lab.hosts.list().hosts[1].host_key == shown
    assert (lab.settings.home / "known_hosts").read_text().count("\n") == 1


def test_accepting_as_one_adds_is_all_or_nothing(lab: Lab, sshd: Server) -> None:
    with pytest.raises(HostKeyError):
        add(lab, sshd, accept="SHA256:" + "a" * 43)
    assert lab.hosts.names() == ("local",)
    assert add(lab, sshd).run(["true"], timeout_s=60).exit_code == 0


def test_a_changed_key_is_refused_and_cannot_be_accepted(lab: Lab, sshd: Server, home: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    lab.hosts.add("box", "127.0.0.1", sshd.port, ME, str(sshd.user_key), PLANTED)
    name, wrong, fix = step(lab)
    assert name == "host key"
    assert "shows another key than it is known by" in wrong
    assert "line 1 of" in fix
    with pytest.raises(HostKeyError, match="another key"):
        lab.hosts.accept("box", fingerprint(sshd))
    assert lab.hosts.state("box").word == "unreachable"


def test_what_a_launch_needs_is_tried_step_by_step(lab: Lab, sshd: Server) -> None:
    add(lab, sshd)
    found = lab.hosts.test("box")
    assert found, found
    assert [one.name for one in found.steps] == ["network", "host key", "login", "commands", "Python", "space"]
    assert repr(found).startswith("box can be used.")
    assert "GiB are free at" in repr(found)
    assert "<table>" in found._repr_html_()
    assert lab.hosts.test("local"), lab.hosts.test("local")


@pytest.mark.parametrize(
    ("name", "said", "next_step", "fields"),
    [
        ("network", "unreachable: ", "Check the host's name", {"hostname": "no-such-host.invalid"}),
        ("login", "refused to log in nobody-of-that-name: ", "Give the right user", {"user": "nobody-of-that-name"}),
        ("login", "not a private key", "Give the right user", {"identity": "/etc/hostname"}),
        ("login", "No such file", "Give the right user", {"identity": "/no/such/key"}),
        ("Python", "no such Python", "--python", {"python": "/no/such/python"}),
        ("space", "Nothing can be written to /proc/none: ", "--runs-root", {"runs_root": "/proc/none"}),
    ],
)
def test_each_mistake_has_its_step_and_its_next_step(
    lab: Lab, sshd: Server, name: str, said: str, next_step: str, fields: dict[str, str]
) -> None:
    add(lab, sshd)
    lab.hosts.edit("box", **fields)
    found, wrong, fix = step(lab)
    assert found == name
    assert said in wrong
    assert next_step in fix


def test_a_wrong_port_and_what_is_no_ssh_server(lab: Lab, sshd: Server) -> None:
    add(lab, sshd)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        lab.hosts.edit("box", port=closed.getsockname()[1])
        assert step(lab)[0] == "network"
        assert "Check the port" in step(lab)[2]


def test_a_host_that_runs_no_commands_says_so(lab: Lab, sshd_for_files: Server) -> None:
    add(lab, sshd_for_files)
    name, wrong, fix = step(lab)
    assert name == "commands"
    assert "runs no commands" in wrong
    assert "Sending data and launching needs a login" in fix
    lab.hosts.edit("box", runs_root=None)
    with pytest.raises(TransportError, match="Where home is on box cannot be told"):
        lab.hosts.root("box")


def test_too_little_space_and_another_kind_of_machine(lab: Lab, sshd: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    add(lab, sshd)
    monkeypatch.setattr("verl_lab.lab.hosts.check._LEAST_FREE_BYTES", 2**70)
    for name, fix in (("box", "--runs-root"), ("local", "VERL_LAB_HOME")):
        at, wrong, hint = step(lab, name)
        assert (at, wrong.split()[0]) == ("space", "Only")
        assert fix in hint
    monkeypatch.setattr("verl_lab.lab.hosts.check._MACHINES", ("sparc",))
    assert step(lab)[0] == "Python"
    assert platform.machine() in step(lab)[1]


def test_what_a_host_says_stays_text(lab: Lab, tmp_path: Path) -> None:
    server = Server(tmp_path / "rude", "ForceCommand printf '\\033[31m<script>alert(1)</script>'")
    try:
        add(lab, server)
        found = lab.hosts.test("box")
        assert "\x1b" not in repr(found)
        assert "<script>" in repr(found)
        assert "<script>" not in found._repr_html_()
        assert "<script>" not in lab.hosts.list()._repr_html_()
    finally:
        server.stop()


def test_a_password_is_tried_once_until_something_changes(lab: Lab, password_sshd: Server) -> None:
    def failed() -> int:
        return password_sshd.log().count("Failed password")

    host = add(lab, password_sshd, key=None, password=PLANTED)
    before = failed()
    for _ in range(3):
        with pytest.raises(AuthenticationError, match="password: it was refused"):
            host.connect()
    assert failed() == before + 1
    assert step(lab)[0] == "login"
    assert failed() == before + 2
    lab.hosts.edit("box", password=OTHER)
    for _ in range(3):
        with pytest.raises(AuthenticationError):
            host.connect()
    assert failed() == before + 3
    lab.hosts.edit("box", password=None)
    with pytest.raises(AuthenticationError, match="no key and no password"):
        host.connect()
    assert failed() == before + 3


def test_a_passphrase_is_missing_then_wrong_then_right(lab: Lab, sshd: Server, locked: Path) -> None:
    host = add(lab, sshd, key=str(locked))
    assert "it needs its passphrase" in step(lab)[1]
    lab.hosts.edit("box", passphrase=OTHER)
    assert "its passphrase is wrong" in step(lab)[1]
    lab.hosts.edit("box", passphrase=Secret(PLANTED))
    assert lab.hosts.get("box") is host
    assert host.run(["true"], timeout_s=60).exit_code == 0
    done = lab.hosts.rotate_keys()
    assert (done.renewed, done.left) == (1, 0)
    with Lab(lab.settings.home) as again:
        assert again.hosts.get("box").run(["true"], timeout_s=60).exit_code == 0
        again.hosts.edit("box", passphrase=None)
        assert again.hosts._secrets.kinds("host:box") == []


def test_a_secret_is_found_nowhere(
    lab: Lab,
    sshd: Server,
    password_sshd: Server,
    locked: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    def heard(error: BaseException) -> None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        told.stack[:] = [frame for frame in told.stack if frame.filename != __file__]  # which plants them
        shown.extend((*told.format(), repr(error), str(error), repr(error.__dict__)))

    fields: dict[str, Any] = {"port": password_sshd.port, "user": ME, "password": PLANTED, "passphrase": OTHER}
    wrong: list[dict[str, Any]] = [{"port": 0}, {"accept": "SHA256:" + "a" * 43}, {"key": "no path"}]
    for more in wrong:
        with pytest.raises((InvalidInputError, TransportError)) as refused:
            lab.hosts.add("other", "127.0.0.1", **{**fields, **more})
        heard(refused.value)
    shown.append(repr(lab.hosts.add("box", "127.0.0.1", **fields, accept=fingerprint(password_sshd))))
    with pytest.raises(AuthenticationError) as caught:
        lab.hosts.get("box").run(["true"], timeout_s=60)
    heard(caught.value)
    add(lab, sshd, "locked", key=str(locked), passphrase=OTHER)
    with pytest.raises(AuthenticationError) as caught:
        lab.hosts.get("locked").run(["true"], timeout_s=60)
    heard(caught.value)
    lab.hosts.edit("locked", passphrase=PLANTED)
    inside = lab.hosts.get("locked").run(["sh", "-c", "env; ps axwwe; cat /proc/$PPID/environ"], timeout_s=60)
    shown.append(inside.stdout.decode(errors="replace"))
    for name in ("box", "locked"):
        shown.extend((repr(lab.hosts.test(name)), lab.hosts.test(name)._repr_html_(), repr(lab.hosts.get(name))))
    shown.extend((repr(lab.hosts), repr(lab.hosts.list()), lab.hosts.list()._repr_html_(), repr(lab.hosts.view())))
    shown.extend((repr(lab.hosts.entry("box")), repr(vars(lab.hosts)), repr(lab.hosts.rotate_keys())))
    shown.extend((caplog.text, *capfd.readouterr(), sshd.log(), password_sshd.log()))
    content = [path.read_bytes() for path in lab.settings.home.rglob("*") if path.is_file()]
    assert len(content) > 2
    for secret in (PLANTED, OTHER):
        assert not [text for text in shown if secret in text]
        assert not [1 for data in content if secret.encode() in data or secret.encode("utf-16-le") in data]
        assert lab.hosts._secrets.get("host:box" if secret == OTHER else "host:locked", "passphrase") == Secret(secret)


def test_whoever_holds_a_host_goes_on_when_it_is_edited(lab: Lab, sshd: Server, proxy: Proxy, tmp_path: Path) -> None:
    host = add(lab, sshd)
    watcher = host.watcher()
    watcher.watch([str(tmp_path)])
    watcher.wait(5)
    lab.hosts.edit("box", port=proxy.port)
    lab.hosts.accept("box", fingerprint(sshd))
    with contextlib.suppress(UnreachableError):  # the end of the old connection is told once
        watcher.wait(0)
    (tmp_path / "new").write_text("x")
    # Of a folder that is watched anew, the folder itself is named.
    assert watcher.wait(20) & {str(tmp_path), str(tmp_path / "new")}
    assert host.read(str(tmp_path / "new")) == b"x"
    assert lab.hosts.get("box") is host
    assert proxy.connections
    watcher.close()


def test_what_was_begun_before_a_change_counts_no_more(lab: Lab, sshd: Server, proxy: Proxy) -> None:
    host = add(lab, sshd, user="nobody-of-that-name")
    lab.hosts.edit("box", port=proxy.port)
    lab.hosts.accept("box", fingerprint(sshd))
    proxy.delay_s = 0.2
    before = proxy.connections
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(host.connect)
        while proxy.connections == before:
            time.sleep(0.01)
        connecting = [one for one in threading.enumerate() if one.name == "verl-lab-connect-box"]
        lab.hosts.edit("box", user=ME)
        with pytest.raises(UnreachableError, match="closed here"):
            waiting.result(20)
    assert host.connect()
    for thread in connecting:
        thread.join(20)
    assert "refused to log in" not in str(lab.hosts.state("box"))
    assert host.run(["true"], timeout_s=60).exit_code == 0


def test_each_machine_on_the_way_is_accepted_in_its_turn(lab: Lab, sshd: Server, own_sshd: Server, home: Path) -> None:
    own_sshd.let_in(sshd.user_key)
    shutil.copy(sshd.user_key, home / ".ssh" / "id_ed25519")
    lab.hosts.add("box", "127.0.0.1", sshd.port, ME, proxy_jump=f"{ME}@127.0.0.1:{own_sshd.port}")
    for server in (own_sshd, sshd):
        assert step(lab)[0] == "host key"
        assert fingerprint(server) in step(lab)[2]
        assert lab.hosts.list().hosts[1].host_key is None
        lab.hosts.accept("box", fingerprint(server))
    assert lab.hosts.list().hosts[1].host_key == fingerprint(sshd)
    assert lab.hosts.get("box").run(["true"], timeout_s=60).exit_code == 0


def test_another_process_changes_a_host(lab: Lab, sshd: Server) -> None:
    host = add(lab, sshd)
    host.connect()
    with Lab(lab.settings.home) as other:
        other.hosts.edit("box", user="nobody-of-that-name")
    assert lab.hosts.get("box") is host
    with pytest.raises(AuthenticationError, match="nobody-of-that-name"):
        host.connect()


def test_a_host_with_live_runs_is_removed_by_force_alone(lab: Lab, sshd: Server) -> None:
    host = add(lab, sshd, password=PLANTED)
    host.connect()
    lab.store.runs.upsert(RunRow(id="far-run", name="x", folder="/nowhere", host="box"))
    assert "far-run" in repr(lab.hosts.list())
    with pytest.raises(InvalidInputError, match=r"far-run\.\n.*force=True"):
        lab.hosts.remove("box")
    assert host.run(["true"], timeout_s=60).exit_code == 0
    lab.hosts.remove("box", force=True)
    assert lab.hosts._secrets.kinds("host:box") == []
    with pytest.raises(TransportError, match="is closed"):
        host.connect()
    with pytest.raises(NotFoundError):
        lab.hosts.state("box")
    assert add(lab, sshd) is not host


def test_unreachable_is_a_state_of_the_host_with_reason_and_time(lab: Lab, own_sshd: Server) -> None:
    assert lab.hosts.state("local").is_reachable
    host = add(lab, own_sshd)
    assert lab.hosts.state("box").word == "unknown"
    host.connect()
    state = lab.hosts.state("box")
    assert (state.word, state.reason) == ("reachable", None)
    row = lab.store.hosts.get("box")
    assert row is not None
    assert row.last_contact is not None
    assert "now" in repr(lab.hosts.list())
    own_sshd.stop()
    while lab.hosts.state("box").is_reachable:  # the connection tells by itself
        time.sleep(0.01)
    with pytest.raises(UnreachableError):
        host.reconnect()
    state = lab.hosts.state("box")
    assert state.word == "unreachable"
    assert "box is unreachable" in str(state) or "Connection refused" in str(state)
    assert state.since is not None
    later = lab.store.hosts.get("box")
    assert later is not None
    assert later.last_contact is not None
    assert later.last_contact >= row.last_contact
    assert "unreachable" in repr(lab.hosts.list())
    own_sshd.start()
    lab.hosts.connect("box", anew=True)
    assert lab.hosts.state("box").is_reachable


def test_the_folder_on_a_host(lab: Lab, sshd: Server, tmp_path: Path) -> None:
    add(lab, sshd, runs_root=None)
    there = lab.hosts.get("box").run(["sh", "-c", "echo ~"], timeout_s=60).stdout.decode().strip()
    assert lab.hosts.root("local") == str(tmp_path / "home")
    assert lab.hosts.root("box") == f"{there}/.verl-lab"
    for given, root in (
        ("/data/runs", "/data"),
        ("/data/me/", "/data/me"),
        ("~/x/runs", f"{there}/x"),
        ("~", there),
        ("/", "/"),
    ):
        lab.hosts.edit("box", runs_root=given)
        assert lab.hosts.root("box") == root


def test_the_folder_is_known_without_asking_where_it_can_be(lab: Lab) -> None:
    lab.hosts.add("off", "127.0.0.1", 1, runs_root="/data/runs")
    assert lab.hosts.root("off") == "/data"
    lab.hosts.edit("off", runs_root=None)
    with pytest.raises(UnreachableError):
        lab.hosts.root("off")


def test_the_same_object_until_the_lab_is_closed(tmp_path: Path, sshd: Server) -> None:
    lab = Lab(tmp_path / "home")
    host = add(lab, sshd)
    assert lab.hosts.get("box") is host
    assert lab.hosts.get("local") is lab.host
    lab.close()
    with pytest.raises(TransportError, match="closed"):
        host.connect()


def test_rounds_of_use_and_closing_leave_nothing_behind(
    tmp_path: Path, sshd: Server, rounds: Callable[[int], int]
) -> None:
    others = set(threading.enumerate())

    def held() -> int:
        for thread in set(threading.enumerate()) - others:
            thread.join(10)
        assert set(threading.enumerate()) <= others
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    with Lab(tmp_path / "home") as lab:
        add(lab, sshd)
    before = None
    for _ in range(rounds(100) + 1):
        with Lab(tmp_path / "home") as lab:
            lab.hosts.timings = QUICK
            watcher = lab.hosts.get("box").watcher()
            watcher.watch([str(tmp_path)])
            watcher.wait(0)
            assert lab.hosts.get("box").stat("/") is not None
        before = before or held()  # after the first: some descriptors are the process's for good
    assert held() == before
