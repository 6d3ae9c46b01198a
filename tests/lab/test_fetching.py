"""Checkpoints and models from a host: only what differs, whole or not at all, nothing outside of their folder."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.errors import InvalidInputError, NoSpaceError, NotFoundError, TransportError, UnreachableError
from verl_lab.lab.fetching import fetch_checkpoint, fetch_model, pull
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from cuttable_proxy import Proxy

    from verl_lab import Lab
    from verl_lab.transport.base import Host
    from verl_lab.transport.ssh import SshHost


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return this machine, near and far."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("ssh_host")


@pytest.fixture
def there(tmp_path: Path, dice: random.Random) -> Path:
    """Return a folder as a host has it."""
    made = tmp_path / "there" / "global_step_5"
    (made / "actor").mkdir(parents=True)
    for name, size in (("data.pt", 1000), ("actor/model.pt", 3_000_000), ("actor/$(x) 'é'.pt", 10), ("empty", 0)):
        (made / name).write_bytes(dice.randbytes(size))
    return made


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def names(told: list[tuple[str, int, int]]) -> set[str]:
    return {what.split(" from ")[0].removeprefix("Fetching ") for what, _, _ in told}


def fetched(host: Host, there: Path, here: Path, **how: Any) -> list[tuple[str, int, int]]:
    told: list[tuple[str, int, int]] = []
    assert pull(host, str(there), here, progress=lambda *line: told.append(line), **how) == here
    assert content(here) == content(there)
    assert [entry.name for entry in here.parent.iterdir() if entry.name.startswith(".")] == []
    return told


def test_folder_arrives_whole(host: Host, there: Path, tmp_path: Path) -> None:
    told = fetched(host, there, tmp_path / "new" / "here")
    assert names(told) == {"data.pt", "actor/model.pt", "actor/$(x) 'é'.pt", "empty"}
    assert told[-1][1:] == (3_001_010, 3_001_010)


def test_only_what_differs_is_fetched(host: Host, there: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    fetched(host, there, here)
    assert fetched(host, there, here) == []
    about = (here / "actor" / "model.pt").stat()
    (here / "actor" / "model.pt").write_bytes(bytes(3_000_000))
    os.utime(here / "actor" / "model.pt", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert names(fetched(host, there, here)) == {"actor/model.pt"}
    (there / "data.pt").write_bytes(b"other")
    (there / "more.pt").write_bytes(b"more")
    assert names(fetched(host, there, here)) == {"data.pt", "more.pt"}


def test_folder_with_anything_else_in_it_is_left_alone(host: Host, there: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    for mine in ("notes.txt", ".git/config"):
        (here / mine).parent.mkdir(parents=True, exist_ok=True)
        (here / mine).write_text("mine")
        with pytest.raises(InvalidInputError, match=r"to: .*no part of what is fetched"):
            pull(host, str(there), here)
        assert content(here) == {mine: b"mine"}
        (here / mine).unlink()
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InvalidInputError, match="is no folder"):
        pull(host, str(there), file)
    assert file.read_text() == "mine"


def test_what_is_not_there_is_told(host: Host, there: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"There is no .*none"):
        pull(host, str(there / "none"), tmp_path / "here")
    with pytest.raises(InvalidInputError, match="is no folder"):
        pull(host, str(there / "data.pt"), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_folder_that_changes_while_it_is_fetched_is_not_put_in_place(host: Host, there: Path, tmp_path: Path) -> None:
    def change(_what: str, _done: int, _total: int) -> None:
        (there / "data.pt").write_bytes(b"other")
        (there / "actor" / "model.pt").unlink(missing_ok=True)

    with pytest.raises(TransportError):
        pull(host, str(there), tmp_path / "here", progress=change)
    assert not (tmp_path / "here").exists()
    fetched(host, there, tmp_path / "here")


HOSTILE = [
    *("../out", "a/../../out", "/etc/out", "..", ".", "", "a//out", "a/./out", "a/", "/", "a\0b", "a\nb", "\udcff"),
    *("x" * 5000, "\u202eout", "./../out"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """The host's interpreter is one that lies."""
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"is_folder": True, "files": {"good": [1, 1, None], name: [1, 1, None]}}))
    liar = tmp_path / "liar"
    liar.write_text(f"#!/bin/sh\nexec cat '{answer}'\n")
    liar.chmod(0o755)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "good").write_text("x")
    before = content(tmp_path)
    with pytest.raises(InvalidInputError, match="is no name that a file here may have"):
        pull(LocalHost(), str(tmp_path / "there"), tmp_path / "in" / "here", python=str(liar))
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "answer", ["", "[]", "null", "{}", '{"is_folder": 1, "files": {"a": 1}}', '{"files": []}', "x"]
)
def test_answer_that_is_none_is_an_error_of_the_host(tmp_path: Path, answer: str) -> None:
    (tmp_path / "answer").write_text(answer)
    liar = tmp_path / "liar"
    liar.write_text(f"#!/bin/sh\nexec cat '{tmp_path / 'answer'}'\n")
    liar.chmod(0o755)
    with pytest.raises(TransportError, match="local: "):
        pull(LocalHost(), str(tmp_path), tmp_path / "here", python=str(liar))


