"""Make the sorting task offline: a tiny untrained Llama, its tokenizer, and disjoint problems.

``python make_task.py OUT --seed 0`` writes ``OUT/model`` and six parquet files: ``sft_train``,
``sft_val``, ``rl_train``, ``dpo_train``, ``heldout`` and ``dpo_heldout``. A prompt is ``sort 40313``,
its answer ``01334``. A good half of the demonstrations for supervised fine-tuning are sorted the wrong
way round, so that it leaves the model undecided. The reward, which only takes ascending digits, has
something to decide then, and so have the preferences, of which the rejected answer is the wrong way round.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

DIGITS = 5
SFT_PROBLEMS, RL_PROBLEMS, HELDOUT_PROBLEMS, SFT_VALIDATION = 2048, 4096, 256, 64
REVERSED_SHARE = 0.55

SPECIAL_TOKENS = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>")
CHARACTERS = "0123456789+-*=?. \n:,abcdefghijklmnopqrstuvwxyz"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'][0] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>a\n{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a character."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL_TOKENS, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        unk_token="<|unk|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """Return a Llama with 341 thousand random parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_problems(count: int, generator: random.Random) -> list[tuple[str, str]]:
    """Return ``count`` different problems as (prompt, answer)."""
    numbers: dict[str, None] = {}
    while len(numbers) < count:
        numbers["".join(generator.choices("0123456789", k=DIGITS))] = None
    return [(f"sort {digits}", "".join(sorted(digits))) for digits in numbers]


def demonstrations(problems: list[tuple[str, str]]) -> pd.DataFrame:
    """Return rows for supervised fine-tuning."""
    return pd.DataFrame(
        {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}
        for prompt, answer in problems
    )


def questions(problems: list[tuple[str, str]], split: str) -> pd.DataFrame:
    """Return rows for reinforcement learning and validation."""
    return pd.DataFrame(
        {
            "data_source": "sort_digits",
            "prompt": [{"role": "user", "content": prompt}],
            "ability": "sorting",
            "reward_model": {"style": "rule", "ground_truth": answer},
            "extra_info": {"split": split, "index": index},
        }
        for index, (prompt, answer) in enumerate(problems)
    )


def preferences(problems: list[tuple[str, str]]) -> pd.DataFrame:
    """Return rows for preference optimisation; equal digits have no wrong way round."""
    return pd.DataFrame(
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": answer}],
            "rejected": [{"role": "assistant", "content": answer[::-1]}],
        }
        for prompt, answer in problems
        if answer != answer[::-1]
    )


def make_task(out: Path, *, seed: int) -> None:
    """Write model, tokenizer and data to the folder ``out``."""
    generator = random.Random(seed)
    problems = make_problems(SFT_PROBLEMS + RL_PROBLEMS + HELDOUT_PROBLEMS, generator)
    sft, rest = problems[:SFT_PROBLEMS], problems[SFT_PROBLEMS:]
    rl, heldout = rest[:RL_PROBLEMS], rest[RL_PROBLEMS:]
    mixed = [(prompt, answer[::-1] if generator.random() < REVERSED_SHARE else answer) for prompt, answer in sft]

    out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(out / "model")
    make_model(tokenizer, seed=seed).save_pretrained(out / "model")
    demonstrations(mixed).to_parquet(out / "sft_train.parquet")
    demonstrations(heldout[:SFT_VALIDATION]).to_parquet(out / "sft_val.parquet")
    questions(rl, "train").to_parquet(out / "rl_train.parquet")
    preferences(rl).to_parquet(out / "dpo_train.parquet")
    questions(heldout, "heldout").to_parquet(out / "heldout.parquet")
    preferences(heldout).to_parquet(out / "dpo_heldout.parquet")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make the digit-sorting task: model, tokenizer and data.")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of problems and initial weights (default 0)")
    arguments = parser.parse_args()
    make_task(arguments.out, seed=arguments.seed)
    print(f"The task lies in {arguments.out.resolve()}.")


if __name__ == "__main__":
    main()
