"""Lineage over the launch records of runs, old and new, walked both ways."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.recipe import DataFiles, Recipe, Reward
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.comparing.origins import hash_of_bytes
from verl_lab.lab.weights import count_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab

    from .conftest import Written

DEMOS = {"role": "train", "hash": "d" * 64, "name": "demonstrations", "rows": 10}
TASKS = {"role": "train", "hash": "e" * 64, "name": "problems", "rows": 20}
HELD_OUT = {"role": "val", "hash": "f" * 64, "name": "held-out", "rows": 5}


def _recipe(name: str, **fields: Any) -> Recipe:
    return Recipe(name=name, algorithm="sft" if name.startswith("sft") else "grpo", **fields)


@pytest.fixture
def story(write_launch: Callable[..., Written], tmp_path: Path) -> dict[str, Written]:
    """SFT, GRPO from its step 150, and a fork of that from step 20; a run that has nothing to do with them."""
    reward = tmp_path / "reward.py"
    reward.write_text("def compute_score(): ...\n")
    sft = write_launch("sft-run", _recipe("sft", model="/models/base"), datasets=[DEMOS, HELD_OUT])
    weights = f"{sft.layout.checkpoints}/global_step_150/huggingface"
    grpo = write_launch(
        "grpo-run",
        _recipe("grpo", model=weights),
        datasets=[TASKS | {"paths": [str(tmp_path / "problems.parquet")]}, HELD_OUT],
        lineage={
            "model": {"path": weights, "parameters": 341_000},
            "reward": {"path": str(reward), "hash": hash_of_bytes(reward.read_bytes())},
            "parents": [{"run": sft.layout.folder.name, "step": 150, "how": "weights", "key": "model"}],
        },
    )
    fork = write_launch(
        "fork-run",
        _recipe("grpo", model=weights),
        datasets=[TASKS, HELD_OUT],
        lineage={"parents": [{"run": grpo.layout.folder.name, "step": 20, "how": "fork", "key": None}]},
    )
    other = write_launch("other-run", _recipe("sft-other", model="/models/other"), verl="0.10.0")
    return {"sft": sft, "grpo": grpo, "fork": fork, "other": other}


def _ids(nodes: Any) -> set[str]:
    return {node.id for node in nodes}


def test_run_leads_back_to_its_parent_and_the_data_of_both_by_hash(lab: Lab, story: dict[str, Written]) -> None:
    found = lab.lineage("run:grpo-run")
    above = _ids(found.ancestors())
    sft = story["sft"].layout.folder.name
    assert {f"run:{sft}", f"checkpoint:{sft}@150", "verl:0.9.1", "model:/models/base"} <= above
    assert {f"dataset:{one['hash']}" for one in (DEMOS, TASKS, HELD_OUT)} <= above
    assert [node.kind for node in found.ancestors() if node.kind == "reward"] == ["reward"]
    assert _ids(found.descendants()) == {
        f"checkpoint:{story['grpo'].layout.folder.name}@20",
        f"run:{story['fork'].layout.folder.name}",
    }
    assert "run:" + story["other"].layout.folder.name not in found.nodes
    text = found.text()
    assert "fork: run" in text
    assert "weights: checkpoint step 150" in text
    assert "train: dataset demonstrations · dddddddddddd" in text


def test_every_thing_tells_the_runs_that_used_it(lab: Lab, story: dict[str, Written], tmp_path: Path) -> None:
    names = {name: written.layout.folder.name for name, written in story.items()}
    after_sft = sorted((names["sft"], names["grpo"], names["fork"]))
    after_grpo = sorted((names["grpo"], names["fork"]))
    weights = f"{story['sft'].layout.checkpoints}/global_step_150/huggingface"
    assert lab.lineage("d" * 64).runs() == after_sft
    assert lab.lineage("dddddd").runs() == after_sft
    assert lab.lineage("held-out").runs() == after_sft
    assert sorted(n.label for n in lab.lineage("problems").descendants() if n.kind == "run") == after_grpo
    assert sorted(n.label for n in lab.lineage(weights).descendants() if n.kind == "run") == after_grpo
    assert sorted(n.label for n in lab.lineage(tmp_path / "problems.parquet").descendants() if n.kind == "run") == (
        after_grpo
    )
    assert lab.lineage("verl:0.10.0").runs() == [names["other"]]
    assert lab.lineage("/models/base").runs() == after_sft
    assert lab.lineage("recipe:sft-other").runs() == [names["other"]]
    assert lab.lineage(story["fork"].run).focus == (f"run:{names['fork']}",)
    assert lab.lineage(story["sft"].layout.folder).focus == (f"run:{names['sft']}",)


def test_reward_function_is_known_by_its_bytes_wherever_they_lie(
    lab: Lab, story: dict[str, Written], tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere.py"
    copy.write_bytes((tmp_path / "reward.py").read_bytes())
    assert story["grpo"].layout.folder.name in lab.lineage(copy).runs()
    copy.write_text("def compute_score(): return 1\n")
    assert lab.lineage(copy).runs() == []
    assert "No run of this lab has used" in lab.lineage(copy).text()


def test_data_are_known_by_their_bytes_wherever_they_lie(
    lab: Lab, write_launch: Callable[..., Written], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    version = lab.datasets.add(rows, name="my-rows")
    record = {"role": "train", "hash": version.hash, "name": "my-rows", "paths": [str(rows)]}
    run = write_launch("trained", _recipe("sft"), datasets=[record]).layout.folder.name
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(rows.read_bytes())
    for thing in (rows, copy, version, "my-rows", version.hash[:8], f"dataset:{version.hash}"):
        assert lab.lineage(thing).runs() == [run]
    rows.write_text('{"prompt": "c"}\n')
    assert lab.lineage(rows).runs() == [run], "it lay there"
    copy.write_text('{"prompt": "c"}\n')
    assert lab.lineage(copy).runs() == []


def test_records_of_before_tell_what_they_can(lab: Lab, write_launch: Callable[..., Written]) -> None:
    sft = write_launch("old-sft", _recipe("sft", data=DataFiles(train="/x/rows.parquet", val=["/x/v1", "/x/v2"])))
    weights = f"{sft.layout.checkpoints}/global_step_30/actor/huggingface"
    write_launch("old-grpo", _recipe("grpo", model=weights, reward=Reward(path="/x/reward.py")))
    found = lab.lineage("run:old-grpo")
    assert {"dataset:/x/rows.parquet", "dataset:/x/v2", "reward:/x/reward.py"} <= _ids(found.ancestors())
    assert "content not recorded" in found.text()
    assert {n.label for n in lab.lineage("/x/rows.parquet").descendants() if n.kind == "run"} == set(found.runs())


def test_it_is_there_after_the_index_was_built_anew_and_beside_a_broken_record(
    lab: Lab, story: dict[str, Written]
) -> None:
    before = lab.lineage("run:grpo-run").to_dict()
    lab.reindex()
    assert lab.lineage("run:grpo-run").to_dict() == before
    story["other"].layout.record.write_text("{")
    found = lab.lineage("run:grpo-run")
    assert found.edges
    assert found.notes == ("1 runs could not be read.",)


def test_unknown_things_are_told_with_the_nearest(lab: Lab, story: dict[str, Written], recordings: Path) -> None:
    with pytest.raises(NotFoundError, match="demonstrations"):
        lab.lineage("demonstration")
    with pytest.raises(NotFoundError, match="nothing at"):
        lab.lineage("/no/such/file")
    with pytest.raises(InvalidInputError, match="something else writes"):
        lab.lineage(lab.attach(recordings / "sft-60-steps.jsonl"))
    assert lab.lineage("dpo" if "dpo" in lab.recipes.names() else "grpo-cpu").runs() == []


def test_picture_holds_every_name_as_text(lab: Lab, write_launch: Callable[..., Written]) -> None:
    evil = '<script>alert(1)</script>&"\x07'
    write_launch("evil", _recipe("sft", model=f"/m/{evil}"), datasets=[DEMOS | {"name": evil}])
    found = lab.lineage("run:evil")
    tree = ET.fromstring(found.svg())  # noqa: S314  our own picture
    shown = [node.text or "" for node in tree.iter() if node.tag.endswith("text")]
    assert any("<script>alert" in text for text in shown)
    assert not [node for node in tree.iter() if node.tag.endswith("script")]
    assert "<script" not in found._repr_html_()
    assert len([node for node in tree.iter() if node.tag.endswith("rect")]) == len(found.nodes)
    assert len([node for node in tree.iter() if node.tag.endswith("path")]) == len(found.edges)


def test_each_thing_stands_right_of_what_it_was_made_from(lab: Lab, story: dict[str, Written]) -> None:
    from verl_lab.lab.comparing.lineage_picture import _places

    found = lab.lineage("run:fork-run")
    places = _places(found)
    assert all(places[edge.source][0] < places[edge.target][0] for edge in found.edges)
    assert len(set(places.values())) == len(found.nodes)


def test_parameters_are_counted_without_loading(lab: Lab, tmp_path: Path) -> None:
    header = json.dumps(
        {"__metadata__": {}, "a": {"dtype": "F32", "shape": [3, 4]}, "b": {"dtype": "BF16", "shape": [5]}}
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert count_parameters(lab.host, str(tmp_path)) == 17
    assert count_parameters(lab.host, "Qwen/Qwen2.5-0.5B-Instruct") == 500_000_000
    assert count_parameters(lab.host, "SmolLM-135M") == 135_000_000
    for nothing in (None, "gpt", str(tmp_path / "none"), "v2.5"):
        assert count_parameters(lab.host, nothing) is None
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    assert count_parameters(lab.host, str(tmp_path)) is None
