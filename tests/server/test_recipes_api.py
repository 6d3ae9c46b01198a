"""Recipes over HTTP: texts and their versions, forms, checks while typing."""

from __future__ import annotations

import json

TEXT = "# my own\nalgorithm: grpo\nmodel: some/model\nalerts:\n  webhook: https://hooks.example/T0KEN\n"


async def test_recipe_is_made_changed_renamed_removed_and_brought_back(ask) -> None:
    made = await ask("POST", "recipes", {"name": "mine", "text": TEXT})
    assert made.code == 201
    read = (await ask("GET", "recipes/mine")).body
    assert (read["place"], read["editable"], read["recipe"]["algorithm"]) == ("user", True, "grpo")
    changed = read["text"].replace("some/model", "other/model")
    saved = await ask("PUT", "recipes/mine", {"text": changed, "version": read["version"]})
    assert saved.code == 200
    assert saved.body["recipe"]["model"] == "other/model"
    assert len(saved.body["versions"]) == 2
    late = await ask("PUT", "recipes/mine", {"text": changed, "version": read["version"]})
    assert late.code == 409
    assert late.body["field"] == "version"
    before = (await ask("GET", "recipes/mine", version=read["version"])).body
    assert (before["recipe"]["model"], before["editable"]) == ("some/model", False)
    assert (await ask("POST", "recipes/mine/rename", {"to": "ours"})).body["name"] == "ours"
    assert (await ask("GET", "recipes/mine")).code == 404
    assert (await ask("DELETE", "recipes/ours")).body == {"undo": True}
    assert (await ask("GET", "recipes/ours")).code == 404
    assert (await ask("POST", "recipes/ours/undo")).body["action"] == "deleted"
    assert (await ask("GET", "recipes/ours")).body["recipe"]["model"] == "other/model"
    rows = (await ask("GET", "recipes", search="other/model")).body["rows"]
    assert [row["name"] for row in rows] == ["ours"]


async def test_address_of_a_webhook_is_told_to_nobody_and_kept(ask, home) -> None:
    await ask("POST", "recipes", {"name": "mine", "text": TEXT})
    read = await ask("GET", "recipes/mine")
    assert "T0KEN" not in json.dumps(read.body)
    saved = await ask(
        "PUT", "recipes/mine", {"text": read.body["text"] + "notes: more\n", "version": read.body["version"]}
    )
    assert saved.code == 200
    assert "https://hooks.example/T0KEN" in (home / "recipes" / "mine.yaml").read_text()
    (home / "recipes" / "broken.yaml").write_text(f"{TEXT}  - : [")
    broken = await ask("GET", "recipes/broken")
    assert broken.code == 200
    assert broken.body["recipe"] is None
    assert broken.body["problem"]
    assert "T0KEN" not in json.dumps(broken.body)
    listed = (await ask("GET", "recipes")).body["rows"]
    assert next(row for row in listed if row["name"] == "broken")["problem"]


async def test_builtin_recipe_is_forked_not_changed(ask) -> None:
    read = (await ask("GET", "recipes/grpo-cpu")).body
    assert (read["place"], read["editable"]) == ("builtin", False)
    for refused in (
        await ask("PUT", "recipes/grpo-cpu", {"text": read["text"], "version": read["version"]}),
        await ask("DELETE", "recipes/grpo-cpu"),
        await ask("POST", "recipes/grpo-cpu/rename", {"to": "mine"}),
        await ask("POST", "recipes", {"name": "grpo-cpu", "fork": "sft-cpu"}),
        await ask("POST", "recipes/grpo-cpu/undo"),
    ):
        assert refused.code in (404, 409), refused
    made = await ask("POST", "recipes", {"name": "mine", "fork": "grpo-cpu"})
    assert made.code == 201
    assert made.body["editable"]
    assert made.body["recipe"]["parameters"] == read["recipe"]["parameters"]
    assert (await ask("POST", "recipes", {"name": "both", "fork": "grpo-cpu", "text": TEXT})).code == 400
    wrong = await ask("POST", "recipes", {"name": "wrong", "text": "algorithm: grop\n"})
    assert wrong.code == 400
    assert "grop" in wrong.body["message"]
    assert "/recipes/" not in wrong.body["message"]


async def test_form_has_the_recipes_values_verls_defaults_and_bounds(ask) -> None:
    for name in ("grpo-cpu", "sft-cpu", "dpo-cpu", "ppo-cpu"):
        fields = {one["key"]: one for one in (await ask("GET", f"recipes/{name}/form")).body["fields"]}
        assert all(one["title"] and one["help"] and one["group"] for one in fields.values())
        assert fields["trainer.total_epochs"]["minimum"] == 1
        assert fields["resources.device"]["choices"] == ["auto", "cpu", "gpu"]
    lr = fields["actor_rollout_ref.actor.optim.lr"]
    assert (lr["type"], lr["default"]) == ("number", 1e-6)
    assert fields["actor_rollout_ref.actor.loss_agg_mode"]["type"] == "choice"
    assert fields["trainer.total_training_steps"]["type"] == "integer"
    assert "critic.optim.lr" in fields
    rows = (await ask("GET", "recipes/grpo-cpu/keys", search="rollout temperature")).body["rows"]
    assert rows[0]["key"] == "actor_rollout_ref.rollout.temperature"
    assert len((await ask("GET", "recipes/grpo-cpu/keys")).body["rows"]) == 50


async def test_check_names_each_problem_with_what_is_valid(ask) -> None:
    asked = {"overrides": ["trainer.total_epoch=3", "actor_rollout_ref.rollout.n=0"]}
    found = (await ask("POST", "recipes/grpo-cpu/validate", asked)).body
    problems = {one["key"]: one for one in found["problems"]}
    assert "trainer.total_epochs" in problems["trainer.total_epoch"]["valid"]
    assert problems["actor_rollout_ref.rollout.n"]["severity"] == "error"
    assert found["command"] is None
    refused = await ask("POST", "runs", {"recipe": "grpo-cpu", **asked})
    assert refused.code == 400
    assert {one["field"] for one in refused.body["problems"]} >= {"trainer.total_epoch"}
    assert (await ask("POST", "recipes/grpo-cpu/validate", {"preset": "no"})).code == 404
    assert (await ask("POST", "recipes/nothing/validate")).code == 404
