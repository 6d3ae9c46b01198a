"""Data sets, differences and lineage over HTTP."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def rows(jp_root_dir):
    """Return a file of rows below the server's folder."""
    file = jp_root_dir / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"q{k}", "answer": k}) + "\n" for k in range(10)))
    return file


async def test_data_set_is_added_listed_and_shown_with_what_changed(ask, rows, write_run) -> None:
    added = await ask("POST", "datasets", {"path": "rows.jsonl", "name": "questions"})
    assert added.code == 201
    assert (added.body["rows"], added.body["columns"]) == (10, ["prompt", "answer"])
    version = added.body["hash"]
    run = write_run("trained")
    record = json.loads(run.layout.record.read_text())
    run.layout.record.write_text(json.dumps(record | {"datasets": [{"hash": version, "path": str(rows)}]}))
    await ask("GET", "runs")
    listed = (await ask("GET", "datasets")).body["rows"]
    assert [(row["name"], row["used_by"]) for row in listed] == [("questions", 1)]
    shown = (await ask("GET", f"datasets/{version[:12]}")).body
    assert shown["preview"][0] == {"prompt": "q0", "answer": 0}
    assert (shown["runs"], shown["changed"]) == ([run.id], [])
    rows.write_text(rows.read_text() + json.dumps({"prompt": "more", "answer": 1}) + "\n")
    assert (await ask("GET", f"datasets/{version}")).body["changed"]
    other = (await ask("POST", "datasets", {"path": str(rows), "name": "more"})).body["hash"]
    found = (await ask("GET", "diff", a="questions", b=other)).body
    assert {"kind": "changed", "key": "rows", "a": 10, "b": 11, "note": None} in found["rows"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../secret.jsonl",
        "~/.ssh/id_rsa",
        "../lab/known_hosts",
        "link",
        "\0",
        "x" * 300,
        "~nobody-at-all/x",
    ],
)
async def test_files_outside_the_servers_folder_are_refused(ask, jp_root_dir, tmp_path, path: str) -> None:
    (tmp_path / "secret.jsonl").write_text('{"a": 1}\n')
    (jp_root_dir / "link").symlink_to(tmp_path / "secret.jsonl")
    found = await ask("POST", "datasets", {"path": path})
    assert found.code == 400
    assert found.body["field"] == "path"
    assert str(tmp_path) not in json.dumps(found.body)
    assert (await ask("GET", "lineage", thing=path if "/" in path else f"/{path}")).code in (400, 404)
    assert (await ask("GET", "diff", a=path, b="grpo-cpu")).code in (400, 404)


async def test_difference_of_runs_and_of_recipes(ask, write_run) -> None:
    found = (await ask("GET", "diff", a="grpo-cpu", b="ppo-cpu")).body
    kinds = {row["kind"] for row in found["rows"]}
    assert kinds <= {"added", "removed", "changed", "moved default"}
    assert any(row["key"] == "algorithm" and (row["a"], row["b"]) == ("grpo", "ppo") for row in found["rows"])
    one, other = write_run("one"), write_run("other")
    other.layout.config.write_text("trainer: {test_freq: 5, save_freq: 10}\n")
    await ask("GET", "runs")
    rows = (await ask("GET", "diff", a=one.id, b="other")).body["rows"]
    assert [(row["kind"], row["key"], row["a"], row["b"]) for row in rows] == [("changed", "trainer.test_freq", 10, 5)]
    missing = await ask("GET", "diff", a="nothing", b="other")
    assert missing.code == 404
    assert "nothing" in missing.body["message"]


async def test_lineage_is_text_and_a_graph(ask, write_run) -> None:
    run = write_run("made")
    await ask("GET", "runs")
    found = (await ask("GET", f"lineage/{run.id}")).body
    assert run.id in found["text"]
    assert found["focus"]
    assert {node["id"] for node in found["nodes"]} >= set(found["focus"])
    assert (await ask("GET", "lineage/nothing")).code == 404
