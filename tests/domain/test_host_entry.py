from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from verl_lab.domain.host import FINGERPRINT, HostEntry, Jump
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

GOOD: dict[str, Any] = {
    "name": "gpu-box.1",
    "hostname": "gpu1.example.org",
    "port": "2222",
    "user": "me.too",
    "identity": "~/.ssh/id_ed25519",
    "proxy_jump": "me@gate.example.org:2200",
    "runs_root": "/data/my runs",
    "python": "/opt/python3.11/bin/python",
}
HOSTILE = [";", "\n", "\r", "\0", "$(id)", "`id`", "${HOME}", "|", "&", "'", '"', "\\", "<b>", ">", "*", "?", "%2e",
           "%h", "!", "#", "(", ")", "{", "}", "[", "]", "\t", "\x1b[31m", "\u202e", "\x85", "\u2028", "^"]  # fmt: skip
SHELL = set(";\n\r\0$`|&'\"\\<>*?%!#(){}\t\x1b^")
ALSO_HOSTILE_IN_FRONT = ["-", "--", "-oProxyCommand=", " ", "../", "/../", "~root/"]


def host(**changes: Any) -> HostEntry:
    return HostEntry.of(**{"name": "box", "hostname": "h", **changes})


def test_a_hostile_field_is_refused_by_its_name(dice: random.Random, rounds: Callable[[int], int]) -> None:
    HostEntry.of(**GOOD)
    for _ in range(rounds(1000)):
        field = dice.choice(list(GOOD))
        value = GOOD[field]
        if dice.random() < 0.2:
            bad = dice.choice(ALSO_HOSTILE_IN_FRONT) + value
        else:
            at = dice.randint(0, len(value))
            bad = value[:at] + dice.choice(HOSTILE) + value[at:]
        with pytest.raises(InvalidInputError) as caught:
            HostEntry.of(**{**GOOD, field: bad})
        named = caught.value.message.partition(":")[0]
        assert named == field or (field == "proxy_jump" and named in ("hostname", "user", "port")), (field, bad)
        assert caught.value.message.isprintable()


def test_whatever_is_accepted_means_nothing_to_a_shell(dice: random.Random, rounds: Callable[[int], int]) -> None:
    letters = [*HOSTILE, *"aZ09._-~/@:+=, ", "..", "~/", "//", "é"]
    accepted = 0
    for _ in range(rounds(1000)):
        text = "".join(dice.choices(letters[-20:] if dice.random() < 0.7 else letters, k=dice.randint(1, 6)))
        for field in ("name", "hostname", "user", "identity", "proxy_jump", "runs_root", "python"):
            try:
                entry = host(**{field: text})
            except InvalidInputError:
                continue
            accepted += 1
            value = ",".join(map(str, entry.proxy_jump)) if field == "proxy_jump" else getattr(entry, field)
            assert set(value) & SHELL == set()
            assert not value.startswith("-")
            assert ".." not in value.split("/")
            assert value.isprintable()
    assert accepted


@pytest.mark.parametrize(
    "hostname",
    ["h", "a-b_c.d", "10.0.0.1", "::1", "fe80::1%eth0", "2001:db8::10.0.0.1", "xn--bcher-kva.example", "a" * 63],
)
def test_addresses_that_are_accepted(hostname: str) -> None:
    assert host(hostname=hostname).hostname == hostname