def test_what_earlier_attempts_left_is_used_or_taken_away(host: Host, there: Path, tmp_path: Path) -> None:
    copy = tmp_path / ".here.partial" / "copy"
    copy.mkdir(parents=True)
    for name in ("other.pt", ".x.1234.part"):
        (copy / name).write_bytes(b"other")
    (copy / "data.pt").write_bytes((there / "data.pt").read_bytes())
    assert names(fetched(host, there, tmp_path / "here")) == {"actor/model.pt", "actor/$(x) 'é'.pt", "empty"}


def test_link_in_the_half_made_folder_is_not_followed(host: Host, there: Path, tmp_path: Path) -> None:
    outside, work = tmp_path / "outside", tmp_path / ".here.partial"
    outside.mkdir()
    (work / "copy").mkdir(parents=True)
    (work / "copy" / "actor").symlink_to(outside)
    with pytest.raises(InvalidInputError, match="lies outside"):
        pull(host, str(there), tmp_path / "here")
    assert content(outside) == {}


def test_broken_connections_cost_nothing_that_has_arrived(
    far: SshHost, proxy: Proxy, there: Path, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
) -> None:
    for number in range(rounds(30)):
        cuts = sorted(dice.randrange(0, 3_000_000) for _ in range(3))

        def cut(_what: str, done: int, _total: int, cuts: list[int] = cuts) -> None:
            if cuts and done >= cuts[0]:
                cuts.pop(0)
                proxy.cut()

        here = tmp_path / f"here{number}"
        pull(far, str(there), here, progress=cut)
        assert content(here) == content(there)
        assert cuts == []


def test_who_begins_anew_goes_on_where_another_stopped(
    far: SshHost, proxy: Proxy, there: Path, tmp_path: Path, sshd: Any
) -> None:
    def cut(_what: str, done: int, _total: int) -> None:
        if done > 2_000_000:
            proxy.refuses = True
            proxy.cut()

    with pytest.raises(UnreachableError):
        pull(far, str(there), tmp_path / "here", progress=cut, patience_s=0.5)
    assert not (tmp_path / "here").exists()
    proxy.refuses = False
    other = sshd.host(proxy.port)
    told = fetched(other, there, tmp_path / "here")
    other.close()
    assert max(done for _, done, _ in told[:2]) > 1_000_000


def test_several_at_once_fetch_it_once(host: Host, there: Path, tmp_path: Path) -> None:
    told: list[str] = []
    done: list[dict[str, bytes]] = []

    def one() -> None:
        done.append(content(pull(host, str(there), tmp_path / "here", progress=lambda what, *_: told.append(what))))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [content(there)] * 3
    assert len([what for what in told if "data.pt" in what]) <= 2  # its beginning and its end


@pytest.fixture
def small(disk_of: Callable[[str], Path]) -> Path:
    """Return a file system of 66 MB."""
    return disk_of("66m")


def test_without_room_nothing_is_fetched(host: Host, there: Path, small: Path) -> None:
    told: list[object] = []
    with pytest.raises(NoSpaceError, match=r"has 69\.2 MB free; 70\.1 MB are needed"):
        pull(host, str(there), small / "here", progress=lambda *line: told.append(line))
    assert told == []
    assert not (small / "here").exists()


@pytest.fixture
def run(lab: Lab, write_run: Callable[..., Any]) -> Any:
    """Return a run with checkpoints of steps 2 and 4, and one of step 6 that is being written."""
    written = write_run("trained")
    written.begin()
    root = written.layout.checkpoints
    for step in (2, 4, 6):
        (root / f"global_step_{step}" / "actor" / "huggingface").mkdir(parents=True)
        (root / f"global_step_{step}" / "actor" / "model_world_size_1_rank_0.pt").write_text(f"weights {step}")
        (root / f"global_step_{step}" / "actor" / "huggingface" / "model.safetensors").write_text(f"model {step}")
    (root / "latest_checkpointed_iteration.txt").write_text("4")
    return lab.run(written.layout.folder.name)


def test_newest_whole_checkpoint_is_fetched_or_the_one_asked_for(run: Any, tmp_path: Path, lab: Lab) -> None:
    home = lab.settings.home
    assert fetch_checkpoint(run, home=home) == run.layout.checkpoints / "global_step_4", "it is here already"
    here = fetch_checkpoint(run, 2, tmp_path / "mine", home=home)
    assert content(here) == content(run.layout.checkpoints / "global_step_2")
    with pytest.raises(NotFoundError, match="no whole checkpoint of step 6") as caught:
        fetch_checkpoint(run, 6, home=home)
    assert caught.value.hint == "There are those of steps 2, 4."


def test_checkpoint_of_a_far_run_comes_into_the_labs_folder(
    run: Any, ssh_host: SshHost, monkeypatch: pytest.MonkeyPatch, lab: Lab
) -> None:
    monkeypatch.setattr(type(run), "host", ssh_host)
    here = fetch_checkpoint(run, home=lab.settings.home)
    assert here == lab.settings.home / "fetched" / run.id / "global_step_4"
    assert content(here) == content(run.layout.checkpoints / "global_step_4")
    model = fetch_model(run, 2, home=lab.settings.home)
    assert model == lab.settings.home / "fetched" / run.id / "model_step_2"
    assert content(model) == {"model.safetensors": b"model 2"}


def test_run_without_checkpoints_says_so(lab: Lab, write_run: Callable[..., Any]) -> None:
    run = write_run("untrained").begin().run
    with pytest.raises(NotFoundError, match="no checkpoint") as caught:
        fetch_checkpoint(run, home=lab.settings.home)
    assert "save_freq" in str(caught.value.hint)
