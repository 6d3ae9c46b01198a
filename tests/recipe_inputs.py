"""A tiny, real set of inputs: a model folder, parquet files and a reward function."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Inputs:
    """Overrides that give a recipe everything it reads."""

    folder: Path
    sft: list[str]
    grpo: list[str]
    dpo: list[str]

    def of(self, algorithm: str) -> list[str]:
        return {"sft": self.sft, "dpo": self.dpo}.get(algorithm, self.grpo)


def make_model(folder: Path, **config: int) -> Path:
    """Make the files of a model without weights: its shape, a tokenizer of single characters, a chat template."""
    folder.mkdir(parents=True)
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    (folder / "config.json").write_text(json.dumps(shape | config))
    vocabulary = {character: number for number, character in enumerate(string.printable)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))  # noqa: S106  a token of text
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}"}))
    return folder


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    make_model(folder / "model")
    (folder / "reward.py").write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return 1\n"
    )
    message = [{"role": "user", "content": "hi"}]
    talk = [*message, {"role": "assistant", "content": "ho"}]
    pq.write_table(pa.Table.from_pylist([{"messages": talk}] * 256), folder / "sft.parquet")
    pair = {"prompt": "hi", "chosen": "ho", "rejected": "no"}
    pq.write_table(pa.Table.from_pylist([pair] * 256), folder / "dpo.parquet")
    row = {"prompt": message, "data_source": "x", "reward_model": {"style": "rule", "ground_truth": "1"}}
    pq.write_table(pa.Table.from_pylist([row] * 256), folder / "rl.parquet")
    sft = [f"model={folder}/model", f"data.train={folder}/sft.parquet", f"data.val={folder}/sft.parquet"]
    grpo = [f"model={folder}/model", f"data.train={folder}/rl.parquet", f"data.val={folder}/rl.parquet"]
    dpo = [f"model={folder}/model", f"data.train={folder}/dpo.parquet", f"data.val={folder}/dpo.parquet"]
    return Inputs(folder, sft, [*grpo, f"reward.path={folder}/reward.py"], dpo)
