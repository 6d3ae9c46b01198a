from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import FormatError
from verl_lab.stream.cursor import PROBE_BYTES, Cursor, read_lines

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


def look(content: bytes, cursor: Cursor) -> tuple[bytes, bytes]:
    return content[:PROBE_BYTES], content[cursor.window_start :]


def drain(content: bytes, cursor: Cursor, **limits: int):
    head, window = look(content, cursor)
    assert cursor.holds(head, window)
    return read_lines(cursor, head, window, **limits)


def test_a_torn_last_line_waits_for_its_newline_wherever_it_is_split(rounds: Callable[[int], int], dice: random.Random):
    for _ in range(rounds(1000)):
        lines = [dice.randbytes(dice.randrange(0, 40)).replace(b"\n", b"") for _ in range(dice.randrange(1, 8))]
        content = b"".join(line + b"\n" for line in lines)
        cuts = sorted(dice.sample(range(len(content) + 1), min(3, len(content))))
        cursor, found = Cursor(), []
        for cut in [*cuts, len(content)]:
            got = drain(content[:cut], cursor)
            found += got.complete
            cursor = got.cursor
            assert cursor.offset == content[:cut].rfind(b"\n") + 1
        assert [line for _, line in found] == [line for line in lines if line]
        assert all(content[at : at + len(line)] == line for at, line in found)


def test_every_split_of_one_line_gives_it_once():
    content = b'{"seq":1}\n{"seq":2,"data":{"a":1.5}}\n'
    for cut in range(len(content) + 1):
        first = drain(content[:cut], Cursor())
        second = drain(content, first.cursor)
        assert [line for _, line in first.complete + second.complete] == content.splitlines()


def test_a_replaced_file_is_noticed_even_at_the_same_size(rounds: Callable[[int], int], dice: random.Random):
    for _ in range(rounds(1000)):
        size = dice.choice([1, 20, PROBE_BYTES - 1, PROBE_BYTES, PROBE_BYTES + 1, 5000])
        old = dice.randbytes(size).replace(b"\n", b"x") + b"\n"
        cursor = drain(old, Cursor()).cursor
        assert cursor.holds(*look(old, cursor))
        assert cursor.holds(*look(old + b"more", cursor))
        other = bytearray(old)
        ends = [*range(min(len(old), PROBE_BYTES)), *range(max(0, len(old) - PROBE_BYTES), len(old))]
        place = dice.choice(ends)
        other[place] ^= 1 + dice.randrange(255)
        assert not cursor.holds(*look(bytes(other), cursor))
        assert not cursor.holds(*look(old[: dice.randrange(len(old))], cursor))


def test_a_cursor_survives_being_stored():
    content = b"x" * 3000 + b"\n" + b"y" * 10
    cursor = drain(content, Cursor()).cursor
    assert Cursor.restore(cursor.offset, cursor.fingerprint) == cursor
    assert Cursor.restore(0, b"") == Cursor()
    with pytest.raises(FormatError):
        Cursor.restore(5, b"short")


def test_a_line_that_is_too_long_is_named_once_and_passed_over():
    content = b"good\n" + b"x" * 500
    got = drain(content, Cursor(), longest_bytes=100)
    assert [line for _, line in got.complete] == [b"good"]
    assert [at for at, *_ in got.refused] == [5]
    assert got.cursor.skipping
    content += b"y" * 500
    got = drain(content, Cursor.restore(got.cursor.offset, got.cursor.fingerprint), longest_bytes=100)
    assert (got.complete, got.refused) == ([], [])
    content += b"\nnext\n" + b"z" * 200 + b"\nlast\n"
    got = drain(content, got.cursor, longest_bytes=100)
    assert [line for _, line in got.complete] == [b"next", b"last"]
    assert [content[at : at + 1] for at, *_ in got.refused] == [b"z"]
    assert not got.cursor.skipping
    assert got.cursor.offset == len(content)
