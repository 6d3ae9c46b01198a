"""The process that samples: a transformers model behind the interface of verl's rollout servers.

It imports neither verl nor the trainer, so that it is up early. torch and transformers are imported when the server
is made: Ray imports this module wherever a handle of the server goes.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from verl_lab.verl_plugin.cpu.decoding import Request, Response

# Requests of one step arrive one by one; a batch begins when none has come for this long.
_QUIET_S = 0.01


@dataclass(frozen=True)
class ServerOptions:
    """What the server needs of verl's configuration.

    Attributes
    ----------
    model_path
        Folder of the model and its tokenizer; the weights come from the trainer.
    attn_implementation
        As transformers names it.
    response_length
        Tokens to sample where a request does not say.
    max_batch
        Requests decoded at once.
    """

    model_path: str
    attn_implementation: str
    trust_remote_code: bool
    response_length: int
    max_batch: int
    ignore_eos: bool
    seed: int


@dataclass
class Sampled:
    """One response; the attributes are those of verl's ``TokenOutput`` (verl/workers/rollout/replica.py)."""

    token_ids: list[int]
    log_probs: list[float]
    stop_reason: str
    extra_fields: dict[str, Any]
    routed_experts: None = None
    num_preempted: None = field(default=None)


class SamplingServer:
    """Collects requests into batches and decodes them, one batch at a time."""

    def __init__(self, options: ServerOptions) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        self._options = options
        config = AutoConfig.from_pretrained(
            options.model_path,
            attn_implementation=options.attn_implementation,
            trust_remote_code=options.trust_remote_code,
        )
        self._model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(options.model_path, trust_remote_code=options.trust_remote_code)
        self._stop_tokens = frozenset() if options.ignore_eos else frozenset({tokenizer.eos_token_id})
        self._pad_token = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._generator = torch.Generator().manual_seed(options.seed)
        self._weights_step: int | None = None
        self._waiting: list[tuple[Request, asyncio.Future[Response]]] = []
        self._decoder = ThreadPoolExecutor(max_workers=1)
        self._loop: asyncio.Task[None] | None = None

    async def update_weights(self, weights: Mapping[str, torch.Tensor], step: int | None) -> None:
        """Take over the trainer's weights of ``step``."""
        missing, unexpected = self._model.load_state_dict(weights, strict=False)
        if self._model.config.tie_word_embeddings:
            self._model.tie_weights()
            missing = [name for name in missing if name != "lm_head.weight"]
        if missing or unexpected:
            raise ValueError(f"The trainer's weights do not fit the rollout's model: {missing=} {unexpected=}.")
        self._weights_step = step if step is not None else self._weights_step

    async def generate(
        self, prompt_ids: list[int], sampling_params: Mapping[str, Any], request_id: str, **media: Any
    ) -> Sampled:
        """Sample a response to one prompt."""
        if given := [name for name, value in media.items() if name.endswith("_data") and value]:
            raise ValueError(f"The rollout verl_lab_hf takes text alone, not {', '.join(given)}.")
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._request(prompt_ids, sampling_params), future))
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._decode_waiting())
        step = self._weights_step
        response = await future
        return Sampled(
            token_ids=response.tokens,
            log_probs=response.log_probs,
            stop_reason="completed" if response.is_complete else "length",
            extra_fields={"global_steps": step},
        )

    def _request(self, prompt: list[int], sampling: Mapping[str, Any]) -> Request:
        from verl_lab.verl_plugin.cpu.decoding import Request

        if sampling.get("repetition_penalty", 1.0) != 1.0:
            raise ValueError("The rollout verl_lab_hf knows no repetition_penalty; leave it at 1.0.")
        limit = sampling.get("max_tokens") or sampling.get("max_new_tokens") or self._options.response_length
        return Request(
            prompt=list(prompt),
            max_tokens=int(limit),
            temperature=float(sampling.get("temperature", 1.0)),
            top_p=float(sampling.get("top_p", 1.0)),
            top_k=int(sampling.get("top_k", -1)),
        )

    async def _decode_waiting(self) -> None:
        while self._waiting:
            seen = 0
            while seen != len(self._waiting):
                seen = len(self._waiting)
                await asyncio.sleep(_QUIET_S)
            batch, self._waiting = (
                self._waiting[: self._options.max_batch],
                self._waiting[self._options.max_batch :],
            )
            try:
                responses = await asyncio.get_running_loop().run_in_executor(
                    self._decoder, self._decode, [request for request, _ in batch]
                )
            except Exception as error:  # noqa: BLE001  each caller gets it, and the next batch its chance
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), response in zip(batch, responses, strict=True):
                if not future.done():
                    future.set_result(response)

    def _decode(self, requests: list[Request]) -> list[Response]:
        from verl_lab.verl_plugin.cpu.decoding import decode

        return decode(
            self._model,
            requests,
            stop_tokens=self._stop_tokens,
            pad_token=self._pad_token,
            generator=self._generator,
        )
