"""Direct preference optimisation on verl's engine, which has a trainer for supervised fine-tuning only.

The reference is frozen, so what it says of a pair never changes: it is computed once, before the first
step, and kept in the dataset. That costs one forward pass and no second model in memory; a reference that
is asked at every step would cost one pass an epoch and the memory of its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from torch.utils.data import DistributedSampler
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.metric import Metric

from verl_lab.errors import InvalidInputError
from verl_lab.verl_plugin.dpo_data import PairCollator, PairDataset
from verl_lab.verl_plugin.dpo_loss import PreferenceLoss, preferences, score_responses
from verl_lab.verl_plugin.dpo_settings import DPOSettings
from verl_lab.verl_plugin.sft import ReportingSFTTrainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from verl_lab.verl_plugin.session import TrainingSession


class DPOTrainer(ReportingSFTTrainer):
    """One process of a preference optimisation; loop, checkpoints and stopping are those of SFT.

    Parameters
    ----------
    config
        verl's ``sft_trainer_engine`` configuration and the group ``dpo``. ``data.train_batch_size`` and
        ``data.micro_batch_size_per_gpu`` count pairs, ``data.max_token_len_per_gpu`` the tokens of both sides.
    session
        Where to report; on all ranks but the first, one that nobody hears.
    """

    def __init__(self, config: Any, session: TrainingSession) -> None:
        self._settings = DPOSettings.of(config)
        self._loss = PreferenceLoss(self._settings)
        super().__init__(config, session)

    def _build_dataset(self) -> None:
        data: Any = OmegaConf.to_container(self.config.data, resolve=True)
        if data["custom_cls"]["path"]:
            raise InvalidInputError("data.custom_cls: DPO reads its pairs itself.", "Leave data.custom_cls.path unset.")
        self.train_dataset = self._read("train", data)
        self.val_dataset: PairDataset | None = self._read("val", data) if data["val_files"] else None
        pairs, batch = len(self.train_dataset), data["train_batch_size"]
        if pairs < batch:
            raise InvalidInputError(
                f"data.train_files: {pairs} pairs are fewer than one batch of {batch}.", "Lower data.train_batch_size."
            )

    def _read(self, part: str, data: dict[str, Any]) -> PairDataset:
        dataset = PairDataset(
            data[f"{part}_files"], self._settings, self.model_config.tokenizer, data, most=data[f"{part}_max_samples"]
        )
        if data["use_dynamic_bsz"]:
            room = data["max_token_len_per_gpu"] * self.engine_config.ulysses_sequence_parallel_size
            longest = int(dataset.lengths.sum(dim=1).max())
            if longest > room:
                raise InvalidInputError(
                    f"data.max_token_len_per_gpu: {room} tokens have no room for a pair of {longest}.",
                    f"Set it to {longest} or more: a pair is never split.",
                )
        if self.rank == 0:
            self._session.data_read(dataset.describe(part))
        return dataset

    def _build_engine(self) -> None:
        super()._build_engine()
        self.training_client.set_loss_fn(self._loss)

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.collate_fn = PairCollator()
        self.train_dataloader.collate_fn = self.collate_fn

    def _init_engine(self) -> None:
        engine: Any = self.engine
        trained: Any = engine.model_config
        if self._settings.reference_path is not None:
            engine.model_config = self._reference_model()
        super()._init_engine()
        self.train_dataset.reference = self._score(self.train_dataset, self._drawn_rows())
        if self.val_dataset is not None:
            self.val_dataset.reference = self._score(self.val_dataset, range(len(self.val_dataset)))
        if engine.model_config is not trained:
            engine.model_config = trained
            engine.module = engine.optimizer = None  # two models at once might not fit
            self.training_client.reset()
        # Otherwise the model would differ from its own reference by chance.
        trainable: Any = engine.module
        for module in trainable.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    def _reference_model(self) -> Any:
        path = self._settings.reference_path
        other = {"path": path, "tokenizer_path": None, "hf_config_path": None, "lora_adapter_path": None}
        merged: Any = OmegaConf.merge(self.config.model, other)
        reference: Any = omega_conf_to_dataclass(merged)
        reference.model_type = self.model_config.model_type
        if reference.tokenizer.get_vocab() != self.model_config.tokenizer.get_vocab():
            raise InvalidInputError(
                f"dpo.reference_path: {path} has another vocabulary than the model.", "Use a model of the same family."
            )
        return reference

    def _drawn_rows(self) -> Sequence[int]:
        """Return the rows that training will see: a short run does not pay for a large file."""
        if self.total_training_steps >= self.steps_per_epoch:
            return range(len(self.train_dataset))
        # What the samplers of all ranks draw together; one rank's is every dp_size-th of it.
        everyone: DistributedSampler[Any] = DistributedSampler(self.train_dataset, num_replicas=1, rank=0)
        return list(everyone)[: self.total_training_steps * self._pairs_a_step()]

    def _pairs_a_step(self) -> int:
        return self.train_batch_size_per_dp * self.engine.get_data_parallel_size()

    def _score(self, dataset: PairDataset, rows: Sequence[int]) -> Tensor:
        """Return the model's log-probabilities of the answers of ``rows``, (n_pairs, 2), on every rank; NaN elsewhere.

        The rows are shared among the ranks, and need not divide by anything.
        """
        # Pairs of like length together, so that padding costs little.
        ordered = sorted(rows, key=lambda row: int(dataset.lengths[row].max()))
        ranks, rank = self.engine.get_data_parallel_size(), self.engine.get_data_parallel_rank()
        data = self.config.data
        micro = 1 if data.use_dynamic_bsz else data.micro_batch_size_per_gpu
        settings = self._batch_settings() | {"compute_loss": False}
        found = torch.zeros(len(dataset), 2)
        for start in range(0, len(ordered), self._pairs_a_step()):
            together = ordered[start : start + self._pairs_a_step()]
            mine = together[rank::ranks]
            # All ranks must call the engine alike: a short share is filled up with a row that is not kept.
            size = -(-len(together) // (ranks * micro)) * micro
            filled = mine + together[:1] * (size - len(mine))
            batch = tu.get_tensordict(
                tensor_dict=self.collate_fn([dataset[row] for row in filled]), non_tensor_dict=settings
            )
            output = self.training_client.infer_batch(batch)
            if mine and self.engine.is_mp_src_rank_with_outputs():
                scores = score_responses(tu.get(output, "log_probs"), batch["loss_mask"])
                found[mine] = scores.view(-1, 2)[: len(mine)]
        shared = found.to(self.config.trainer.device)
        torch.distributed.all_reduce(shared)
        known = torch.full((len(dataset), 2), torch.nan)
        known[ordered] = shared.cpu()[ordered]
        return known

    def _batch_settings(self) -> dict[str, Any]:
        # verl then keeps two neighbours in one micro-batch, of fixed size or sized by tokens.
        return super()._batch_settings() | {"force_group_size": 2, "global_batch_size": self._pairs_a_step()}

    def _train_step(self, step: int, data: Any) -> dict[str, Any]:
        metrics = super()._train_step(step, data)
        return {
            name: float(Metric.aggregate_dp(value)) if isinstance(value, list) else value
            for name, value in metrics.items()
        }

    def _baseline(self) -> dict[str, float]:
        """Return what the validation says before training; the rewards are 0 by definition and left out."""
        if self.val_dataset is None or self._settings.reference_path is not None:
            return {}
        reference = self.val_dataset.reference.flatten()
        terms = self._loss.terms(reference, reference, self.val_dataset.response_lengths.flatten())
        return _means({"loss": terms["loss"], **preferences(reference)})

    def _measure(self) -> dict[str, float]:
        """Return the means over all held-out pairs, whatever the size of a batch and the number of ranks."""
        dataset: PairDataset = self.val_dataset  # pyright: ignore[reportAssignmentType]  the loop has looked
        policy = self._score(dataset, range(len(dataset)))
        return _means(
            self._loss.terms(policy.flatten(), dataset.reference.flatten(), dataset.response_lengths.flatten())
        )


def _means(terms: dict[str, Tensor]) -> dict[str, float]:
    return {f"val/{name}": value.mean().item() for name, value in terms.items()}
