"""The loss of direct preference optimisation, in the form that verl's engines call.

Sequences come in pairs that lie side by side: chosen, rejected, chosen, rejected, …
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import logsigmoid
from verl.utils.metric import AggregationType, Metric

if TYPE_CHECKING:
    from tensordict import TensorDict
    from torch import Tensor

    from verl_lab.verl_plugin.dpo_settings import DPOSettings


def score_responses(log_probs: Tensor, loss_mask: Tensor) -> Tensor:
    """Return the log-probability of each response, (n_sequences,) in float32.

    Parameters
    ----------
    log_probs
        (n_sequences, jagged): position t holds the log-probability of token t + 1, as verl's engines
        return it.
    loss_mask
        (n_sequences, jagged): not 0 where a token belongs to the response; 0 at every sequence's first.
    """
    # After the shift a sequence's last position scores the next one's first token, which is masked.
    is_response = torch.roll(loss_mask.values(), shifts=-1, dims=0) != 0
    scores = log_probs.values().float().masked_fill(~is_response, 0.0)
    # Not index_add: on a GPU it adds up in an order of its own, and no run could be repeated to the bit.
    return torch.stack([part.sum() for part in _split(scores, log_probs)])


def count_response_tokens(loss_mask: Tensor) -> Tensor:
    """Return the number of tokens of each response, (n_sequences,)."""
    return torch.stack([(part != 0).sum() for part in _split(loss_mask.values(), loss_mask)])


def _split(values: Tensor, like: Any) -> tuple[Tensor, ...]:
    """Cut the values of a jagged tensor into its rows."""
    return values.split(like.offsets().diff().tolist())


@dataclass(frozen=True)
class PreferenceLoss:
    """The loss of one pair and what is logged about it; an instance is the loss function of a ``TrainingWorker``."""

    settings: DPOSettings

    def terms(self, policy: Tensor, reference: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the loss and the metrics of each pair, (n_pairs,) by name.

        Parameters
        ----------
        policy, reference
            Log-probabilities of the responses by the model that trains and by the frozen one, (2 * n_pairs,).
        lengths
            Tokens of the responses, (2 * n_pairs,).

        Notes
        -----
        ``sigmoid`` is equation 7 of Rafailov et al. 2023 (arXiv:2305.18290), with label smoothing as in
        Mitchell 2023, "A note on DPO with noisy preferences", equation 3. ``ipo`` is equation 17 of Azar
        et al. 2023 (arXiv:2310.12036) on log-probabilities per token, as its authors say they used it.
        """
        settings = self.settings
        ratios = policy - reference
        chosen, rejected = ratios[0::2], ratios[1::2]
        if settings.loss_type == "ipo":
            per_token = ratios / lengths.clamp(min=1)
            loss = (per_token[0::2] - per_token[1::2] - 1 / (2 * settings.beta)) ** 2
        else:
            margin = settings.beta * (chosen - rejected)
            wrong = settings.label_smoothing
            loss = -(1 - wrong) * logsigmoid(margin)
            if wrong:
                loss = loss - wrong * logsigmoid(-margin)
        return {"loss": loss} | {
            name: value.detach()
            for name, value in {
                "rewards/chosen": settings.beta * chosen,
                "rewards/rejected": settings.beta * rejected,
                "rewards/margins": settings.beta * (chosen - rejected),
                "rewards/accuracies": (chosen > rejected).float(),
                **preferences(policy),
            }.items()
        }

    def __call__(
        self, model_output: dict[str, Tensor], data: TensorDict, dp_group: Any = None
    ) -> tuple[Tensor, dict[str, Metric]]:
        """Return what one micro-batch adds to the mean over the pairs of the whole batch, on all ranks."""
        policy = score_responses(model_output["log_probs"], data["loss_mask"])
        terms = self.terms(policy, data["reference_logps"], count_response_tokens(data["loss_mask"]))
        # The engine averages over the ranks and sums over the micro-batches, as for verl's sft_loss.
        weight = data["dp_size"] / data["global_batch_size"]
        loss = terms.pop("loss").sum() * weight
        return loss, {
            name: Metric(value=value.sum() * weight, aggregation=AggregationType.SUM) for name, value in terms.items()
        }


def preferences(policy: Tensor) -> dict[str, Tensor]:
    """Return what a model says of each pair by itself, without a reference, (n_pairs,) by name."""
    chosen, rejected = policy[0::2], policy[1::2]
    return {"logps/chosen": chosen, "logps/rejected": rejected, "logps/accuracies": (chosen > rejected).float()}
