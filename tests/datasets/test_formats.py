"""Every kind of file is known by its content, counted, and read without trusting it."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.datasets.content import parts_of, preview, rows_of
from verl_lab.datasets.folder import find
from verl_lab.errors import FormatError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from verl_lab import Lab

ROWS: list[dict[str, Any]] = [{"question": f"what, is\n{n}?", "answer": str(n)} for n in range(700)]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    import csv

    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100)
    return file.getvalue()


def as_arrow(rows: list[dict[str, Any]], *, stream: bool) -> bytes:
    table = pa.Table.from_pylist(rows)
    file = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    return file.getvalue()


WRITERS: dict[str, tuple[str, Callable[[list[dict[str, Any]]], bytes]]] = {
    "jsonl": ("jsonl", lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode()),
    "jsonl, no last newline": ("jsonl", lambda rows: "\n".join(json.dumps(row) for row in rows).encode()),
    "jsonl with a mark and blank lines": (
        "jsonl",
        lambda rows: b"\xef\xbb\xbf" + "\r\n\r\n".join(json.dumps(row) for row in rows).encode(),
    ),
    "json": ("json", lambda rows: json.dumps(rows).encode()),
    "json, indented": ("json", lambda rows: ("\n " + json.dumps(rows, indent=2)).encode()),
    "csv": ("csv", as_csv),
    "csv with a mark": ("csv", lambda rows: b"\xef\xbb\xbf" + as_csv(rows)),
    "parquet": ("parquet", as_parquet),
    "arrow stream": ("arrow", lambda rows: as_arrow(rows, stream=True)),
    "arrow file": ("arrow", lambda rows: as_arrow(rows, stream=False)),
}


@pytest.mark.parametrize("name", ["data.txt", "data.parquet", "data"])
@pytest.mark.parametrize("case", WRITERS)
def test_each_kind_is_known_by_its_content_and_read_in_full(lab: Lab, tmp_path: Path, case: str, name: str) -> None:
    kind, write = WRITERS[case]
    (tmp_path / name).write_bytes(write(ROWS))
    version = lab.datasets.add(tmp_path / name)
    assert version.kinds == (kind,)
    assert version.rows == len(ROWS)
    assert version.schema == {"question": "string", "answer": "string"}
    assert not version.note
    assert list(rows_of(lab.datasets.parts(version))) == ROWS


def test_a_folder_saved_by_datasets_is_read_with_its_splits(lab: Lab, tmp_path: Path) -> None:
    import datasets

    whole = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS[:600]), "test": datasets.Dataset.from_list(ROWS[600:])}
    )
    whole.save_to_disk(tmp_path / "saved", num_shards={"train": 3, "test": 1})
    version = lab.datasets.add(tmp_path / "saved")
    assert version.splits == {"train": 600, "test": 100}
    assert version.kinds == ("arrow",)
    assert version.schema == {"question": "string", "answer": "string"}
    before = version.hash
    loaded = cast("Any", datasets).load_from_disk(str(tmp_path / "saved"))
    loaded["train"].map(lambda row: {"n": len(row["answer"])})
    assert list((tmp_path / "saved" / "train").glob("cache-*.arrow"))
    assert lab.datasets.add(tmp_path / "saved").hash == before
    # A shard that an earlier, larger save left behind is not listed in the state.
    (tmp_path / "saved" / "test" / "data-00001-of-00002.arrow").write_bytes(as_arrow(ROWS, stream=True))
    assert lab.datasets.add(tmp_path / "saved").splits == {"train": 600, "test": 100}


def test_files_of_a_folder_are_told_apart_by_what_they_are_called(lab: Lab, tmp_path: Path) -> None:
    line = b'{"a": 1}\n'
    names = {"train-00000-of-00002.jsonl": 1, "train-00001-of-00002.jsonl": 2, "data/dev.jsonl": 3, "held-out.jsonl": 4}
    for name, count in names.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(line * count)
    (tmp_path / "set" / "README.md").write_text("# What this is\n\nRows, of numbers.\n")
    version = lab.datasets.add(tmp_path / "set")
    assert version.splits == {"validation": 3, "held-out": 4, "train": 3}
    assert version.rows == 10


def test_types_are_learnt_from_rows_that_bring_none(lab: Lab, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "x": 1, "tags": [], "meta": {"a": None}, "odd": "text"},
        {"id": 2, "x": 0.5, "tags": ["a"], "meta": {"a": True, "b": "c"}, "odd": 7},
        {"id": None, "x": None, "tags": None, "meta": None, "odd": [1]},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert lab.datasets.add(tmp_path / "x.jsonl").schema == {
        "id": "int64",
        "x": "double",
        "tags": "list<string>",
        "meta": "struct<a: bool, b: string>",
        "odd": "mixed",
    }


def test_what_is_no_row_is_named_with_its_line_and_the_version_is_still_one(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"a": 1}\n{"a": 2\n')
    version = lab.datasets.add(file)
    assert version.rows == 2
    assert "line 2: it is no JSON" in version.note
    with pytest.raises(FormatError, match="line 2"):
        list(rows_of(parts_of(find(file))))
    file.write_text('{"a": 1}\n[1]\n')
    with pytest.raises(FormatError, match="line 2: it is no object"):
        list(rows_of(parts_of(find(file))))
    file.write_text('[{"a": 1}, 2]')
    with pytest.raises(FormatError, match="place 1"):
        list(rows_of(parts_of(find(file))))
    file.write_text("a,b\n" + "1,2\n" * 40_000 + "1,2,3\n")
    with pytest.raises(FormatError, match="line 40002"):
        list(rows_of(parts_of(find(file))))


@pytest.mark.parametrize("case", ["parquet", "arrow stream", "arrow file", "jsonl", "json", "csv"])
def test_a_file_cut_short_anywhere_is_told_and_never_breaks_anything(
    lab: Lab, tmp_path: Path, case: str, dice: random.Random, rounds: Callable[[int], int]
) -> None:
    whole = WRITERS[case][1](ROWS)
    file = tmp_path / "cut"
    for _ in range(rounds(200)):
        file.write_bytes(whole[: dice.randrange(len(whole))])
        version = lab.datasets.add(file)
        try:
            read = list(rows_of(lab.datasets.parts(version)))
        except FormatError:
            continue
        # What can still be read is the beginning of what was there.
        assert [row for row in read[:-1] if row not in ROWS] == []


@pytest.mark.parametrize(
    "content", [b"", b"\0\1\2", b"just words\n", b"PAR1", b"{}{}", b"{", b"\xff\xfe,\x00", b"a,a\n1,2\n"]
)
def test_what_holds_no_rows_is_kept_as_bytes(lab: Lab, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    version = lab.datasets.add(tmp_path / "x")
    assert version.kinds == ("other",)
    assert version.rows is None
    assert "no rows" in version.note


def test_a_pickle_is_bytes_and_is_never_loaded(lab: Lab, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "x.parquet").write_bytes(pickle.dumps([Trap()]))
    assert lab.datasets.add(tmp_path / "x.parquet").kinds == ("other",)
    assert not (tmp_path / "sprung").exists()


def test_numbers_that_only_python_writes_are_read(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": NaN, "b": 123456789012345678901234567890}\n')
    (row,) = rows_of(parts_of(find(tmp_path / "x.jsonl")))
    assert row["a"] != row["a"]
    assert row["b"] == 123456789012345678901234567890
    assert lab.datasets.check(tmp_path / "x.jsonl") == []


def test_a_preview_is_bounded(tmp_path: Path) -> None:
    row = {"text": "x" * 10**6, "list": list(range(10**5)), "deep": {"text": "y" * 10**6}}
    (tmp_path / "x.jsonl").write_text((json.dumps(row) + "\n") * 3)
    shown = preview(parts_of(find(tmp_path / "x.jsonl")), 2)
    assert len(shown) == 2
    assert len(json.dumps(shown)) < 2000
    assert "(1,000,000 characters)" in shown[0]["text"]
    assert shown[0]["list"][-1] == "… 99,980 more"