@pytest.mark.parametrize(
    "hostname",
    ["", ".", "a.", "a..b", "-a", "a-", "1.2.3", "999.1.1.1", "0x7f.1", "127.1", "01.2.3.4", "::g", "[::1]", "me@h",
     "h:22", "a b", "fe80::1%", "fe80::1%a;b", "::1\n",
     "bücher.example", "a" * 64, ".".join(["a" * 60] * 5), "h/x", 7, None],
)  # fmt: skip
def test_addresses_that_are_refused(hostname: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^hostname: "):
        host(hostname=hostname)


@pytest.mark.parametrize("port", [0, -1, 65536, "22 ", "0x16", True, 22.0, None, "²"])
def test_ports_that_are_refused(port: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^port: "):
        host(port=port)


@pytest.mark.parametrize("path", ["~", "~/", "/", "/a", "~/a b/ü-1.2", "/a/", "/a,b=c@d:e+f"])
def test_paths_that_are_accepted(path: str) -> None:
    assert host(runs_root=path, identity=path, python=path).runs_root == path


@pytest.mark.parametrize(
    "path",
    ["", "a", "./a", "~me/a", "a~", "/a/../b", "/..", "~/..", "/a//b", "/a/ /b", "/ a", "/a ", "/x" * 600, "/a'b"],
)
def test_paths_that_are_refused(path: str) -> None:
    for field in ("runs_root", "identity", "python"):
        with pytest.raises(InvalidInputError, match=f"^{field}: "):
            host(**{field: path})


def test_jumps_are_read_as_ssh_writes_them() -> None:
    entry = host(proxy_jump="me@gate:2222,[2001:db8::1]:22,inner")
    assert entry.proxy_jump == (
        Jump(hostname="gate", port=2222, user="me"),
        Jump(hostname="2001:db8::1"),
        Jump(hostname="inner"),
    )
    assert [str(jump) for jump in entry.proxy_jump] == ["me@gate:2222", "[2001:db8::1]", "inner"]
    assert host(proxy_jump="").proxy_jump == ()
    for text in ("gate:", "a:b:c", "@gate", "a, b", "gate,,x", "[::1", "gate:0", "ssh://gate", ",".join("abcdefghi")):
        with pytest.raises(InvalidInputError):
            host(proxy_jump=text)


def test_a_password_in_the_wrong_field_is_not_repeated() -> None:
    for field in ("hostname", "proxy_jump", "user", "identity", "runs_root", "name"):
        with pytest.raises(InvalidInputError) as caught:
            host(**{field: "me:pa55word@box"})
        assert "pa55word" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    with pytest.raises(InvalidInputError, match=r"'password' is no field") as caught:
        host(password="pa55word")  # noqa: S106
    assert "pa55word" not in str(caught.value)
    with pytest.raises(ValidationError) as raw:
        HostEntry(name="box", hostname="me:pa55word@box")
    assert "pa55word" not in str(raw.value)


def test_a_misspelt_field_is_named_with_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match=r"'hostnam' is no field of a host.\nDid you mean hostname?"):
        HostEntry.of(name="box", hostnam="h")
    with pytest.raises(InvalidInputError, match=r"^hostname: field required"):
        HostEntry.of(name="box")


def test_this_machine_is_no_host_to_add() -> None:
    for name in ("local", "Local"):
        with pytest.raises(InvalidInputError, match="this machine itself"):
            host(name=name)


def test_changes_are_checked_and_the_name_stays() -> None:
    entry = host(user="me")
    assert entry.changed(port=23) == host(user="me", port=23)
    assert entry.changed(user=None) == host()
    assert entry.changed(proxy_jump="gate").changed(port=23).proxy_jump == (Jump(hostname="gate"),)
    assert entry.machine != entry.changed(port=23).machine
    assert entry.machine == entry.changed(user="you").machine
    with pytest.raises(InvalidInputError, match=r"^hostname: "):
        entry.changed(hostname="a;b")
    with pytest.raises(InvalidInputError, match="keeps its name"):
        entry.changed(name="other")


def test_ways_to_log_in_are_of_those_there_are() -> None:
    assert host().auth[0] == "agent"
    assert host(auth=["key"]).auth == ("key",)
    for auth in ([], ["key", "key"], ["none"], "key", None):
        with pytest.raises(InvalidInputError, match=r"^auth: "):
            host(auth=auth)


def test_a_fingerprint_is_one() -> None:
    good = "SHA256:" + "a" * 43
    assert FINGERPRINT.check("host_key", good) == good
    for bad in ("", "MD5:00", good + "=", good[:-1], good + "\n"):
        with pytest.raises(InvalidInputError, match=r"^host_key: "):
            FINGERPRINT.check("host_key", bad)
