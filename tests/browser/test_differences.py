"""``%verl_diff`` and ``%verl_lineage`` in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

A = """
actor_rollout_ref:
  actor: {optim: {lr: 1.0e-6, weight_decay: 0.01}, clip_ratio: 0.2, kl: false, strategy: fsdp2}
  model: {path: /models/Qwen2.5-0.5B}
  rollout: {n: 4, gone: [1, 2], temperature: 1.0}
algorithm: {adv_estimator: grpo}
data: {seed: 1, train_batch_size: 128}
trainer: {experiment_name: first, total_training_steps: 30}
"""
B = """
actor_rollout_ref:
  actor: {optim: {lr: 3.0e-6, weight_decay: 0.01}, clip_ratio: 0.2, kl: true, strategy: fsdp2}
  model: {path: /models/Qwen2.5-7B}
  rollout: {n: 8, temperature: 1.0, stop: "<b>half</b>"}
algorithm: {adv_estimator: grpo}
data: {seed: 2, train_batch_size: 128}
trainer: {experiment_name: second, total_training_steps: 300}
"""
DIFFER = ".verl-lab-differ"


def _open(open_notebook: Any, tmp_path: Path, *more: str) -> Any:
    for name, text in (("a", A), ("b", B)):
        (tmp_path / f"{name}.yaml").write_text(text)
    notebook = open_notebook("%load_ext verl_lab", f"%verl_diff {tmp_path}/a.yaml {tmp_path}/b.yaml", *more)
    notebook.run_cell(0)
    notebook.run_cell(1)
    expect(notebook.page.locator(DIFFER)).to_be_visible()
    return notebook


def _keys(notebook: Any) -> list[str]:
    return notebook.page.locator(f"{DIFFER} .verl-lab-leaf").evaluate_all("nodes => nodes.map((n) => n.title)")


def test_tree_folds_searches_and_shows_what_is_the_same(open_notebook: Any, tmp_path: Path) -> None:
    notebook = _open(open_notebook, tmp_path)
    page = notebook.page
    telling = [
        "actor_rollout_ref.actor.optim.lr",
        "actor_rollout_ref.actor.kl",
        "actor_rollout_ref.model.path",
        "actor_rollout_ref.rollout.gone",
        "actor_rollout_ref.rollout.n",
        "actor_rollout_ref.rollout.stop",
        "trainer.total_training_steps",
    ]
    assert sorted(_keys(notebook)) == sorted(telling)
    expect(page.locator(DIFFER).get_by_role("status")).to_have_text("7 differ")
    row = page.get_by_role("treeitem").filter(has_text="stop")
    expect(row.locator(".verl-lab-after")).to_have_text('"<b>half</b>"')
    page.get_by_label("names, seeds, places (2)").check()
    assert set(_keys(notebook)) == {*telling, "data.seed", "trainer.experiment_name"}
    page.get_by_label("names, seeds, places (2)").uncheck()
    page.get_by_label("only differences").uncheck()
    expect(page.locator(DIFFER).get_by_role("status")).to_have_text("7 differ, 6 do not")
    search = page.get_by_label("Find a setting or value")
    search.fill("fsdp2")
    assert _keys(notebook) == ["actor_rollout_ref.actor.strategy"]
    search.fill("nothing of the kind")
    expect(page.get_by_text("No setting has that in it.")).to_be_visible()
    search.press("Escape")
    assert len(_keys(notebook)) == 13


def test_shown_differences_are_copied_as_overrides(open_notebook: Any, tmp_path: Path) -> None:
    notebook = _open(open_notebook, tmp_path)
    page = notebook.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as overrides").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied == [
        "actor_rollout_ref.actor.kl=true",
        "actor_rollout_ref.actor.optim.lr=3e-06",
        "actor_rollout_ref.model.path=/models/Qwen2.5-7B",
        "actor_rollout_ref.rollout.n=8",
        'actor_rollout_ref.rollout.stop="<b>half</b>"',
        "trainer.total_training_steps=300",
    ]


def test_keys_move_through_the_tree(open_notebook: Any, tmp_path: Path) -> None:
    notebook = _open(open_notebook, tmp_path)
    page = notebook.page
    search = page.get_by_label("Find a setting or value")
    search.focus()
    search.press("ArrowDown")
    focused = page.locator("[role=treeitem]:focus")
    expect(focused).to_have_attribute("aria-level", "1")
    expect(focused).to_contain_text("actor_rollout_ref")
    before = len(_keys(notebook))
    page.keyboard.press("ArrowLeft")
    expect(focused).to_have_attribute("aria-expanded", "false")
    assert len(_keys(notebook)) == before - 6
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(focused).to_have_attribute("aria-level", "2")
    expect(focused).to_contain_text("actor")
    page.keyboard.press("ArrowDown")
    expect(focused).to_have_attribute("title", "actor_rollout_ref.actor.optim.lr")
    page.keyboard.press("ArrowLeft")
    expect(focused).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("End")
    expect(focused).to_have_attribute("title", "trainer.total_training_steps")
    page.keyboard.press("Home")
    expect(focused).to_contain_text("actor_rollout_ref")
    page.keyboard.press("/")
    expect(search).to_be_focused()


def test_it_fits_both_themes_and_a_narrow_page(open_notebook: Any, tmp_path: Path) -> None:
    notebook = _open(open_notebook, tmp_path)
    page = notebook.page
    for theme, width in (("Light", 1300), ("Dark", 1300), ("Dark", 480), ("Light", 480)):
        notebook.set_theme(f"JupyterLab {theme}")
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(300)
        page.screenshot(path=tmp_path / f"differ-{theme.lower()}-{width}.png")
        assert page.locator(DIFFER).evaluate("node => node.scrollWidth <= node.clientWidth + 1")


def test_notebook_without_a_kernel_shows_a_table(open_notebook: Any, tmp_path: Path) -> None:
    notebook = _open(open_notebook, tmp_path)
    page = notebook.page
    expect(page.locator(".verl-lab-still table")).to_be_hidden()
    text = notebook.outputs(1)[1]["data"]
    assert "~ actor_rollout_ref.rollout.n: 4 → 8" in "".join(text["text/plain"])
    saved = notebook.save()
    saved.metadata.pop("widgets", None)
    nbformat.write(saved, notebook.lab.root / "differ-again.ipynb")
    notebook.shut_down_kernel()
    notebook.show("differ-again.ipynb")
    table = page.locator(".verl-lab-still table")
    expect(table).to_be_visible()
    expect(table.get_by_role("row").filter(has_text="rollout.stop")).to_contain_text("<b>half</b>")
    page.screenshot(path=tmp_path / "differ-still.png")


def test_lineage_is_a_picture(open_notebook: Any, tmp_path: Path) -> None:
    cell = f"""
