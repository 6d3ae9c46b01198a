"""Batched sampling from a transformers model with a key-value cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

# Below this, a temperature means "take the likeliest token".
_GREEDY_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class Request:
    """One prompt and how to go on from it.

    Attributes
    ----------
    prompt
        Token ids.
    max_tokens
        How many tokens to sample at most.
    temperature
        Divides the logits; 0 takes the likeliest token.
    top_p
        Sample from the likeliest tokens that together have this probability.
    top_k
        Sample from this many of the likeliest tokens; 0 or less means from all.
    """

    prompt: Sequence[int]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1


@dataclass(frozen=True)
class Response:
    """What was sampled.

    Attributes
    ----------
    tokens
        Token ids, the stop token included.
    log_probs
        Natural log of the probability each was sampled with.
    is_complete
        Whether it ended with a stop token, and not for its length.
    """

    tokens: list[int]
    log_probs: list[float]
    is_complete: bool


@torch.inference_mode()
def decode(
    model: Any,
    requests: Sequence[Request],
    *,
    stop_tokens: frozenset[int],
    pad_token: int,
    generator: torch.Generator,
) -> list[Response]:
    """Sample a response to every request, all in one batch.

    Prompts are padded on the left; a row that is done is carried along until the last one is.

    Returns
    -------
    list of Response
        In the order of ``requests``.
    """
    tokens, mask = _pad_left([r.prompt for r in requests], pad_token)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    limits = torch.tensor([r.max_tokens for r in requests])
    stops = torch.tensor(sorted(stop_tokens), dtype=torch.long)
    sampler = _Sampler(requests, generator)

    sampled: list[torch.Tensor] = []
    scores: list[torch.Tensor] = []
    stopped = torch.zeros(len(requests), dtype=torch.bool)
    lengths = limits.clone()
    cache = None
    for length in range(1, int(limits.max()) + 1):
        output = model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        chosen, log_probs = sampler.draw(output.logits[:, -1].float())
        sampled.append(chosen)
        scores.append(log_probs)
        ends_here = torch.isin(chosen, stops) & ~stopped & (length <= limits)
        lengths[ends_here] = length
        stopped |= ends_here
        if bool((stopped | (limits <= length)).all()):
            break
        tokens = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(requests), 1)], dim=-1)
        positions = positions[:, -1:] + 1

    token_rows = torch.stack(sampled, dim=1).tolist()
    score_rows = torch.stack(scores, dim=1).tolist()
    return [
        Response(token_row[:length], score_row[:length], is_complete)
        for token_row, score_row, length, is_complete in zip(
            token_rows, score_rows, lengths.tolist(), stopped.tolist(), strict=True
        )
    ]


def _pad_left(prompts: Sequence[Sequence[int]], pad_token: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask, both ``(n_prompts, longest)``."""
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), longest), pad_token, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt) :] = 1
    return tokens, mask


class _Sampler:
    """Draws the next token of every row by the row's own settings."""

    def __init__(self, requests: Sequence[Request], generator: torch.Generator) -> None:
        temperature = torch.tensor([r.temperature for r in requests])
        self._is_greedy = temperature <= _GREEDY_TEMPERATURE
        self._temperature = torch.where(self._is_greedy, torch.ones_like(temperature), temperature)[:, None]
        self._top_p = torch.tensor([r.top_p for r in requests])[:, None]
        self._top_k = torch.tensor([r.top_k for r in requests])[:, None]
        self._is_cut = bool((self._top_p < 1).any() or (self._top_k > 0).any())
        self._generator = generator

    def draw(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens and their log-probabilities, both ``(n_rows,)``, from logits ``(n_rows, vocabulary)``."""
        log_probs = torch.log_softmax(logits / self._temperature, dim=-1)
        if self._is_cut:
            log_probs = self._cut(log_probs)
        drawn = torch.multinomial(log_probs.exp(), 1, generator=self._generator).squeeze(-1)
        chosen = torch.where(self._is_greedy, log_probs.argmax(dim=-1), drawn)
        return chosen, log_probs.gather(-1, chosen[:, None]).squeeze(-1)

    def _cut(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Keep what top-k and top-p allow, at least the likeliest token, and normalise again."""
        ordered, tokens = log_probs.sort(dim=-1, descending=True)
        rank = torch.arange(ordered.shape[-1])
        before = ordered.exp().cumsum(dim=-1) - ordered.exp()
        kept = (before < self._top_p) & ((self._top_k <= 0) | (rank < self._top_k))
        kept[:, 0] = True
        cut = torch.full_like(log_probs, -torch.inf).scatter(-1, tokens, ordered.masked_fill(~kept, -torch.inf))
        return torch.log_softmax(cut, dim=-1)
