"""Preference data: the forms they come in, and what of them is trained on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from verl_lab.errors import FormatError, InvalidInputError
from verl_lab.verl_plugin.dpo_data import PairCollator, PairDataset
from verl_lab.verl_plugin.dpo_settings import DPOSettings

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}$\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)


def wrap(tokenizer: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    special = {"eos_token": "$", "pad_token": "#", "unk_token": "?"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a character, so that tokens can be read."""
    characters = "$#<>abcdefghijklmnopqrstuvwxyz0123456789 \n?"
    made = Tokenizer(models.WordLevel({c: n for n, c in enumerate(characters)}, unk_token="?"))  # noqa: S106  a token, no secret
    made.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    return wrap(made, TEMPLATE)


def read(path: Path | list[Path], tokenizer: Any, dpo: dict[str, Any] | None = None, **data: Any) -> PairDataset:
    given: dict[str, Any] = {"max_length": 100, "truncation": "error", "apply_chat_template_kwargs": {}, **data}
    most = given.pop("most", -1)
    settings = DPOSettings.of(OmegaConf.create({"dpo": dpo or {}}))
    files = [str(one) for one in path] if isinstance(path, list) else str(path)
    return PairDataset(files, settings, tokenizer, given, most=most)


def jsonl(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def show(dataset: PairDataset, tokenizer: Any, row: int = 0) -> list[tuple[str, str]]:
    """Return of each side what is read and, of that, what counts."""
    found: list[tuple[str, str]] = []
    for sequence in dataset[row]["sequences"]:
        tokens, mask = sequence["input_ids"], sequence["loss_mask"].bool()
        assert sequence["position_ids"].tolist() == list(range(len(tokens)))
        whole, counts = ("".join(tokenizer.convert_ids_to_tokens(part)) for part in (tokens, tokens[mask]))
        found.append((whole, counts))
    return found


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


PAIR = [("<u>one$\n<a>yes$\n", "yes$\n"), ("<u>one$\n<a>no$\n", "no$\n")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "one", "chosen": "yes", "rejected": "no"},
        {"prompt": [said("user", "one")], "chosen": [said("assistant", "yes")], "rejected": [said("assistant", "no")]},
        {"prompt": [said("user", "one")], "chosen": "yes", "rejected": "no"},
        {
            "chosen": [said("user", "one"), said("assistant", "yes")],
            "rejected": [said("user", "one"), said("assistant", "no")],
        },
        {
            "prompt": "one",
            "chosen": [said("user", "one"), said("assistant", "yes")],
            "rejected": [said("user", "one"), said("assistant", "no")],
        },
        {"prompt": "one", "chosen": [said("user", "one"), said("assistant", "yes")], "rejected": "no"},
    ],
    ids=["texts", "messages", "mixed", "whole conversations", "and a prompt", "one whole conversation"],
)
def test_every_form_of_a_pair_reads_the_same(tmp_path: Path, tokenizer: Any, row: dict[str, Any]) -> None:
    assert show(read(jsonl(tmp_path, row), tokenizer), tokenizer) == PAIR
    table = tmp_path / "pairs.parquet"
    pd.DataFrame([row]).to_parquet(table)
    assert show(read(table, tokenizer), tokenizer) == PAIR


def test_conversations_share_all_turns_but_the_answers(tmp_path: Path, tokenizer: Any) -> None:
    shared = [said("system", "s"), said("user", "q"), said("assistant", "a"), said("user", "r")]
    row = {"chosen": [*shared, said("assistant", "y")], "rejected": [*shared, said("assistant", "n")]}
    assert [counts for _, counts in show(read(jsonl(tmp_path, row), tokenizer), tokenizer)] == ["y$\n", "n$\n"]
    same = {"chosen": [*shared, said("assistant", "y")], "rejected": [*shared, said("assistant", "y")]}
    assert [counts for _, counts in show(read(jsonl(tmp_path, same), tokenizer), tokenizer)] == ["y$\n", "y$\n"]


