"""What a run trains on is held before it starts, named in its record, and still there when it goes on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from verl_lab.errors import InvalidInputError
from verl_lab.lab.launching.checks import rendered_if_sound
from verl_lab.lab.launching.pinning import Pinned, pinned, require_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab import Lab
    from verl_lab.recipes.render import Rendered


@pytest.fixture
def data(tmp_path: Path, rl_row: Callable[..., dict[str, Any]]) -> Path:
    folder = tmp_path / "my data"
    folder.mkdir()
    for name, count in (("train", 256), ("more", 64), ("val", 32)):
        rows = [rl_row(f"{name} {n}") for n in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))  # noqa: S106  a token is text here
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    reward = "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return 1\n"
    (folder / "reward.py").write_text(reward)
    return folder


@pytest.fixture
def render(lab: Lab, data: Path) -> Callable[..., Rendered]:
    def rendered(*overrides: str) -> Rendered:
        given = [
            f"model={data}/model",
            f"data.train={data}/train.parquet",
            f"data.val={data}/val.parquet",
            f"reward.path={data}/reward.py",
        ]
        return rendered_if_sound(lab.recipes.get("grpo-cpu"), [*given, *overrides], for_launch=False)

    return rendered


def pin(lab: Lab, rendered: Rendered) -> Pinned:
    with pinned(lab.datasets, rendered) as held:
        return held


def test_the_command_the_configuration_and_the_record_name_the_copy(
    lab: Lab, data: Path, render: Callable[..., Rendered]
) -> None:
    plain = render()
    held = pin(lab, plain)
    train, val = held.records
    copy = lab.settings.home / "datasets" / lab.datasets.at(data / "train.parquet").hash / "train.parquet"
    assert (train["role"], train["rows"], train["snapshot"], train["name"]) == ("train", 256, str(copy), "train")
    assert (val["role"], val["rows"]) == ("val", 32)
    assert train["path"] == str(data / "train.parquet")
    assert train["hash"] == train["files"][0]["hash"] == copy.parent.name
    assert held.rendered.config.data.train_files == str(copy)
    assert str(copy) in held.rendered.config_yaml
    assert tuple(shlex.split(held.rendered.command)[-len(held.rendered.argv) :]) == held.rendered.argv
    changed = [(a, b) for a, b in zip(plain.argv, held.rendered.argv, strict=True) if a != b]
    assert [a.partition("=")[0] for a, _ in changed] == ["data.train_files", "data.val_files"]
    assert str(data) not in " ".join(text for text in held.rendered.argv if text.startswith("data."))
    assert json.loads(json.dumps(held.records)) == list(held.records)


def test_several_files_of_one_role_are_several_data_sets(lab: Lab, data: Path, render: Callable[..., Rendered]) -> None:
    held = pin(lab, render(f"data.train_files=['{data}/train.parquet','{data}/more.parquet']"))
    assert [record["role"] for record in held.records] == ["train", "train", "val"]
    assert [record["rows"] for record in held.records] == [256, 64, 32]
    assert [Path(file).name for file in held.rendered.config.data.train_files] == ["train.parquet", "more.parquet"]


def test_without_a_copy_the_version_is_still_recorded(lab: Lab, data: Path, render: Callable[..., Rendered]) -> None:
    plain = render("data.snapshot=false")
    held = pin(lab, plain)
    assert held.rendered.argv == plain.argv
    assert held.records[0]["hash"] == lab.datasets.at(data / "train.parquet").hash
    assert held.records[0]["snapshot"] is None
    assert lab.datasets.snapshots.kept() == []


def test_what_was_added_and_is_something_else_now_is_refused_with_what_changed(
    lab: Lab, data: Path, render: Callable[..., Rendered], rl_row: Callable[..., dict[str, Any]]
) -> None:
    lab.datasets.add(data / "train.parquet", "my-rows")
    pin(lab, render())
    pq.write_table(pa.Table.from_pylist([rl_row("other")] * 256), data / "train.parquet")
    (change,) = lab.datasets.changed("my-rows")
    with pytest.raises(InvalidInputError, match=r"not what was added as 'my-rows': train\.parquet has") as caught:
        pin(lab, render())
    assert str(change) in caught.value.message
    assert "it is kept at" in str(caught.value.hint)
    lab.datasets.add(data / "train.parquet")
    assert pin(lab, render()).records[0]["hash"] == lab.datasets.at(data / "train.parquet").hash


def test_what_nobody_added_is_a_new_version_each_time_it_changes(
    lab: Lab, data: Path, render: Callable[..., Rendered], rl_row: Callable[..., dict[str, Any]]
) -> None:
    first = pin(lab, render()).records[0]
    pq.write_table(pa.Table.from_pylist([rl_row("other")] * 256), data / "train.parquet")
    second = pin(lab, render()).records[0]
    assert first["hash"] != second["hash"]
    assert lab.datasets.snapshots.intact(Path(first["snapshot"]), first["hash"])
    assert {version.hash for version in lab.datasets.list()} >= {first["hash"], second["hash"]}


def test_a_run_goes_on_only_with_the_data_it_began_with(
    lab: Lab, data: Path, render: Callable[..., Rendered], rl_row: Callable[..., dict[str, Any]]
) -> None:
    records = pin(lab, render()).records
    original = (data / "train.parquet").read_bytes()
    pq.write_table(pa.Table.from_pylist([rl_row("other")] * 256), data / "train.parquet")
    require_data(lab.datasets, records)
    copy = Path(records[0]["snapshot"])
    copy.unlink()
    with pytest.raises(InvalidInputError, match=r"missing or damaged, and train\.parquet has"):
        require_data(lab.datasets, records)
    (data / "train.parquet").unlink()
    with pytest.raises(InvalidInputError, match=r"missing or damaged, and .*train\.parquet is gone"):
        require_data(lab.datasets, records)
    (data / "train.parquet").write_bytes(original)
    require_data(lab.datasets, records)
    assert copy.read_bytes() == original
    # The index may be lost: the records alone say what is needed.
    for version in lab.datasets.list():
        lab.datasets.remove(version.hash)
    require_data(lab.datasets, records)


def test_a_run_without_copies_goes_on_only_if_nothing_changed(
    lab: Lab, data: Path, render: Callable[..., Rendered]
) -> None:
    records = pin(lab, render("data.snapshot=false")).records
    require_data(lab.datasets, records)
    with (data / "val.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InvalidInputError, match=r"val\.parquet has .* bytes, not"):
        require_data(lab.datasets, records)


def test_a_dry_run_copies_nothing(lab: Lab, data: Path) -> None:
    given = [f"model={data}/model", f"data.train={data}/train.parquet", f"data.val={data}/val.parquet"]
    lab.train("grpo-cpu", [*given, f"reward.path={data}/reward.py"], dry_run=True)
    assert lab.datasets.snapshots.kept() == []
    assert lab.datasets.list() == []
