"""What lies in a folder, and nothing that leads out of it or is no file."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from verl_lab.datasets import find
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("private")
    (tmp_path / "data-outside").mkdir()
    (tmp_path / "data-outside" / "x").write_text("1")
    made = tmp_path / "data"
    (made / "inner").mkdir(parents=True)
    (made / "a.jsonl").write_text("{}")
    return made


def fifo(place: Path) -> None:
    os.mkfifo(place / "x")


def listener(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(place / "x"))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "link out": (lambda p: (p / "x").symlink_to(p.parent / "secret"), "leads out of the folder"),
    "relative link out": (lambda p: (p / "inner" / "x").symlink_to("../../secret"), "leads out of the folder"),
    "link to a sibling of like name": (lambda p: (p / "x").symlink_to("../data-outside/x"), "leads out of the folder"),
    "link to a folder": (lambda p: (p / "x").symlink_to("inner"), "link to what is no file"),
    "link to itself": (lambda p: (p / "x").symlink_to("x"), "leads nowhere"),
    "dangling link": (lambda p: (p / "x").symlink_to("nothing"), "leads nowhere"),
    "device": (lambda p: (p / "x").symlink_to("/dev/zero"), "leads out of the folder"),
    "named pipe": (fifo, "is a named pipe"),
    "socket": (listener, "is a socket"),
    "new line in a name": (lambda p: (p / "x\ny.jsonl").write_text(""), "no readable text"),
    "escape in a name": (lambda p: (p / "x\x1b[31m").write_text(""), "no readable text"),
    "name that is no UTF-8": (lambda p: (p / "x\udcff").write_text(""), "no readable text"),
    "too deep": (lambda p: (p / "/".join("d" * 40)).mkdir(parents=True), "inside one another"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_plain_file_of_the_folder_is_refused(
    place: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    make, why = HOSTILE[case]
    make(place)
    with pytest.raises(InvalidInputError, match=why):
        find(place)


def test_links_within_the_folder_and_the_users_own_link_to_it_are_followed(place: Path) -> None:
    (place / "again.jsonl").symlink_to("a.jsonl")
    chosen = place.parent / "chosen"
    chosen.symlink_to(place)
    found = find(chosen)
    assert list(found.files) == ["a.jsonl", "again.jsonl"]
    assert found.path == chosen
    assert set(found.files.values()) == {place / "a.jsonl"}


def test_hidden_files_and_caches_are_no_data(place: Path) -> None:
    for name in (".git/HEAD", "cache-0123.arrow", ".DS_Store", "inner/.ipynb_checkpoints/x"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("")
    assert list(find(place).files) == ["a.jsonl"]


@pytest.mark.parametrize("path", ["", "a\0b", "a\nb", "/x\udcff"])
def test_paths_that_are_no_text_are_refused(path: str) -> None:
    with pytest.raises(InvalidInputError, match="no path"):
        find(path)


def test_nothing_and_special_files_are_told_apart(tmp_path: Path, place: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing at"):
        find(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="neither a file nor a folder"):
        find("/dev/zero")
    with pytest.raises(InvalidInputError, match="holds no file"):
        find(place / "inner")