def test_plain_texts_get_no_template_but_an_end(tmp_path: Path, tokenizer: Any) -> None:
    path = jsonl(tmp_path, {"prompt": "one ", "chosen": "yes", "rejected": "no$"})
    plain = read(path, tokenizer, {"plain_text": True})
    assert show(plain, tokenizer) == [("one yes$", "yes$"), ("one no$", "no$")]
    path = jsonl(tmp_path, {"prompt": "", "chosen": "yes", "rejected": "no"})
    unprompted = read(path, tokenizer, {"plain_text": True})
    assert show(unprompted, tokenizer) == [("yes$", "es$"), ("no$", "o$")]  # nothing comes before the first token
    assert unprompted.response_lengths.tolist() == [[3, 2]]


def test_columns_may_be_called_otherwise(tmp_path: Path, tokenizer: Any) -> None:
    path = jsonl(tmp_path, {"question": "one", "better": "yes", "worse": "no"})
    names = {"prompt_key": "question", "chosen_key": "better", "rejected_key": "worse"}
    assert show(read(path, tokenizer, names), tokenizer) == PAIR


def test_too_long_a_pair_is_refused_unless_it_may_be_cut(tmp_path: Path, tokenizer: Any) -> None:
    long = {"prompt": "0123456789", "chosen": "yes", "rejected": "no"}  # 18 tokens of prompt, 5 and 4 of answers
    path = jsonl(tmp_path, {"prompt": "one", "chosen": "yes", "rejected": "no"}, long)
    with pytest.raises(InvalidInputError, match=r"Row 2: 23 tokens are more than data\.max_length=20"):
        read(path, tokenizer, max_length=20)
    right = read(path, tokenizer, max_length=20, truncation="right")
    assert show(right, tokenizer, 1) == [("<u>0123456789$\n<a>ye", "ye"), ("<u>0123456789$\n<a>no", "no")]
    left = read(path, tokenizer, max_length=20, truncation="left")
    assert show(left, tokenizer, 1) == [("0123456789$\n<a>yes$\n", "yes$\n"), ("0123456789$\n<a>no$\n", "no$\n")]
    for dataset in (right, left):
        assert (dataset.counts.pairs, dataset.counts.truncated, dataset.counts.dropped) == (2, 1, 0)


def test_a_pair_without_an_answer_left_is_dropped_and_counted(tmp_path: Path, tokenizer: Any, capfd: Any) -> None:
    long = {"prompt": "0123456789", "chosen": "yes", "rejected": "no"}
    path = jsonl(tmp_path, long, {"prompt": "one", "chosen": "yes", "rejected": "no"})
    dataset = read(path, tokenizer, max_length=17, truncation="right")
    assert dataset.describe("train") == {
        "part": "train",
        "pairs": 1,
        "truncated": 0,
        "dropped": 1,
        "prompt_cut_by_template": 0,
    }
    assert "verl-lab: train: 1 pairs, 1 dropped" in capfd.readouterr().err
    with pytest.raises(InvalidInputError, match="no pair is left of 2 rows"):
        read(path, tokenizer, max_length=5, truncation="right")


def test_prompt_keeps_its_end(tmp_path: Path, tokenizer: Any) -> None:
    path = jsonl(tmp_path, {"prompt": "one", "chosen": "yes", "rejected": "no"})
    dataset = read(path, tokenizer, {"max_prompt_length": 4})
    assert show(dataset, tokenizer) == [("\n<a>yes$\n", "yes$\n"), ("\n<a>no$\n", "no$\n")]
    assert dataset.counts.truncated == 1


def test_prompt_that_the_template_writes_otherwise_ends_where_it_differs(tmp_path: Path, tokenizer: Any) -> None:
    thinking = TEMPLATE.replace("<a>{% endif %}", "<a><think>{% endif %}")
    other = wrap(tokenizer.backend_tokenizer, thinking)
    dataset = read(jsonl(tmp_path, {"prompt": "one", "chosen": "yes", "rejected": "no"}), other)
    assert show(dataset, other) == PAIR
    assert dataset.counts.prompt_cut_by_template == 1


