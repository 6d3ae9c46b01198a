"""The loss of preference optimisation, against its formulas written out pair by pair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from omegaconf import OmegaConf
from verl.utils import tensordict_utils as tu

from verl_lab.errors import InvalidInputError
from verl_lab.verl_plugin.dpo_loss import PreferenceLoss, count_response_tokens, score_responses
from verl_lab.verl_plugin.dpo_settings import DPOSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensordict import TensorDict


def settings(**given: Any) -> DPOSettings:
    return DPOSettings.of(OmegaConf.create({"dpo": given}))


def jagged(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row, dtype=dtype) for row in rows], layout=torch.jagged)


# What position t scores lies at t; the last of a sequence scores the next one's first token.
LOG_PROBS = [[-1.0, -2.0, -9.0], [-0.5, -0.25, -0.125, -9.0], [-3.0, -9.0], [-4.0, -5.0, -9.0]]
MASKS = [[0, 0, 1], [0, 1, 0, 1], [0, 1], [0, 1, 1]]
SCORES = [-2.0, -0.5 - 0.125, -3.0, -9.0]
REFERENCE = [-2.5, -1.0, -1.0, -8.0]


def test_a_response_is_scored_at_its_own_tokens_alone() -> None:
    scores = score_responses(jagged(LOG_PROBS, torch.float32), jagged(MASKS, torch.int64))
    assert scores.tolist() == SCORES
    assert count_response_tokens(jagged(MASKS, torch.int64)).tolist() == [1, 2, 1, 2]


def test_what_is_masked_may_be_impossible() -> None:
    rows = [[-math.inf, -1.0, math.nan], [-1.0, math.nan]]
    log_probs = jagged(rows, torch.float32).requires_grad_()
    scores = score_responses(log_probs, jagged([[0, 0, 1], [0, 1]], torch.int64))
    assert scores.tolist() == [-1.0, -1.0]
    scores.sum().backward()
    gradient: Any = log_probs.grad
    assert gradient.values().tolist() == [0.0, 1.0, 0.0, 1.0, 0.0]


def test_half_precision_is_added_up_in_full() -> None:
    row = [-0.01] * 4096 + [0.0]
    scores = score_responses(jagged([row], torch.bfloat16), jagged([[0] + [1] * 4096], torch.int64))
    assert scores.dtype == torch.float32
    assert scores.item() == pytest.approx(4096 * float(torch.tensor(-0.01, dtype=torch.bfloat16)), rel=1e-5)


def expected(loss: str, smoothing: float, beta: float) -> list[float]:
    found: list[float] = []
    for pair in (0, 2):
        chosen, rejected = (SCORES[pair + n] - REFERENCE[pair + n] for n in (0, 1))
        if loss == "ipo":
            found.append((chosen / 1 - rejected / 2 - 1 / (2 * beta)) ** 2)
        else:
            right = 1 / (1 + math.exp(-beta * (chosen - rejected)))
            found.append(-(1 - smoothing) * math.log(right) - smoothing * math.log(1 - right))
    return found


@pytest.mark.parametrize(("loss", "smoothing"), [("sigmoid", 0.0), ("sigmoid", 0.2), ("ipo", 0.0)])
def test_loss_and_metrics_follow_their_formulas(loss: str, smoothing: float) -> None:
    beta = 0.5
    terms = PreferenceLoss(settings(loss_type=loss, label_smoothing=smoothing, beta=beta)).terms(
        torch.tensor(SCORES), torch.tensor(REFERENCE), torch.tensor([1, 2, 1, 2])
    )
    assert terms["loss"].tolist() == pytest.approx(expected(loss, smoothing, beta), rel=1e-6)
    assert terms["rewards/chosen"].tolist() == [0.25, -1.0]
    assert terms["rewards/rejected"].tolist() == [0.1875, -0.5]
    assert terms["rewards/margins"].tolist() == [0.0625, -0.5]
    assert terms["rewards/accuracies"].tolist() == [1.0, 0.0]
    assert terms["logps/chosen"].tolist() == [-2.0, -3.0]
    assert terms["logps/rejected"].tolist() == [-0.625, -9.0]
    assert terms["logps/accuracies"].tolist() == [0.0, 1.0]


def test_a_model_that_is_its_own_reference_starts_at_ln_2() -> None:
    scores = torch.tensor(SCORES)
    terms = PreferenceLoss(settings()).terms(scores, scores, torch.ones(4))
    assert terms["loss"].tolist() == pytest.approx([math.log(2)] * 2)
    assert terms["rewards/margins"].tolist() == [0.0, 0.0]


def micro_batch(sequences: list[int]) -> TensorDict:
    return tu.get_tensordict(
        {
            "loss_mask": jagged([MASKS[n] for n in sequences], torch.int64),
            "reference_logps": torch.tensor([REFERENCE[n] for n in sequences]),
        },
        {"dp_size": 1, "global_batch_size": 2},
    )


def test_micro_batches_add_up_to_the_mean_of_the_batch() -> None:
    loss = PreferenceLoss(settings())
    whole, metrics = loss({"log_probs": jagged(LOG_PROBS, torch.float32)}, micro_batch([0, 1, 2, 3]))
    parts = [loss({"log_probs": jagged(LOG_PROBS[n : n + 2], torch.float32)}, micro_batch([n, n + 1])) for n in (0, 2)]
    assert whole.item() == pytest.approx(sum(part.item() for part, _ in parts))
    assert metrics["rewards/margins"].aggregate() == pytest.approx(
        sum(of["rewards/margins"].aggregate() for _, of in parts)
    )
    assert metrics["logps/chosen"].aggregate() == pytest.approx((SCORES[0] + SCORES[2]) / 2)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"beta": 0}, "dpo.beta"),
        ({"beta": float("nan")}, "dpo.beta"),
        ({"loss_type": "hinge"}, "sigmoid or ipo"),
        ({"label_smoothing": 0.5}, "dpo.label_smoothing"),
        ({"label_smoothing": 0.1, "loss_type": "ipo"}, "ipo loss has none"),
        ({"max_prompt_length": 0}, "dpo.max_prompt_length"),
        ({"betta": 0.1}, "beta"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInputError, match=what):
        settings(**given)


def test_settings_left_out_have_their_defaults() -> None:
    assert DPOSettings.of(OmegaConf.create({})) == settings(beta=0.1, loss_type="sigmoid", plain_text=False)
