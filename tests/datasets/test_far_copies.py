"""Copies on a host: sent once, only what differs, verified there, complete or not there; whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.datasets import find
from verl_lab.datasets.asking import listing
from verl_lab.datasets.far import FarCopies, everything
from verl_lab.errors import InvalidInputError, NoSpaceError, TransportError, UnreachableError
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from cuttable_proxy import Proxy

    from verl_lab import Lab
    from verl_lab.datasets import Found
    from verl_lab.transport.base import Host
    from verl_lab.transport.ssh import SshHost


class Told:
    """What was told of the way, and what is to be done at some place on it."""

    def __init__(self, then: Callable[[int], None] | None = None) -> None:
        self.lines: list[tuple[str, int, int]] = []
        self._then = then

    def __call__(self, what: str, done: int, total: int) -> None:
        if not what.startswith("Sending"):
            return
        self.lines.append((what, done, total))
        if self._then is not None:
            self._then(done)

    @property
    def files(self) -> set[str]:
        return {what.split(" to ")[0].removeprefix("Sending ") for what, _, _ in self.lines}


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return this machine, near and far."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("ssh_host")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "far home" / ".verl-lab"


@pytest.fixture
def folder(tmp_path: Path, dice: random.Random) -> Path:
    """Return a data set of three files, two of them below a folder."""
    made = tmp_path / "rows"
    (made / "parts").mkdir(parents=True)
    for name, size in (("a.jsonl", 100_000), ("parts/b.jsonl", 3_000_000), ("parts/$(c) 'é'.jsonl", 10)):
        (made / name).write_bytes(dice.randbytes(size))
    return made


def keep(copies: FarCopies, lab: Lab, path: Path, told: Told | None = None, **how: Any) -> Path:
    return Path(copies.keep("datasets", find(path), lab.datasets.fingerprints, progress=told, **how))


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def beside(place: Path) -> list[str]:
    return [entry.name for entry in place.parent.iterdir()]


def test_copy_has_the_layout_of_those_here_and_is_read_only(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    copies, told = FarCopies(host, str(root)), Told()
    place = keep(copies, lab, folder, told)
    version = lab.datasets.at(folder).hash
    assert place == root / "datasets" / version / "rows"
    assert content(place) == content(folder)
    assert {file.stat().st_mode & 0o777 for file in place.rglob("*") if file.is_file()} == {0o444}
    assert beside(place) == ["rows"]
    assert told.files == {"a.jsonl", "parts/b.jsonl", "parts/$(c) 'é'.jsonl"}
    assert told.lines[-1][1:] == (3_100_010, 3_100_010)
    assert copies.find("datasets", version, "rows") == str(place)
    one = keep(copies, lab, folder / "a.jsonl")
    assert (one.name, one.read_bytes()) == ("a.jsonl", (folder / "a.jsonl").read_bytes())


def test_what_is_there_is_not_sent_again(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    place = keep(FarCopies(host, str(root)), lab, folder)
    inode, told = (place / "a.jsonl").stat().st_ino, Told()
    assert keep(FarCopies(host, str(root)), lab, folder, told) == place
    assert told.lines == []
    assert (place / "a.jsonl").stat().st_ino == inode


def test_another_version_sends_only_the_file_that_differs(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    copies = FarCopies(host, str(root))
    first = keep(copies, lab, folder)
    before = content(first)
    (folder / "a.jsonl").write_bytes(b"other")
    told = Told()
    second = keep(copies, lab, folder, told)
    assert told.files == {"a.jsonl"}
    assert content(second) == content(folder) != before == content(first)


def test_same_content_under_another_name_is_not_sent(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    copies, told = FarCopies(host, str(root)), Told()
    keep(copies, lab, folder / "a.jsonl")
    (folder / "a.jsonl").rename(folder / "z.jsonl")
    place = keep(copies, lab, folder / "z.jsonl", told)
    assert told.lines == []
    assert sorted(beside(place)) == ["a.jsonl", "z.jsonl"]


def spoil(path: Path) -> None:
    """Change a byte, and leave size and time as they were."""
    about = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(about.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a changed byte": lambda place: spoil(place / "a.jsonl"),
    "cut short": lambda place: os.truncate(place / "a.jsonl", 5),
    "missing": lambda place: (place / "a.jsonl").unlink(),
    "a link in its place": lambda place: ((place / "a.jsonl").unlink(), (place / "a.jsonl").symlink_to("/etc/passwd")),
    "a folder in its place": lambda place: ((place / "a.jsonl").unlink(), (place / "a.jsonl").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_there_is_noticed_and_only_that_file_sent_again(
    host: Host, root: Path, lab: Lab, folder: Path, damage: str
) -> None:
    copies = FarCopies(host, str(root))
    place = keep(copies, lab, folder)
    DAMAGES[damage](place)
    version = lab.datasets.at(folder).hash
    assert copies.find("datasets", version, "rows") is None
    told = Told()
    assert keep(copies, lab, folder, told) == place
    assert content(place) == content(folder)
    assert told.files == {"a.jsonl"}
    assert beside(place) == ["rows"]


def test_file_too_many_there_is_taken_out(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    copies, told = FarCopies(host, str(root)), Told()
    place = keep(copies, lab, folder)
    (place / "parts" / "more.jsonl").write_text("{}")
    assert content(keep(copies, lab, folder, told)) == content(folder)
    assert told.lines == []


def test_what_lies_at_the_same_path_there_is_copied_there(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    told = Told()
    other = folder.with_name("theirs")
    shutil.copytree(folder, other)
    (other / "a.jsonl").write_bytes(bytes(100_000))
    place = keep(FarCopies(host, str(root)), lab, folder, told, at=str(other))
    assert content(place) == content(folder)
    assert told.files == {"a.jsonl"}
    inodes = {file.stat().st_ino for file in place.rglob("*")} & {file.stat().st_ino for file in other.rglob("*")}
    assert not inodes, "what the user may write to is never linked"


def test_equal_folder_there_is_used_in_place_until_it_changes(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    copies, other = FarCopies(host, str(root)), folder.with_name("theirs")
    shutil.copytree(folder, other)
    for _ in range(2):
        told = Told()
        assert keep(copies, lab, folder, told, at=str(other), in_place=True) == other
        assert told.lines == []
    assert not list((root / "datasets").glob("[0-9a-f]*"))
    (other / "a.jsonl").write_bytes(bytes(100_000))
    place = keep(copies, lab, folder, at=str(other), in_place=True)
    assert place.is_relative_to(root)
    assert content(place) == content(folder)


@pytest.mark.parametrize("name", ["parts/b.jsonl", "a.jsonl"], ids=["being sent", "sent before"])
def test_file_that_is_written_to_while_it_is_sent_is_refused(
    host: Host, root: Path, lab: Lab, folder: Path, name: str
) -> None:
    def write(done: int) -> None:
        if done > 200_000:
            with (folder / name).open("ab") as file:
                file.write(b"more")

    with pytest.raises(TransportError, match=rf"{name} (changed|was written to) while it was"):
        keep(FarCopies(host, str(root)), lab, folder, Told(write))
    assert not list((root / "datasets").glob("*/rows"))
    assert content(keep(FarCopies(host, str(root)), lab, folder)) == content(folder)


def test_what_was_spoilt_after_it_arrived_is_sent_again(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    spoilt: list[Path] = []

    def write(_done: int) -> None:
        arrived = [path for path in root.glob("datasets/*/.partial/[!.]*") if path.stat().st_size == 100_000]
        if arrived and not spoilt:
            spoil(arrived[0])
            spoilt.append(arrived[0])

    place = keep(FarCopies(host, str(root)), lab, folder, Told(write))
    assert spoilt
    assert content(place) == content(folder)


def test_two_that_send_the_same_at_once_both_find_it_whole(
    root: Path, lab: Lab, folder: Path, ssh_host: SshHost, rounds: Callable[[int], int]
) -> None:
    for number in range(rounds(20)):
        here = root.with_name(f"{number}")
        found: list[object] = []

        def one(host: Host, here: Path = here, found: list[object] = found) -> None:
            try:
                found.append(content(keep(FarCopies(host, str(here)), lab, folder)))
            except BaseException as error:  # noqa: BLE001  seen below
                found.append(error)

        threads = [threading.Thread(target=one, args=(host,)) for host in (LocalHost(), ssh_host, ssh_host)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [content(folder)] * 3
        assert [path.name for path in here.glob("datasets/[0-9a-f]*/*")] == ["rows"]


def test_what_another_one_has_finished_meanwhile_is_taken(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    finished: list[Path] = []

    def overtake(done: int) -> None:
        if done > 200_000 and not finished:
            finished.append(keep(FarCopies(LocalHost(), str(root)), lab, folder))

    assert [keep(FarCopies(host, str(root)), lab, folder, Told(overtake))] == finished
    assert content(finished[0]) == content(folder)
    assert beside(finished[0]) == ["rows"]


def test_names_that_a_copy_has_are_safe(host: Host, root: Path, lab: Lab, tmp_path: Path) -> None:
    for name in ("-rf.jsonl", "a;b $(id).jsonl", "..jsonl", "é.jsonl"):
        (tmp_path / name).write_text(f'{{"a": "{name}"}}')
        place = keep(FarCopies(host, str(root)), lab, tmp_path / name)
        assert place.read_bytes() == (tmp_path / name).read_bytes()
        assert place.parent.parent == root / "datasets"
        assert place.suffix == ".jsonl" or name == "..jsonl"
        assert not set(place.name) & set(" ;$()é")


def test_request_of_many_files_is_not_too_long_for_a_command(root: Path, lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(600):
        (folder / f"{'x' * 200}{number}").write_text(str(number % 50))
    told = Told()
    place = keep(FarCopies(LocalHost(), str(root)), lab, folder, told)
    assert content(place) == content(folder)
    assert len(told.files) == 50, "the same content is sent once"
    assert not list((root / ".requests").iterdir())


@pytest.fixture
def small(disk_of: Callable[[str], Path]) -> Path:
    """Return a file system of 80 MB."""
    return disk_of("80m")


def test_without_room_nothing_is_sent(host: Host, small: Path, lab: Lab, tmp_path: Path) -> None:
    big = tmp_path / "big.jsonl"
    big.write_bytes(bytes(20_000_000))
    told = Told()
    with pytest.raises(NoSpaceError, match=r"has 83\.9 MB free; 87\.1 MB are needed"):
        keep(FarCopies(host, str(small)), lab, big, told)
    assert told.lines == []
    assert not list(small.glob("datasets/*/*"))


def test_room_that_others_take_meanwhile_is_told_as_such(host: Host, small: Path, lab: Lab, tmp_path: Path) -> None:
    big = tmp_path / "big.jsonl"
    big.write_bytes(os.urandom(12_000_000))

    def fill(_done: int) -> None:
        with contextlib.suppress(OSError), (small / "others").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(2**20))

    with pytest.raises(NoSpaceError, match="ran out of room"):
        keep(FarCopies(host, str(small)), lab, big, Told(fill))
    (small / "others").unlink()
    assert keep(FarCopies(host, str(small)), lab, big).read_bytes() == big.read_bytes()


def test_broken_connections_cost_nothing_that_has_arrived(
    far: SshHost, proxy: Proxy, root: Path, lab: Lab, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
) -> None:
    for number in range(rounds(30)):
        folder, parts = tmp_path / f"rows{number}", (4, 100)[number % 2]
        folder.mkdir()
        for part in range(parts):
            (folder / f"{part}.jsonl").write_bytes(dice.randbytes(8_000_000 // parts))
        cuts = sorted(dice.randrange(0, 6_000_000) for _ in range(3))  # more is told of after each

        def cut(done: int, cuts: list[int] = cuts) -> None:
            if cuts and done >= cuts[0]:
                cuts.pop(0)
                proxy.cut()

        told = Told(cut)
        place = keep(FarCopies(far, str(root)), lab, folder, told)
        assert content(place) == content(folder)
        assert cuts == []
        assert beside(place) == [folder.name]


def test_who_begins_anew_goes_on_where_another_stopped(
    far: SshHost, proxy: Proxy, root: Path, lab: Lab, folder: Path, sshd: Any
) -> None:
    def cut(done: int) -> None:
        if done > 2_000_000:
            proxy.refuses = True
            proxy.cut()

    with pytest.raises(UnreachableError):
        keep(FarCopies(far, str(root), patience_s=0.5), lab, folder, Told(cut))
    assert not list((root / "datasets").glob("*/rows"))
    proxy.refuses = False
    told, other = Told(), sshd.host(proxy.port)
    place = keep(FarCopies(other, str(root)), lab, folder, told)
    other.close()
    assert content(place) == content(folder)
    assert told.lines[0][1] > 1_000_000


def test_host_that_was_never_reached_is_told_of_at_once(
    far: SshHost, proxy: Proxy, root: Path, lab: Lab, folder: Path
) -> None:
    proxy.refuses = True
    with pytest.raises(UnreachableError):
        keep(FarCopies(far, str(root)), lab, folder)
    assert proxy.refused == 1


def test_host_without_that_python_is_named(host: Host, root: Path, lab: Lab, folder: Path) -> None:
    with pytest.raises(TransportError, match="no-python"):
        keep(FarCopies(host, str(root), python="/no-python"), lab, folder)
    with pytest.raises(TransportError, match="its files could not be looked after"):
        keep(FarCopies(host, str(root), python="/bin/false"), lab, folder)


def test_models_may_have_links_to_files_anywhere(host: Host, root: Path, lab: Lab, tmp_path: Path) -> None:
    blobs, model = tmp_path / "blobs", tmp_path / "snapshots" / "0.5B"
    blobs.mkdir()
    model.mkdir(parents=True)
    (blobs / "1234").write_bytes(b"weights")
    (model / "model.safetensors").symlink_to(blobs / "1234")
    (model / ".cache").mkdir()
    found: Found = everything(model)
    place = Path(FarCopies(host, str(root)).keep("models", found, lab.datasets.fingerprints))
    assert content(place) == {"model.safetensors": b"weights"}
    assert not (place / "model.safetensors").is_symlink()
    os.mkfifo(model / "pipe")
    with pytest.raises(InvalidInputError, match="neither a file nor a folder"):
        everything(model)


def test_listing_tells_files_sizes_and_hashes(host: Host, folder: Path) -> None:
    (folder / ".hidden").write_text("x")
    found = listing(host, str(folder), hashed=["a.jsonl"])
    assert found is not None
    assert {name: file.size for name, file in found.files.items()} == {
        "a.jsonl": 100_000,
        "parts/b.jsonl": 3_000_000,
        "parts/$(c) 'é'.jsonl": 10,
    }
    assert found.files["a.jsonl"].sha256 == host.sha256(str(folder / "a.jsonl"))
    assert found.files["parts/b.jsonl"].sha256 is None
    assert listing(host, str(folder / "none")) is None
    os.mkfifo(folder / "pipe")
    with pytest.raises(TransportError, match="is no plain file"):
        listing(host, str(folder))
