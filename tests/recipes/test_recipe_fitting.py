"""Whether a run fits: rows, lengths, models, parallel sizes, the critic, memory; and what is known to hurt."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.domain.recipe import Recipe
from verl_lab.recipes import memory as memory_module
from verl_lab.recipes.advice import KNOWN, REQUIRED, RESUMING
from verl_lab.recipes.device import Machine
from verl_lab.recipes.model_folder import facts_of
from verl_lab.recipes.schema import schema_of
from verl_lab.recipes.validate import check, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from verl_lab.recipes.catalog import Catalog

ACTOR, ROLLOUT, MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"
LENGTH = "data.max_length=256"
FILTER = "algorithm.filter_groups"
QWEN_05B = {
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}


@pytest.fixture
def model(inputs: Any, tmp_path: Path) -> Callable[..., Path]:
    """Return what makes a model's folder, with the tokenizer and template of the others."""

    def make(**config: object) -> Path:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((inputs.folder / "model" / name).read_bytes())
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


def said(problems: Sequence[Any], key: str) -> str:
    return "\n".join(f"{problem.severity}: {problem}" for problem in problems if problem.key == key)


def dpo(**parameters: object) -> Recipe:
    """Return a DPO recipe for a CPU."""
    settings = {"data.train_batch_size": 16, "data.micro_batch_size_per_gpu": 16, "data.use_dynamic_bsz": False}
    settings |= {"trainer.save_freq": 10} | parameters
    return Recipe.model_validate(
        {"name": "x", "algorithm": "dpo", "resources": {"device": "cpu"}, "parameters": settings}
    )


def test_json_lines_are_looked_into(catalog: Catalog, inputs: Any, tmp_path: Path) -> None:
    recipe, file = catalog.get("grpo-cpu"), tmp_path / "rows.jsonl"
    row = {
        "prompt": [{"role": "user", "content": "hi"}],
        "data_source": "x",
        "reward_model": {"ground_truth": "1"},
    }

    def told(text: str) -> str:
        file.write_text(text)
        return said(validate(recipe, [*inputs.grpo, f"data.train={file}"]), "data.train_files")

    lines = [json.dumps(row)] * 64
    assert told("\n".join(lines)) == ""
    assert told("\n\n".join(lines) + "\n") == ""
    assert told(f"[{','.join(lines)}]") == ""
    assert check(recipe, [*inputs.grpo, f"data.train={file}"]).rows["train"] == 64
    assert "line 3 is no JSON" in told("\n".join([*lines[:2], "{", *lines]))
    assert "line 1 is no object" in told("3\n")
    assert "row 2: reward_model has no ground_truth" in told(
        "\n".join([lines[0], json.dumps(row | {"reward_model": {}}), *lines])
    )
    assert "row 1: prompt is text" in told(json.dumps(row | {"prompt": "hi"}) + "\n" + "\n".join(lines))
    assert "lacks the column reward_model" in told(json.dumps({"prompt": 1, "data_source": "x"}))
    assert "10 rows, fewer than one batch" in told("\n".join(lines[:10]))


def test_rows_of_preferences_are_looked_into(inputs: Any, tmp_path: Path) -> None:
    file = tmp_path / "pairs.parquet"

    def told(row: dict[str, Any]) -> str:
        pq.write_table(pa.Table.from_pylist([row] * 64), file)
        return said(validate(dpo(), [*inputs.dpo, f"data.train={file}"]), "data.train_files")

    assert validate(dpo(), inputs.dpo) == ()
    assert told({"prompt": "a", "chosen": "b", "rejected": "c"}) == ""
    assert "rejected is the same as chosen" in told({"prompt": "a", "chosen": "b", "rejected": "b"})
    assert "chosen is empty" in told({"prompt": "a", "chosen": " ", "rejected": "b"})
    assert "lacks the column rejected. The nearest: rejectd." in told({"prompt": "a", "chosen": "b", "rejectd": "c"})
    room = validate(dpo(**{"data.use_dynamic_bsz": True, "data.max_token_len_per_gpu": 400}), [*inputs.dpo, LENGTH])
    assert "no room for one pair of 512" in said(room, "data.max_token_len_per_gpu")


