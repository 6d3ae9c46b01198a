"""The CPU rollout samples what the model says, whatever else is in the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from verl_lab.verl_plugin.cpu.decoding import Request, Response, decode

VOCABULARY, PAD, STOP = 23, 0, 1
PROMPTS = [[5, 6, 7], [3], [9, 8, 7, 6, 5, 4], [2, 2]]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=STOP,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config).eval()


def run(model: Any, requests: list[Request], *, stop: int | None = STOP, seed: int = 0) -> list[Response]:
    stops = frozenset() if stop is None else frozenset({stop})
    generator = torch.Generator().manual_seed(seed)
    return decode(model, requests, stop_tokens=stops, pad_token=PAD, generator=generator)


def log_probs_of(model: Any, prompt: list[int], tokens: list[int], temperature: float = 1.0) -> list[float]:
    """Return what one pass over the whole sequence, without cache or padding, gives the sampled tokens."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].float()
    table = torch.log_softmax(logits / temperature, dim=-1)
    return table[torch.arange(len(tokens)), torch.tensor(tokens)].tolist()


def test_greedy_decoding_agrees_with_transformers(model: Any) -> None:
    responses = run(model, [Request(prompt, 12, temperature=0.0) for prompt in PROMPTS])
    for prompt, response in zip(PROMPTS, responses, strict=True):
        with torch.inference_mode():
            expected = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
        assert response.tokens == expected.tolist()


def test_log_probabilities_are_those_of_a_pass_over_the_whole_sequence(model: Any) -> None:
    requests = [Request(PROMPTS[0], 12), Request(PROMPTS[2], 12, temperature=0.7)]
    for request, response in zip(requests, run(model, requests), strict=True):
        expected = log_probs_of(model, list(request.prompt), response.tokens, request.temperature)
        assert response.log_probs == pytest.approx(expected, abs=1e-4)


def test_each_row_keeps_its_own_limit(model: Any) -> None:
    responses = run(model, [Request(prompt, limit) for limit, prompt in enumerate(PROMPTS, start=2)], stop=None)
    assert [len(response.tokens) for response in responses] == [2, 3, 4, 5]
    assert [len(response.log_probs) for response in responses] == [2, 3, 4, 5]
    assert not any(response.is_complete for response in responses)


def test_row_ends_with_its_stop_token_while_others_go_on(model: Any) -> None:
    endless = run(model, [Request(prompt, 8, temperature=0.0) for prompt in PROMPTS], stop=None)
    stop = endless[0].tokens[2]
    responses = run(model, [Request(prompt, 8, temperature=0.0) for prompt in PROMPTS], stop=stop)
    for response, whole in zip(responses, endless, strict=True):
        cut = whole.tokens[: whole.tokens.index(stop) + 1] if stop in whole.tokens else whole.tokens
        assert response.tokens == cut
        assert response.is_complete is (stop in whole.tokens)


def test_top_k_of_one_and_a_tiny_top_p_are_greedy(model: Any) -> None:
    greedy = run(model, [Request(prompt, 8, temperature=0.0) for prompt in PROMPTS])
    for cut in (Request(PROMPTS[0], 8, top_k=1), Request(PROMPTS[0], 8, top_p=1e-9)):
        responses = run(model, [replace(cut, prompt=prompt) for prompt in PROMPTS])
        assert [response.tokens for response in responses] == [response.tokens for response in greedy]
        assert responses[0].log_probs == pytest.approx([0.0] * len(responses[0].log_probs), abs=1e-6)


def test_samples_follow_the_model(model: Any) -> None:
    with torch.inference_mode():
        probabilities = torch.softmax(model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].float(), dim=-1)
    drawn = torch.tensor([response.tokens[0] for response in run(model, [Request(PROMPTS[0], 1)] * 20_000, stop=None)])
    shares = torch.bincount(drawn, minlength=VOCABULARY) / len(drawn)
    assert torch.allclose(shares, probabilities, atol=0.015)


def test_same_seed_samples_the_same(model: Any) -> None:
    requests = [Request(prompt, 8) for prompt in PROMPTS]
    assert run(model, requests, seed=1) == run(model, requests, seed=1)
    assert run(model, requests, seed=1) != run(model, requests, seed=2)