def test_only_the_first_rows_are_taken_of_all_files(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": str(n), "chosen": "yes", "rejected": "no"} for n in range(5)]
    (tmp_path / "a.json").write_text(json.dumps(rows[:1], indent=1))
    (tmp_path / "b.json").write_text("\n\n".join(json.dumps(row) for row in rows[1:2]))
    files = [tmp_path / "a.json", tmp_path / "b.json", jsonl(tmp_path, *rows[2:])]
    assert len(read(files, tokenizer)) == 5
    taken = read(files, tokenizer, most=3)
    assert [show(taken, tokenizer, n)[0][0][3] for n in range(len(taken))] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "one", "chosen": "yes"}, "Row 1: the column 'rejected' is missing"),
        ({"prompt": "one", "chosen": "yes", "rejected": None}, "Row 1: the column 'rejected' is missing"),
        ({"chosen": "yes", "rejected": "no"}, "Row 1: the column 'prompt' is missing"),
        ({"prompt": 5, "chosen": "yes", "rejected": "no"}, "Row 1: '5' is neither a text nor"),
        ({"prompt": "one", "chosen": [], "rejected": "no"}, r"Row 1: '\[\]' is neither a text nor"),
        ({"prompt": "one", "chosen": [{"role": "assistant"}], "rejected": "no"}, "Row 1: .* is neither a text nor"),
    ],
)
def test_rows_without_a_pair_in_them_are_named(tmp_path: Path, tokenizer: Any, row: Any, what: str) -> None:
    with pytest.raises(InvalidInputError, match=what):
        read(jsonl(tmp_path, row), tokenizer)


def test_files_that_are_no_data_are_named(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "one", "chosen": "yes", "rejected": "no"}\n{"prompt": \n')
    with pytest.raises(FormatError, match=r"pairs.jsonl, line 2: no JSON"):
        read(path, tokenizer)
    path.write_text("5\n")
    with pytest.raises(FormatError, match="line 1: no JSON object"):
        read(path, tokenizer)
    path.write_text("\n[{}, 5]")
    with pytest.raises(FormatError, match="item 2: no JSON object"):
        read(path, tokenizer)
    with pytest.raises(FormatError, match="parquet or JSON"):
        read(path.rename(tmp_path / "pairs.csv"), tokenizer)


def test_a_model_without_a_template_takes_plain_texts_alone(tmp_path: Path, tokenizer: Any) -> None:
    bare = wrap(tokenizer.backend_tokenizer, None)
    path = jsonl(tmp_path, {"prompt": "one", "chosen": "yes", "rejected": "no"})
    with pytest.raises(InvalidInputError, match="no chat template"):
        read(path, bare)
    assert len(read(path, bare, {"plain_text": True})) == 1
    with pytest.raises(InvalidInputError, match="as texts"):
        read(
            jsonl(tmp_path, {"prompt": [said("user", "one")], "chosen": "y", "rejected": "n"}),
            bare,
            {"plain_text": True},
        )


def test_pairs_lie_side_by_side_in_a_batch(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "p" * n, "chosen": "yes", "rejected": "no"} for n in (1, 4)]
    dataset = read(jsonl(tmp_path, *rows), tokenizer)
    assert dataset.lengths.tolist() == [[14, 13], [17, 16]]
    assert torch.isnan(dataset.reference).all()  # a pair whose reference was forgotten must not look like one
    dataset.reference = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    batch = PairCollator()([dataset[0], dataset[1]])
    assert batch["input_ids"].offsets().diff().tolist() == [14, 13, 17, 16]
    assert batch["reference_logps"].tolist() == [-1.0, -2.0, -3.0, -4.0]
    assert [int(row.sum()) for row in batch["loss_mask"].unbind()] == [5, 4, 5, 4]
