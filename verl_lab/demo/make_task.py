"""Make the sorting task offline: a tiny Llama, untrained and warmed up, its tokenizer, and disjoint problems.

``python make_task.py OUT --seed 0`` writes ``OUT/model``, ``OUT/warm`` and six parquet files: ``sft_train``,
``sft_val``, ``rl_train``, ``dpo_train``, ``heldout`` and ``dpo_heldout``. A prompt is ``sort 40313``,
its answer ``01334``. A good half of the demonstrations for supervised fine-tuning are sorted the wrong
way round, so that it leaves the model undecided. The reward, which only takes ascending digits, has
something to decide then, and so have the preferences, of which the rejected answer is the wrong way round.

``model`` is untrained. ``warm`` has seen the demonstrations, in a loop of a few seconds, so that
reinforcement and preferences can begin at once: it stands about where ``sort-digits-sft`` leaves the model.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

DIGITS = 5
SFT_PROBLEMS, RL_PROBLEMS, HELDOUT_PROBLEMS, SFT_VALIDATION = 2048, 4096, 256, 64
REVERSED_SHARE = 0.55
# Three times around the demonstrations, at the rate of the recipe sort-digits-sft.
WARM_STEPS, WARM_BATCH, WARM_RATE, WARM_RISE = 200, 32, 2e-3, 20

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


def warm_up(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> None:
    """Train the model in place on (prompt, answer) pairs, of which all have the same lengths."""
    asked = [[{"role": "user", "content": prompt}] for prompt, _ in pairs]
    prompts = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    ended = [f"{answer}{tokenizer.eos_token}" for _, answer in pairs]
    answers = tokenizer(ended, add_special_tokens=False)["input_ids"]
    tokens = torch.tensor([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])
    labels = tokens.clone()
    labels[:, : len(prompts[0])] = -100  # what transformers leaves out of the loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=WARM_RATE)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARM_RISE, WARM_STEPS)
    # On a machine that is busy, threads wait for each other longer than they compute; and one always gives the same.
    torch.set_num_threads(1)
    model.train()
    order = torch.empty(0, dtype=torch.long)
    for step in range(WARM_STEPS):
        if step % 20 == 0:
            print(f"Teaching a model to sort, one way or the other: step {step} of {WARM_STEPS}", flush=True)
        if len(order) < WARM_BATCH:
            order = torch.randperm(len(tokens))
        batch, order = order[:WARM_BATCH], order[WARM_BATCH:]
        model(input_ids=tokens[batch], labels=labels[batch]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def make_task(out: Path, *, seed: int) -> None:
    """Write models, tokenizer and data to the folder ``out``."""
    generator = random.Random(seed)
    problems = make_problems(SFT_PROBLEMS + RL_PROBLEMS + HELDOUT_PROBLEMS, generator)
    sft, rest = problems[:SFT_PROBLEMS], problems[SFT_PROBLEMS:]
    rl, heldout = rest[:RL_PROBLEMS], rest[RL_PROBLEMS:]
    mixed = [(prompt, answer[::-1] if generator.random() < REVERSED_SHARE else answer) for prompt, answer in sft]

    out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed=seed)
    for name in ("model", "warm"):
        tokenizer.save_pretrained(out / name)
        model.save_pretrained(out / name)
        if name == "model":
            warm_up(model, tokenizer, mixed)
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


if __name__ == "__main__":
    main()