def test_settings_of_dpo_are_checked(inputs: Any) -> None:
    for override, told in (
        ("dpo.bta=1", "The nearest: dpo.beta"),
        ("dpo.beta=0", "must be above 0. Set it to 0.1."),
        ("dpo.loss_type=sigmoidd", "The nearest: sigmoid."),
        ("dpo.label_smoothing=0.5", "0 or more and below 0.5"),
    ):
        problems = validate(dpo(), [*inputs.dpo, override])
        assert told in said(problems, override.partition("=")[0]), problems
    both = [*inputs.dpo, "dpo.loss_type=ipo", "dpo.label_smoothing=0.1"]
    assert "the ipo loss has none" in said(validate(dpo(), both), "dpo.label_smoothing")


def test_a_model_without_tokenizer_or_template_is_told(catalog: Catalog, inputs: Any, model: Any) -> None:
    recipe, key, folder = catalog.get("sft-cpu"), "model.path", model(hidden_size=1)
    override = [*inputs.sft, f"model={folder}"]
    assert said(validate(recipe, override), key) == ""
    (folder / "tokenizer_config.json").write_text("{}")
    assert "has no chat template" in said(validate(recipe, override), key)
    assert said(validate(recipe, [*override, "model.custom_chat_template=x"]), key) == ""
    (folder / "chat_template.jinja").write_text("x")
    assert said(validate(recipe, override), key) == ""
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in said(validate(recipe, override), key)
    (folder / "config.json").write_text("{")
    assert "config.json is no JSON" in said(validate(recipe, override), key)


