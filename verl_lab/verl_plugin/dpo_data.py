"""Preference pairs as tokens, in the form that verl's engines read."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset
from verl.utils.dataset.dataset_utils import DatasetPadMode, SFTTensorCollator

from verl_lab.errors import InvalidInputError
from verl_lab.verl_plugin.dpo_rows import PairTexts, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from verl_lab.verl_plugin.dpo_rows import Texts
    from verl_lab.verl_plugin.dpo_settings import DPOSettings

Tokens = list[int]
_AT_ONCE = 1024  # rows handed to the tokenizer together


@dataclass
class PairCounts:
    """What became of the rows.

    Attributes
    ----------
    pairs
        Rows that are trained or measured on.
    truncated
        Those of them that were cut to ``data.max_length`` or ``dpo.max_prompt_length``.
    dropped
        Rows of which no token of an answer was left.
    prompt_cut_by_template
        Pairs whose prompt the chat template writes differently when an answer follows; the answer
        then begins where the two differ.
    """

    pairs: int = 0
    truncated: int = 0
    dropped: int = 0
    prompt_cut_by_template: int = 0


@dataclass(frozen=True)
class Limits:
    """How long a pair may be, in tokens.

    Attributes
    ----------
    length
        Of prompt and answer together, ``data.max_length``.
    prompt
        Of the prompt, ``dpo.max_prompt_length``.
    truncation
        ``error`` refuses what is longer, ``right`` cuts the end of the answer, ``left`` the beginning of
        the prompt and then the end of the answer: ``data.truncation``.
    """

    length: int
    prompt: int | None
    truncation: str

    def cut(self, prompt: Tokens, answers: Sequence[Tokens], number: int) -> tuple[Tokens, list[Tokens]]:
        """Return prompt and answers within the limits; an answer may come out empty.

        Raises
        ------
        InvalidInputError
            If they are longer and may not be cut.
        """
        if self.prompt is not None:
            prompt = prompt[-self.prompt :]
        over = len(prompt) + max(map(len, answers)) - self.length
        if over > 0:
            if self.truncation == "error":
                raise InvalidInputError(
                    f"Row {number}: {over + self.length} tokens are more than data.max_length={self.length}.",
                    "Raise data.max_length, or set data.truncation to left or right.",
                )
            if self.truncation == "left":
                prompt = prompt[min(over, max(len(prompt) - 1, 0)) :]
            prompt = prompt[: self.length]
            answers = [answer[: self.length - len(prompt)] for answer in answers]
        return prompt, list(answers)


class PairDataset(Dataset[dict[str, Any]]):
    """Pairs of one prompt and two answers, with the reference's log-probabilities once they are known.

    Attributes
    ----------
    counts
        What became of the rows.
    lengths
        (n_pairs, 2): tokens of prompt and answer together.
    response_lengths
        (n_pairs, 2): tokens of the answers that count.
    reference
        (n_pairs, 2) float32: log-probabilities of the answers, NaN where they were not computed.

    Raises
    ------
    InvalidInputError
        If a row has no pair in it, is too long and may not be cut, or none is left.
    FormatError
        If a file cannot be read.
    """

    def __init__(
        self, files: str | Sequence[str], settings: DPOSettings, tokenizer: Any, data: Mapping[str, Any], *, most: int
    ) -> None:
        self.counts = PairCounts()
        self._limits = Limits(data["max_length"], settings.max_prompt_length, data["truncation"])
        self._pairs: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]] = []
        rows = read_rows(files, most)
        for number, (prompt, chosen, rejected) in enumerate(_tokenize(rows, settings, tokenizer, data), 1):
            self._add(number, prompt, chosen, rejected)
        if not self._pairs:
            raise InvalidInputError(
                f"{files}: no pair is left of {len(rows)} rows.", "Look at data.max_length and data.truncation."
            )
        prompts = np.array([[len(prompt)] for prompt, _, _ in self._pairs])
        answers = np.array([[len(chosen), len(rejected)] for _, chosen, rejected in self._pairs])
        self.lengths = torch.from_numpy(prompts + answers)
        # Without a token before it, an answer's first has no log-probability.
        self.response_lengths = torch.from_numpy(answers - (prompts == 0))
        self.reference = torch.full((len(self._pairs), 2), torch.nan)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        prompt, *answers = self._pairs[index]
        return {"sequences": [_sequence(prompt, answer) for answer in answers], "reference": self.reference[index]}

    def describe(self, name: str) -> dict[str, Any]:
        """Say on standard error, and return, what became of the rows of the part called ``name``."""
        counts = asdict(self.counts)
        text = ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in counts.items() if count or key == "pairs")
        sys.stderr.write(f"verl-lab: {name}: {text}\n")
        return {"part": name, **counts}

    def _add(self, number: int, prompt: Tokens, chosen: Tokens, rejected: Tokens) -> None:
        shared = min(_shared(prompt, chosen), _shared(prompt, rejected))
        self.counts.prompt_cut_by_template += shared < len(prompt)
        whole = prompt[:shared], [chosen[shared:], rejected[shared:]]
        kept, answers = self._limits.cut(*whole, number)
        if not all(len(kept) + len(answer) > 1 and answer for answer in answers):
            self.counts.dropped += 1
            return
        self.counts.truncated += (kept, answers) != whole
        self.counts.pairs += 1
        first, second = (np.array(answer, np.int32) for answer in answers)
        self._pairs.append((np.array(kept, np.int32), first, second))


class PairCollator:
    """Lays the pairs of a batch side by side: 2 * n_pairs sequences without padding."""

    def __init__(self) -> None:
        self._collate = SFTTensorCollator(DatasetPadMode.NO_PADDING)

    def __call__(self, pairs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self._collate([sequence for pair in pairs for sequence in pair["sequences"]])
        return batch | {"reference_logps": torch.cat([pair["reference"] for pair in pairs])}


def _sequence(prompt: NDArray[np.int32], answer: NDArray[np.int32]) -> dict[str, torch.Tensor]:
    tokens = torch.from_numpy(np.concatenate([prompt, answer]).astype(np.int64))
    mask = torch.ones_like(tokens)
    mask[: max(len(prompt), 1)] = 0
    return {"input_ids": tokens, "position_ids": torch.arange(len(tokens)), "loss_mask": mask}


def _tokenize(
    rows: list[dict[str, Any]], settings: DPOSettings, tokenizer: Any, data: Mapping[str, Any]
) -> Iterator[tuple[Tokens, Tokens, Tokens]]:
    """Yield each row's prompt, and it with either answer, as tokens."""
    write = PairTexts(settings, tokenizer, data["apply_chat_template_kwargs"])
    for start in range(0, len(rows), _AT_ONCE):
        texts: list[Texts] = [write.of(row, start + n) for n, row in enumerate(rows[start : start + _AT_ONCE], 1)]
        parts = [part for text in texts for part in (text.prompt, text.with_chosen, text.with_rejected)]
        # A chat template writes the special tokens itself.
        found: list[Tokens] = tokenizer(parts, add_special_tokens=settings.plain_text)["input_ids"]
        yield from zip(found[0::3], found[1::3], found[2::3], strict=True)


def _shared(first: Tokens, second: Tokens) -> int:
    """Return how many tokens two sequences begin with alike."""
    for position, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return position
    return min(len(first), len(second))
