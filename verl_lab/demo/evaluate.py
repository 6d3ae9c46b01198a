"""Measure a model on the held-out problems: ``python evaluate.py MODEL DATA [--greedy]``."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LONGEST_ANSWER = 10


@dataclass(frozen=True)
class Sample:
    """One held-out problem and what the model said."""

    prompt: str
    response: str
    answer: str

    @property
    def verdict(self) -> str:
        """``right``, ``wrong way round``, or ``wrong``."""
        if self.response == self.answer:
            return "right"
        return "wrong way round" if self.response == self.answer[::-1] else "wrong"


@dataclass(frozen=True)
class Evaluation:
    """What one model said to all held-out problems."""

    samples: list[Sample]

    @property
    def accuracy(self) -> float:
        """Return the share of right responses."""
        return self._share("right")

    @property
    def reversed_share(self) -> float:
        """Return the share of responses sorted the wrong way round."""
        return self._share("wrong way round")

    @property
    def distinct_responses(self) -> int:
        """Return how many different responses there are: few would mean that the model has collapsed."""
        return len({sample.response for sample in self.samples})

    def _share(self, verdict: str) -> float:
        return Counter(sample.verdict for sample in self.samples)[verdict] / len(self.samples)


def evaluate(model_path: Path | str, data_path: Path | str, *, greedy: bool, seed: int = 0) -> Evaluation:
    """Let the model answer every problem once, greedily or sampled at temperature 1."""
    rows = pd.read_parquet(data_path)
    tokenizer = AutoTokenizer.from_pretrained(model_path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
    texts = [tokenizer.apply_chat_template(list(p), tokenize=False, add_generation_prompt=True) for p in rows["prompt"]]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    batch.pop("token_type_ids", None)
    torch.manual_seed(seed)
    choice = {"do_sample": False} if greedy else {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    with torch.inference_mode():
        tokens = model.generate(**batch, max_new_tokens=LONGEST_ANSWER, pad_token_id=tokenizer.pad_token_id, **choice)
    responses = tokenizer.batch_decode(tokens[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return Evaluation(
        [
            Sample(prompt[0]["content"], response.strip(), scoring["ground_truth"])
            for prompt, response, scoring in zip(rows["prompt"], responses, rows["reward_model"], strict=True)
        ]
    )


def main() -> None:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure a model on the held-out digit-sorting problems.")
    parser.add_argument("model", type=Path, help="folder with the model in the Hugging Face format")
    parser.add_argument("data", type=Path, help="heldout.parquet")
    parser.add_argument("--greedy", action="store_true", help="take the likeliest token instead of sampling")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = evaluate(arguments.model, arguments.data, greedy=arguments.greedy, seed=arguments.seed)
    print(
        f"accuracy {result.accuracy:.3f}, wrong way round {result.reversed_share:.3f}, "
        f"{result.distinct_responses} different responses to {len(result.samples)} problems"
    )
    for sample in result.samples[:5]:
        print(f"  {sample.prompt} -> {sample.response} ({sample.verdict}; {sample.answer})")


if __name__ == "__main__":
    main()