def test_parameters_are_counted_in_the_weights_or_computed_from_the_shape(model: Any) -> None:
    folder = model(**QWEN_05B)
    facts = facts_of(folder)
    assert facts is not None
    assert not facts.is_counted
    assert facts.parameters == pytest.approx(494_000_000, rel=0.01)  # Qwen2.5-0.5B has 494.03 million
    header = json.dumps({"__metadata__": {}, "a": {"shape": [3, 4]}, "b": {"shape": [5]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "config.json").write_text(json.dumps(QWEN_05B | {"x": 1}))  # read anew
    counted = facts_of(folder)
    assert counted is not None
    assert (counted.is_counted, counted.parameters) == (True, 17)


def test_lengths_are_held_against_the_model(catalog: Catalog, inputs: Any, model: Any) -> None:
    short = model(max_position_embeddings=100, num_attention_heads=6)
    grpo, sft = catalog.get("grpo-cpu"), catalog.get("sft-cpu")
    on_grpo, on_sft = [*inputs.grpo, f"model={short}"], [*inputs.sft, f"model={short}"]
    assert "error: data.max_prompt_length: is 128" in said(validate(grpo, on_grpo), "data.max_prompt_length")
    longer = validate(grpo, [*on_grpo, "data.max_prompt_length=60"])
    assert "Set it to 40 or less." in said(longer, "data.max_response_length")
    assert all(problem.severity == "warning" for problem in longer)
    assert validate(grpo, [*on_grpo, "data.max_prompt_length=60", "data.max_response_length=40"]) == ()
    engine = validate(grpo, [*on_grpo, f"{ROLLOUT}.max_model_len=200"])
    assert "verl refuses more" in said(engine, f"{ROLLOUT}.max_model_len")
    assert "made for sequences of 100 tokens" in said(validate(sft, on_sft), "data.max_length")
    stretched = model(max_position_embeddings=100, rope_scaling={"rope_type": "yarn", "factor": 4})
    assert validate(sft, [*inputs.sft, f"model={stretched}"]) == ()


def test_rows_longer_than_the_limit_are_told_by_the_models_own_tokenizer(
    catalog: Catalog, inputs: Any, tmp_path: Path
) -> None:
    recipe, file = catalog.get("sft-cpu"), tmp_path / "long.parquet"
    talk = [{"role": "user", "content": "a" * 200}, {"role": "assistant", "content": "b" * 57}]
    pq.write_table(pa.Table.from_pylist([{"messages": talk}] * 64), file)
    override = [*inputs.sft, f"data.train={file}"]
    told = said(validate(recipe, override), "data.max_length")
    assert "error: data.max_length: is 256; 32 of the first 32 rows are longer, the longest 257 tokens" in told
    assert said(validate(recipe, [*override, "data.truncation=right"]), "data.max_length").startswith("warning")
    assert validate(recipe, [*override, "data.max_length=257"]) == ()


def test_parallel_sizes_divide_gpus_and_heads(catalog: Catalog, inputs: Any, model: Any) -> None:
    recipe = catalog.get("grpo")
    base = [*inputs.grpo, f"model={model(**QWEN_05B)}", "resources.gpus=4"]
    heads = validate(recipe, [*base, f"{ROLLOUT}.tensor_model_parallel_size=4"], device="gpu")
    assert "14 attention heads. Set it to 2." in said(heads, f"{ROLLOUT}.tensor_model_parallel_size")
    gpus = validate(recipe, [*base, f"{ROLLOUT}.tensor_model_parallel_size=3"], device="gpu")
    assert "3 does not divide the 4 GPUs. Set it to 2." in said(gpus, f"{ROLLOUT}.tensor_model_parallel_size")
    key = f"{ACTOR}.ulysses_sequence_parallel_size"
    assert "use_remove_padding is true" in said(validate(recipe, [*base, f"{key}=2"], device="gpu"), key)
    assert said(validate(recipe, [*base, f"{key}=2", f"{MODEL}.use_remove_padding=true"], device="gpu"), key) == ""


def test_the_critics_batches_are_checked_too(catalog: Catalog, inputs: Any) -> None:
    recipe = catalog.get("grpo-cpu")
    gae = [*inputs.grpo, "algorithm.adv_estimator=gae", "critic.use_dynamic_bsz=false"]
    key = "critic.ppo_micro_batch_size_per_gpu"
    assert "verl wants it" in said(validate(recipe, gae), key)
    assert "3 does not divide" in said(validate(recipe, [*gae, f"{key}=3"]), key)
    assert said(validate(recipe, [*gae, f"{key}=4"]), key) == ""
    mini = [*gae, f"{key}=4", "critic.ppo_mini_batch_size=32"]
    assert "more than the batch has" in said(validate(recipe, mini), "critic.ppo_mini_batch_size")
    assert said(validate(recipe, [*inputs.grpo, "critic.use_dynamic_bsz=false"]), key) == "", "GRPO has no critic"


def test_memory_is_estimated_with_its_parts(catalog: Catalog, inputs: Any, model: Any) -> None:
    gib = memory_module.GIB
    recipe, base = catalog.get("grpo"), [*inputs.grpo, f"model={model(**QWEN_05B)}"]

    def estimated(*overrides: str, gpu: float) -> Any:
        return check(recipe, [*base, *overrides], device="gpu", machine=Machine("box", (int(gpu * gib),), None))

    fits = estimated(gpu=80)
    assert [problem for problem in fits.problems if "estimate" in problem.message] == []
    # 16 bytes a parameter: fp32 weights and gradients, and AdamW's two moments.
    states = sum(fits.memory.training[name] for name in ("weights", "gradients", "optimiser"))
    assert states == pytest.approx(16 * fits.memory.parameters)
    assert fits.memory.training["reference"] == pytest.approx(4 * fits.memory.parameters)
    assert fits.memory.rollout["engine's weights"] == pytest.approx(2 * fits.memory.parameters)
    assert "about" in str(fits.memory)
    four = estimated("resources.gpus=4", gpu=80)
    assert four.memory.training["weights"] == pytest.approx(fits.memory.training["weights"] / 4)
    lora = estimated(f"{MODEL}.lora_rank=32", f"{ROLLOUT}.load_format=safetensors", gpu=80)
    assert lora.memory.training["optimiser"] < fits.memory.training["optimiser"] / 10
    assert "does not fit (an estimate)" in said(estimated(gpu=6).errors, f"{MODEL}.path")
    tight = estimated(f"{ACTOR}.ppo_max_token_len_per_gpu=16384", gpu=24)
    assert "will hardly fit" in said(tight.warnings, f"{ACTOR}.ppo_max_token_len_per_gpu")
    crowded = estimated(f"{ROLLOUT}.gpu_memory_utilization=0.9", gpu=40)
    assert "beside what training keeps" in said(crowded.warnings, f"{ROLLOUT}.gpu_memory_utilization")
    unknown = check(recipe, [*inputs.grpo, "model=owner/not-here"], device="gpu")
    assert unknown.memory is None


def test_more_gpus_than_there_are_is_told(catalog: Catalog, inputs: Any) -> None:
    def told(*memories: int) -> str:
        machine = Machine("box", memories, None)
        found = check(catalog.get("sft"), [*inputs.sft, "resources.gpus=4"], device="gpu", machine=machine)
        return said(found.errors, "resources.gpus")

    assert "4 GPUs are asked for, and box has 2. Set it to 2." in told(1 << 36, 1 << 36)
    assert "4 GPUs are asked for, and box has none." in told()
    assert told(*[1 << 36] * 4) == ""


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([f"{ACTOR}.optim.lr=1e-3"], f"{ACTOR}.optim.lr"),
        ([f"{MODEL}.lora_rank=8", f"{ROLLOUT}.load_format=safetensors"], f"{MODEL}.lora_rank"),
        ([f"{MODEL}.lora_rank=32"], f"{ROLLOUT}.load_format"),
        ([f"{ROLLOUT}.gpu_memory_utilization=0.9"], f"{ROLLOUT}.gpu_memory_utilization"),
        ([f"{ACTOR}.ppo_max_token_len_per_gpu=4096"], f"{ACTOR}.ppo_max_token_len_per_gpu"),
        ([f"{ROLLOUT}.max_num_batched_tokens=1024"], f"{ROLLOUT}.max_num_batched_tokens"),
        ([f"{ROLLOUT}.temperature=0"], f"{ROLLOUT}.temperature"),
        ([f"{ACTOR}.use_kl_loss=true", f"{ACTOR}.kl_loss_coef=1"], f"{ACTOR}.kl_loss_coef"),
        ([f"{ACTOR}.use_kl_loss=true", "algorithm.use_kl_in_reward=true"], "algorithm.use_kl_in_reward"),
        ([f"{ACTOR}.loss_agg_mode=seq-mean-token-sum-norm"], "algorithm.norm_adv_by_std_in_grpo"),
        ([f"{ACTOR}.loss_agg_mode=seq-mean-token-mean", "data.max_response_length=8192"], f"{ACTOR}.loss_agg_mode"),
        ([f"{ACTOR}.ppo_mini_batch_size=4"], f"{ACTOR}.ppo_mini_batch_size"),
        ([f"{MODEL}.enable_gradient_checkpointing=false"], f"{MODEL}.enable_gradient_checkpointing"),
        (["trainer.save_freq=-1"], "trainer.save_freq"),
        ([f"{ACTOR}.checkpoint.save_contents=[model]"], f"{ACTOR}.checkpoint.save_contents"),
        (["trainer.resume_mode=disable"], "trainer.resume_mode"),
        (["trainer.resume_mode=resume_path"], "trainer.resume_from_path"),
        ([f"{FILTER}.enable=true", f"{FILTER}.metric=null"], f"{FILTER}.metric"),
    ],
)  # fmt: skip
def test_what_is_known_to_hurt_is_told_with_its_source(
    overrides: list[str], key: str, catalog: Catalog, inputs: Any, model: Any
) -> None:
    base = [*inputs.grpo, f"model={model(**QWEN_05B)}"]
    assert "(verl" not in said(validate(catalog.get("grpo"), base, device="gpu"), key)
    assert "(verl" in said(validate(catalog.get("grpo"), [*base, *overrides], device="gpu"), key)


def test_advice_is_about_settings_that_verl_has() -> None:
    for advice in (*KNOWN, *RESUMING, *REQUIRED):
        for trainer in advice.trainers:
            known = schema_of(trainer).keys
            keys = [advice.key, *(one.key for one in advice.when if not one.key.startswith("("))]
            assert [key for key in keys if key not in known] == []
        assert advice.source
