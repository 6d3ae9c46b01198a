from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab import inputs
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

OUTSIDE = b"nobody may read this"
PIECES = ["..", ".", "inner", "open.txt", "out", "loop", "%2e%2e", "..%2f", "", "runs", "runs-other", "~", "$HOME",
          "\0", "outside.txt", "file-out", "a\nb", "-rf", "\u202etxt", "..\\.."]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a folder with links that lead out of it, beside what must not be reached from it."""
    root = tmp_path / "runs"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "open.txt").write_bytes(b"open")
    (tmp_path / "runs-other").mkdir()
    for outside in (tmp_path / "outside.txt", tmp_path / "runs-other" / "open.txt"):
        outside.write_bytes(OUTSIDE)
    (root / "out").symlink_to(tmp_path)
    (root / "inner" / "file-out").symlink_to(tmp_path / "outside.txt")
    (root / "loop").symlink_to(root / "loop")
    return root


def hostile_paths(dice: random.Random, root: Path, count: int) -> Iterator[str]:
    for _ in range(count):
        parts = dice.choices(PIECES, k=dice.randint(1, 5))
        start = dice.choice(["", "", "/", f"{root}/", f"{root}", f"{root.parent}/", "./"])
        yield start + "/".join(parts)


def test_no_path_leads_out_of_the_folder_it_was_opened_in(
    tree: Path, dice: random.Random, rounds: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    opened = 0
    for path in hostile_paths(dice, tree, rounds(1000)):
        try:
            descriptor = inputs.open_below("path", tree, path)
        except (InvalidInputError, NotFoundError):
            continue
        opened += 1
        try:
            found = Path(f"/proc/self/fd/{descriptor}").readlink()
            assert found.is_relative_to(tree)
            assert found.is_dir() or os.read(descriptor, 100) != OUTSIDE
        finally:
            os.close(descriptor)
    assert opened or rounds(1000) < 1000


def test_no_path_outside_of_the_roots_is_let_through(
    tree: Path, dice: random.Random, rounds: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    let_through = 0
    for path in hostile_paths(dice, tree, rounds(1000)):
        try:
            found = inputs.below("path", path, [tree])
        except InvalidInputError:
            continue
        let_through += 1
        assert os.path.commonpath([os.path.realpath(path), tree]) == str(tree)
        assert found == Path(os.path.realpath(path))
    assert let_through or rounds(1000) < 1000


def test_a_sibling_whose_name_begins_like_the_root_is_outside(tree: Path) -> None:
    assert inputs.below("path", tree / "new" / "file", [tree]) == tree / "new" / "file"
    assert inputs.below("path", tree.parent / "runs-other", [tree, tree.parent / "runs-other"]).name == "runs-other"
    for path in (tree.parent / "runs-other" / "open.txt", tree / ".." / "runs-other", tree / "out" / "outside.txt"):
        with pytest.raises(InvalidInputError, match="outside") as caught:
            inputs.below("path", path, [tree])
        assert str(tree) in (caught.value.hint or "")


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(tree: Path, rounds: Callable[[int], int]) -> None:
    swapped, done = tree / "swapped", threading.Event()

    def swap() -> None:
        while not done.is_set():
            swapped.mkdir()
            (swapped / "open.txt").write_bytes(b"open")
            (swapped / "open.txt").unlink()
            swapped.rmdir()
            swapped.symlink_to(tree.parent / "runs-other")
            swapped.unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(rounds(20_000)):
            try:
                descriptor = inputs.open_below("path", tree, "swapped/open.txt")
            except (InvalidInputError, NotFoundError):
                continue
            with os.fdopen(descriptor, "rb") as file:
                assert file.read() != OUTSIDE
    finally:
        done.set()
        thread.join()


def test_opening_below_leaves_no_descriptor_open(tree: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("inner/open.txt", "inner/no.txt", "out/outside.txt", "inner/open.txt/x", "../outside.txt"):
        try:
            os.close(inputs.open_below("path", tree, path))
        except (InvalidInputError, NotFoundError):
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_link_is_refused_with_what_the_system_says(tree: Path) -> None:
    with pytest.raises(InvalidInputError, match=os.strerror(errno.ELOOP)):
        inputs.open_below("path", tree, "inner/file-out")


@pytest.mark.parametrize(
    "value", ["", "1.0", "1e3", "0x10", " 1", "1\n", "+1", "1_000", "١", "9" * 25, 1.0, True, None, "NaN"]
)
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^step: "):
        inputs.whole_number("step", value, low=-(2**63), high=2**63 - 1)


def test_whole_numbers_have_bounds() -> None:
    assert inputs.whole_number("port", "22", low=1, high=65535) == 22
    assert inputs.whole_number("port", 65535, low=1, high=65535) == 65535
    for value in (0, 65536, "-1"):
        with pytest.raises(InvalidInputError, match=r"^port: .*\n.*from 1 to 65,535"):
            inputs.whole_number("port", value, low=1, high=65535)


def test_a_value_that_may_be_a_secret_is_not_repeated() -> None:
    for value in ("me:pa55word@box", "https://u:pa55word@h/", "-----BEGIN OPENSSH PRIVATE KEY-----\npa55word"):
        assert "pa55word" not in inputs.shown(value)
    assert "\n" not in inputs.shown("a\nb" * 100)
    assert len(inputs.shown("x" * 10_000)) < 100