import json, pathlib
from verl_lab import Lab
root = pathlib.Path({str(tmp_path)!r}) / "home" / "runs"
def run(name, model, **lineage):
    folder = root / f"20260101-000000-{{name}}-0000"
    folder.mkdir(parents=True)
    data = {{"train": f"/data/{{name}}.parquet", "val": "/data/held-out.parquet"}}
    recipe = {{"name": name, "algorithm": "sft", "model": model, "data": data}}
    record = {{"version": 1, "run": folder.name, "name": name, "created": 1.0, "recipe": recipe,
              "versions": {{"verl": "0.9.1"}}}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder
first = run("sft", "/models/base")
second = run("grpo", f"{{first}}/checkpoints/global_step_150/huggingface")
run("fork", f"{{second}}/checkpoints/global_step_20/actor/huggingface")
lab = Lab({str(tmp_path)!r} + "/home")
lab.lineage("run:grpo")
"""
    notebook = open_notebook(cell)
    notebook.run_cell(0)
    picture = notebook.page.locator(".verl-lab-lineage img")
    expect(picture).to_be_visible()
    assert picture.evaluate("node => node.complete && node.naturalWidth > 700")
    for theme in ("Light", "Dark"):
        notebook.set_theme(f"JupyterLab {theme}")
        notebook.page.screenshot(path=tmp_path / f"lineage-{theme.lower()}.png")
    notebook.execute("lab.close()")
