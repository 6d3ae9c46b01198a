"""What was added, under which names, and found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.store import Store, tables
from verl_lab.store.migrations import NEWEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab


def test_a_version_is_found_by_name_hash_and_the_beginning_of_it(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    file = write_rows(tmp_path / "my rows.jsonl", [{"a": 1}, {"a": 2}])
    version = lab.datasets.add(file)
    assert (version.name, version.rows, version.schema) == ("my-rows", 2, {"a": "int64"})
    assert [one.path for one in version.files] == ["my rows.jsonl"]
    for given in ("my-rows", version.hash, version.hash[:6]):
        assert lab.datasets.get(given) == version
    assert lab.datasets.list() == [version]
    with pytest.raises(NotFoundError, match=r"The nearest: my-rows"):
        lab.datasets.get("my-row")
    with pytest.raises(NotFoundError, match="no data set"):
        lab.datasets.get(version.hash[:5])


def test_the_same_bytes_are_one_version_with_several_names_and_places(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    one = lab.datasets.add(write_rows(tmp_path / "a.jsonl", [{"a": 1}]), "first")
    two = lab.datasets.add(write_rows(tmp_path / "x" / "b.jsonl", [{"a": 1}]), "second")
    assert one.hash == two.hash
    assert two.names == ("second", "first")
    assert two.places == (str(tmp_path / "x" / "b.jsonl"), str(tmp_path / "a.jsonl"))
    assert len(lab.datasets.list()) == 1


def test_a_name_means_its_newest_version_and_older_ones_are_kept(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"a": 1}])
    old = lab.datasets.add(file)
    new = lab.datasets.add(write_rows(file, [{"a": 2}]))
    assert lab.datasets.get("a").hash == new.hash
    assert {version.hash for version in lab.datasets.list()} == {old.hash, new.hash}
    assert lab.datasets.changed(new) == ()
    (change,) = lab.datasets.changed(old)
    assert str(change) == "a.jsonl has other content of the same size"
    file.unlink()
    assert str(lab.datasets.changed(new)[0]) == "a.jsonl is missing"


def test_a_removed_version_is_forgotten_and_its_file_is_not_touched(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"a": 1}])
    lab.datasets.add(file)
    lab.datasets.remove("a")
    assert lab.datasets.list() == []
    assert file.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".a", "a\n", "é", "x" * 65, "$(x)", "-a"])
def test_names_that_are_no_names_are_refused(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path], name: str
) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"a": 1}])
    with pytest.raises(InvalidInputError, match="name"):
        lab.datasets.add(file, name)
    assert lab.datasets.list() == []


def test_tokens_are_counted_with_a_models_own_tokenizer(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path], sft_row: Callable[..., dict[str, Any]]
) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    made = Tokenizer(WordLevel({"?": 0}, unk_token="?"))  # noqa: S106  a token is text here
    made.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]  its stub has no setter
    made.save(str(tmp_path / "tokenizer.json"))
    file = write_rows(tmp_path / "a.jsonl", [sft_row(" ".join(["w"] * n), "w") for n in range(1, 101)])
    counts = lab.datasets.tokens(file, tmp_path)
    assert counts is not None
    assert (counts.rows, counts.mean, counts.median, counts.longest) == (100, 51.5, 51.5, 101)
    with pytest.raises(NotFoundError, match="no tokenizer"):
        lab.datasets.tokens(file, tmp_path / "none")


def test_a_database_of_before_gets_the_tables(tmp_path: Path) -> None:
    from sqlalchemy import inspect, text

    url = f"sqlite:///{tmp_path / 'old.db'}"
    old = Store.open(url)
    with old._database.write() as connection:
        for table in ("datasets", "dataset_places", "file_hashes", "hosts", "secret_keys", "secrets"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE schema_version SET version = 1"))
    old.close()
    new = Store.open(url)
    assert new.datasets.list() == []
    with new._database.read() as connection:
        assert connection.scalar(text("SELECT max(version) FROM schema_version")) == NEWEST
        found = inspect(connection)
        for name in ("datasets", "dataset_places", "file_hashes"):
            columns = [column["name"] for column in found.get_columns(name)]
            assert columns == [column.name for column in tables.metadata.tables[name].columns]
    new.close()
