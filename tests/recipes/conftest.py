"""A tiny, real set of inputs: a model folder, parquet files and a reward function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.recipes.catalog import Catalog, builtin_folder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Inputs:
    """Overrides that give a recipe everything it reads."""

    folder: Path
    sft: list[str]
    grpo: list[str]

    def of(self, algorithm: str) -> list[str]:
        return self.sft if algorithm == "sft" else self.grpo


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "reward.py").write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return 1\n"
    )
    message = [{"role": "user", "content": "hi"}]
    pq.write_table(pa.Table.from_pylist([{"messages": message}] * 256), folder / "sft.parquet")
    row = {"prompt": message, "data_source": "x", "reward_model": {"style": "rule", "ground_truth": "1"}}
    pq.write_table(pa.Table.from_pylist([row] * 256), folder / "rl.parquet")
    sft = [f"model={folder}/model", f"data.train={folder}/sft.parquet", f"data.val={folder}/sft.parquet"]
    grpo = [f"model={folder}/model", f"data.train={folder}/rl.parquet", f"data.val={folder}/rl.parquet"]
    return Inputs(folder, sft, [*grpo, f"reward.path={folder}/reward.py"])


@pytest.fixture
def catalog() -> Catalog:
    """Return the built-in recipes alone."""
    return Catalog([builtin_folder()])
