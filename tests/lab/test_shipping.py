"""Launching elsewhere: all that a run reads is on its host, and its command and configuration say where."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from verl_lab.domain.wire import RunLayout
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.comparing.origins import write_origins
from verl_lab.lab.launching.again import Beginning
from verl_lab.lab.launching.pinning import Pinned, pinned
from verl_lab.lab.launching.shipping import carry, elsewhere_for, require_shipped, ship, sound_there
from verl_lab.recipes.render import render_checked
from verl_lab.recipes.validate import check
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssh_fixtures import Elsewhere

    from verl_lab import Lab
    from verl_lab.transport.base import Host
    from verl_lab.transport.ssh import SshHost

    Pin = Callable[..., Pinned]

MODEL = "actor_rollout_ref.model.path"
REWARD = "reward.custom_reward_function.path"


def write_inputs(folder: Path) -> Path:
    """Write data, a model's folder and a reward function."""
    (folder / "model").mkdir(parents=True)
    for name, count in (("train", 256), ("more", 64), ("val", 32)):
        judged = {"style": "rule", "ground_truth": "1"}
        rows = [
            {"prompt": [{"role": "user", "content": f"{name} {n}"}], "data_source": "sums", "reward_model": judged}
            for n in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"weights" * 1000)
    Tokenizer(WordLevel({"?": 0}, unk_token="?")).save(str(folder / "model" / "tokenizer.json"))  # noqa: S106
    (folder / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    reward = "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return 1\n"
    (folder / "reward.py").write_text(reward)
    return folder


def inputs_at(folder: Path) -> list[str]:
    return [
        f"model={folder}/model",
        f"data.train={folder}/train.parquet",
        f"data.val={folder}/val.parquet",
        f"reward.path={folder}/reward.py",
    ]


def held(lab: Lab, host: Host, *overrides: str, recipe: str = "grpo-cpu") -> Pinned:
    """Check, render and pin as a launch does."""
    checked = sound_there(check(lab.recipes.get(recipe), overrides), host)
    with pinned(lab.datasets, render_checked(checked), elsewhere=elsewhere_for(host)) as data:
        return data


def setting(data: Pinned, key: str) -> Any:
    """Return a setting that is the same in command, configuration and YAML."""
    from omegaconf import OmegaConf

    (word,) = [text.partition("=")[2] for text in data.rendered.argv if text.startswith(f"{key}=")]
    found = OmegaConf.select(data.rendered.config, key)
    plain = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
    assert yaml.safe_load(word) == plain
    shown: Any = yaml.safe_load(data.rendered.config_yaml)
    for part in key.split("."):
        shown = shown[part]
    assert shown == plain
    assert tuple(shlex.split(data.rendered.command)[-len(data.rendered.argv) :]) == data.rendered.argv
    return plain


def test_all_that_is_read_is_brought_there_and_named_so(lab: Lab, elsewhere: Elsewhere) -> None:
    here = write_inputs(elsewhere.folder)
    data = held(lab, elsewhere.host, *inputs_at(here), f"actor_rollout_ref.model.tokenizer_path={here}/model")
    told: list[tuple[str, int, int]] = []
    there = ship(
        elsewhere.host,
        elsewhere.root,
        data,
        lab.datasets,
        trains_with="/opt/their python",
        progress=lambda *line: told.append(line),
    )
    places = {key: setting(there, key) for key in ("data.train_files", "data.val_files", MODEL, REWARD)}
    root = PurePosixPath(elsewhere.root)
    train, val = there.records
    assert places["data.train_files"] == str(root / "datasets" / train["hash"] / "train.parquet") == train["snapshot"]
    assert train["paths"] == [str(here / "train.parquet"), train["snapshot"]]
    assert PurePosixPath(places[MODEL]).parent.parent == root / "models"
    assert PurePosixPath(places[REWARD]).parent.parent == root / "files"
    assert setting(there, "actor_rollout_ref.model.tokenizer_path") == places[MODEL]
    said = " ".join((*there.rendered.argv, there.rendered.config_yaml, there.rendered.command))
    assert str(here) not in said
    assert str(lab.settings.home) not in said
    for name, place in {
        "train.parquet": places["data.train_files"],
        "val.parquet": val["snapshot"],
        "reward.py": places[REWARD],
        "model/model.safetensors": f"{places[MODEL]}/model.safetensors",
        "model/tokenizer.json": f"{places[MODEL]}/tokenizer.json",
    }.items():
        assert elsewhere.host.read(place) == (here / name).read_bytes()
    assert there.rendered.argv[0] == "/opt/their python"
    assert "env " in there.rendered.command
    assert there.rendered.env["HF_HUB_OFFLINE"] == "1"
    assert there.rendered.argv[1:3] == data.rendered.argv[1:3]
    assert json.loads(json.dumps(there.records)) == list(there.records)
    assert any(what.startswith("Sending model.safetensors to box") for what, _, _ in told)
    told.clear()
    again = ship(elsewhere.host, elsewhere.root, data, lab.datasets, progress=lambda *line: told.append(line))
    assert again.rendered.argv[1:] == there.rendered.argv[1:]
    assert not [what for what, _, _ in told if what.startswith("Sending")]


def test_several_files_of_one_role_stay_a_list(lab: Lab, elsewhere: Elsewhere) -> None:
    here = write_inputs(elsewhere.folder)
    files = f"data.train_files=['{here}/train.parquet','{here}/more.parquet']"
    there = ship(elsewhere.host, elsewhere.root, held(lab, elsewhere.host, *inputs_at(here), files), lab.datasets)
    found = setting(there, "data.train_files")
    assert [PurePosixPath(path).name for path in found] == ["train.parquet", "more.parquet"]
    assert [record["snapshot"] for record in there.records] == [*found, setting(there, "data.val_files")]


def test_critic_reads_the_model_there_too(lab: Lab, elsewhere: Elsewhere) -> None:
    here = write_inputs(elsewhere.folder)
    data = held(lab, elsewhere.host, *inputs_at(here), recipe="ppo-cpu")
    there = ship(elsewhere.host, elsewhere.root, data, lab.datasets)
    shown = yaml.safe_load(there.rendered.config_yaml)
    assert shown["critic"]["model"]["path"] == shown["actor_rollout_ref"]["model"]["path"] == setting(there, MODEL)
    assert str(here) not in there.rendered.config_yaml


def test_what_only_the_host_has_is_used_as_it_is(lab: Lab, elsewhere: Elsewhere, tmp_path: Path) -> None:
    source, host, folder = write_inputs(tmp_path / "source"), elsewhere.host, elsewhere.folder
    host.make_folder(f"{folder}/model")
    for path in [path for path in source.rglob("*") if path.is_file()]:
        host.write_atomic(f"{folder}/{path.relative_to(source)}", path.read_bytes())
    checked = sound_there(check(lab.recipes.get("grpo-cpu"), inputs_at(folder)), host)
    told = [str(problem) for problem in checked.warnings if "lies on box alone" in str(problem)]
    assert len(told) == 4
    data = held(lab, host, *inputs_at(folder))
    there = ship(host, elsewhere.root, data, lab.datasets)
    assert there.rendered.argv == data.rendered.argv
    assert setting(there, MODEL) == f"{folder}/model"
    assert there.rendered.env["HF_HUB_OFFLINE"] == "1"
    train = there.records[0]
    assert (train["hash"], train["snapshot"], train["path"]) == (None, None, f"{folder}/train.parquet")
    assert host.stat(elsewhere.root) is None, "nothing was sent"
    require_shipped(lab.datasets, host, elsewhere.root, there.records)
    host.write_atomic(f"{folder}/train.parquet", b"other")
    with pytest.raises(InvalidInputError, match=r"train\.parquet on box has other content"):
        require_shipped(lab.datasets, host, elsewhere.root, there.records)


def test_steps_are_counted_where_only_the_model_is_there(lab: Lab, elsewhere: Elsewhere, tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "source")
    elsewhere.host.make_folder(f"{elsewhere.folder}/model")
    given = [*inputs_at(source), "data.filter_overlong_prompts=false"]
    whole = check(lab.recipes.get("grpo-cpu"), given)
    assert whole.total_steps
    partly = check(lab.recipes.get("grpo-cpu"), [*given, f"model={elsewhere.folder}/model"])
    assert partly.errors
    sound = sound_there(partly, elsewhere.host)
    assert (sound.errors, sound.total_steps) == ((), whole.total_steps)


def test_mistakes_are_still_mistakes(lab: Lab, elsewhere: Elsewhere, tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "source")
    given = [*inputs_at(source), f"model={elsewhere.folder}/none", "data.train_batch_size=0"]
    checked = check(lab.recipes.get("grpo-cpu"), given)
    assert sound_there(checked, elsewhere.host).errors == checked.errors != ()


def test_path_that_is_nowhere_is_named_with_its_setting(lab: Lab, elsewhere: Elsewhere) -> None:
    here = write_inputs(elsewhere.folder)
    data = held(lab, elsewhere.host, *inputs_at(here))
    (here / "reward.py").unlink()
    with pytest.raises(NotFoundError, match=rf"{REWARD}: .*reward\.py is neither on this machine nor on box"):
        ship(elsewhere.host, elsewhere.root, data, lab.datasets)
    assert elsewhere.host.stat(elsewhere.root) is None, "nothing was sent"


def test_model_of_the_hub_stays_its_name(lab: Lab, elsewhere: Elsewhere) -> None:
    here = write_inputs(elsewhere.folder)
    data = held(lab, elsewhere.host, *inputs_at(here), "model=Qwen/Qwen2.5-0.5B-Instruct")
    there = ship(elsewhere.host, elsewhere.root, data, lab.datasets)
    assert setting(there, MODEL) == "Qwen/Qwen2.5-0.5B-Instruct"
    assert "HF_HUB_OFFLINE" not in there.rendered.env


def test_host_with_the_same_files_is_sent_nothing(lab: Lab, ssh_host: SshHost, tmp_path: Path) -> None:
    here, root = write_inputs(tmp_path / "mine"), tmp_path / "far"
    told: list[str] = []
    data = held(lab, ssh_host, *inputs_at(here))
    there = ship(ssh_host, str(root), data, lab.datasets, progress=lambda what, *_: told.append(what))
    assert not [what for what in told if what.startswith("Sending")]
    assert setting(there, MODEL) == str(here / "model"), "used in place"
    snapshot = Path(setting(there, "data.train_files"))
    assert snapshot.is_relative_to(root), "data are held as they are"
    assert snapshot.read_bytes() == (here / "train.parquet").read_bytes()
    plain = held(lab, ssh_host, *inputs_at(here), "data.snapshot=false")
    there = ship(ssh_host, str(tmp_path / "other"), plain, lab.datasets)
    assert setting(there, "data.train_files") == str(here / "train.parquet")
    assert there.records[0]["snapshot"] is None


def test_data_that_changed_after_it_was_pinned_are_refused(lab: Lab, elsewhere: Elsewhere) -> None:
    here = write_inputs(elsewhere.folder)
    data = held(lab, elsewhere.host, *inputs_at(here), "data.snapshot=false")
    (here / "train.parquet").write_bytes((here / "more.parquet").read_bytes())
    with pytest.raises(InvalidInputError, match="was written to while the run was prepared"):
        ship(elsewhere.host, elsewhere.root, data, lab.datasets)


def test_run_goes_on_with_the_data_it_began_with(lab: Lab, elsewhere: Elsewhere) -> None:
    here, host = write_inputs(elsewhere.folder), elsewhere.host
    records = ship(host, elsewhere.root, held(lab, host, *inputs_at(here)), lab.datasets).records
    require_shipped(lab.datasets, host, elsewhere.root, records)
    kept = Path(records[0]["snapshot"])
    for damage in (b"other", None):
        kept.unlink()
        if damage is not None:
            kept.write_bytes(damage)
        require_shipped(lab.datasets, host, elsewhere.root, records)
        assert kept.read_bytes() == (here / "train.parquet").read_bytes()
    kept.unlink()
    (here / "train.parquet").write_bytes(b"other")
    require_shipped(lab.datasets, host, elsewhere.root, records)
    assert kept.exists(), "the copy that was made here serves"
    kept.unlink()
    for copy in lab.datasets.snapshots.of(records[0]["hash"]):
        copy.unlink()
    with pytest.raises(InvalidInputError, match="is missing or damaged") as caught:
        require_shipped(lab.datasets, host, elsewhere.root, records)
    assert str(kept) in caught.value.message


def test_checkpoint_is_carried_and_laid_down_where_the_run_goes_on(
    lab: Lab, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    checkpoint = elsewhere.folder / "parent" / "checkpoints" / "global_step_7"
    (checkpoint / "actor").mkdir(parents=True)
    (checkpoint / "actor" / "model_world_size_1_rank_0.pt").write_bytes(b"weights")
    (checkpoint / "data.pt").write_bytes(b"place")
    near, far, scratch = LocalHost(), elsewhere.host, tmp_path / "scratch"
    assert carry(str(checkpoint), near, near, "", lab.datasets, scratch=scratch) == str(checkpoint)
    there = carry(str(checkpoint), near, far, elsewhere.root, lab.datasets, scratch=scratch)
    assert PurePosixPath(there).name == "global_step_7"
    folder = tmp_path / "runs" / "child"
    beginning = Beginning(lab.recipes.get("grpo-cpu"), (), checkpoint=there, step=7)
    far.make_folder(str(folder))
    beginning.lay_down(far, str(folder))
    laid = RunLayout(folder).checkpoints
    assert (laid / "latest_checkpointed_iteration.txt").read_text() == "7"
    assert (laid / "global_step_7" / "actor" / "model_world_size_1_rank_0.pt").read_bytes() == b"weights"
    back = Path(carry(there, far, near, "", lab.datasets, scratch=scratch))
    assert back.is_relative_to(scratch)
    assert (back / "data.pt").read_bytes() == b"place"


def test_reward_function_is_kept_beside_a_run_elsewhere(lab: Lab, elsewhere: Elsewhere, tmp_path: Path) -> None:
    here, folder = write_inputs(elsewhere.folder), tmp_path / "runs" / "child"
    rendered = held(lab, elsewhere.host, *inputs_at(here)).rendered
    lineage = write_origins(elsewhere.host, str(folder), rendered, (), here=LocalHost())
    assert lineage["reward"]["path"] == str(here / "reward.py")
    assert RunLayout(folder).reward.read_bytes() == (here / "reward.py").read_bytes()
    assert lineage["model"]["path"] == str(here / "model")


def test_only_settings_that_name_what_is_read_are_looked_at(lab: Lab, elsewhere: Elsewhere) -> None:
    here = write_inputs(elsewhere.folder)
    (here / "out").mkdir()
    (here / "out" / "big").write_bytes(bytes(10))
    out = (f"trainer.default_local_dir={here}/out", f"global_profiler.save_path={here}/out")
    data = held(lab, elsewhere.host, *inputs_at(here), *out)
    there = ship(elsewhere.host, elsewhere.root, data, lab.datasets)
    assert setting(there, "trainer.default_local_dir") == f"{here}/out"
    assert setting(there, "global_profiler.save_path") == f"{here}/out"
    environment = {**data.rendered.env, "REWARD_FILE": f"{here}/reward.py", "OTHER": "1"}
    moved = ship(
        elsewhere.host,
        elsewhere.root,
        Pinned(replace(data.rendered, env=environment), data.records),
        lab.datasets,
    )
    assert moved.rendered.env["REWARD_FILE"] == setting(moved, REWARD)
    assert moved.rendered.env["OTHER"] == "1"
