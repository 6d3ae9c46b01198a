"""Whether sequences fit: into what the model was made for, into the rollout engine, and rows into the limits set."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Problem
from verl_lab.recipes.shapes import texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from verl_lab.domain.recipe import Trainer
    from verl_lab.recipes.composed import Settings
    from verl_lab.recipes.model_folder import ModelFacts

_ROLLOUT = "actor_rollout_ref.rollout"


def length_problems(trainer: Trainer, settings: Settings, model: ModelFacts | None) -> Iterator[Problem]:
    """Yield what is wrong with the lengths that are set, by what the model was made for."""
    positions = model.positions if model is not None and not model.has_scaled_positions else None
    if trainer != "ppo":
        longest = settings["data.max_length"]
        if positions is not None and longest > positions:
            why = f"is {longest}; the model was made for sequences of {positions} tokens."
            yield Problem("data.max_length", longest, why, f"Set it to {positions} or less.", severity="warning")
        return
    prompt, response = settings["data.max_prompt_length"], settings["data.max_response_length"]
    engine_key = f"{_ROLLOUT}.max_model_len"
    engine = settings[engine_key]
    if engine is not None and positions is not None and engine > positions:
        why = f"is {engine}; the model was made for sequences of {positions} tokens, and verl refuses more."
        yield Problem(engine_key, engine, why, f"Set it to {positions}, or to null.")
    room, whose = (engine, f"{engine_key}={engine}") if engine else (positions, f"the model's {positions} positions")
    if room is None:
        return
    if prompt >= room:
        why = f"is {prompt}, which leaves no room for an answer in {whose}."
        yield Problem("data.max_prompt_length", prompt, why, f"Set it below {room}.")
    elif prompt + response > room:
        why = f"is {response}; with a prompt of {prompt} that is more than {whose}, where answers are cut."
        yield Problem(
            "data.max_response_length", response, why, f"Set it to {room - prompt} or less.", severity="warning"
        )


def parallel_problems(settings: Settings, model: ModelFacts | None) -> Iterator[Problem]:
    """Yield which parallel sizes do not divide the model's attention heads."""
    if model is None or model.heads is None:
        return
    for key in (
        f"{_ROLLOUT}.tensor_model_parallel_size",
        "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
        "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size",
        "engine.ulysses_sequence_parallel_size",
    ):
        size = int(settings.number(key, 1))
        if size > 1 and model.heads % size:
            near = max(n for n in range(1, size + 1) if model.heads % n == 0)
            yield Problem(
                key, size, f"{size} does not divide the model's {model.heads} attention heads.", f"Set it to {near}."
            )


def row_length_problems(
    trainer: Trainer, settings: Settings, rows: Sequence[Mapping[str, Any]], folder: Path | None
) -> list[Problem]:
    """Return whether sampled rows are longer than the limit, by the model's own tokenizer.

    The tokens of the texts alone are counted, which is less than what the chat template makes of them. Without
    the package ``tokenizers``, or a ``tokenizer.json``, nothing is found.
    """
    count = None if folder is None or not rows else token_counter(folder)
    if count is None:
        return []
    key, columns = _measured(trainer, settings)
    limit = settings[key]
    lengths = [
        max(sum(count(text) for name in group for text in texts_of(row.get(name))) for group in columns) for row in rows
    ]
    over = sum(length > limit for length in lengths)
    if not over:
        return []
    what = "prompts" if trainer == "ppo" else "rows"
    why = f"is {limit}; {over} of the first {len(rows)} {what} are longer, the longest {max(lengths)} tokens and more."
    is_fatal = trainer != "ppo" and settings["data.truncation"] == "error"
    if trainer == "ppo" and settings["data.filter_overlong_prompts"]:
        is_fatal = over == len(rows)
        why += " They are left out."
    fix = f"Set it to {max(lengths)} or more" + (", or data.truncation=right." if trainer != "ppo" else ".")
    return [Problem(key, limit, why, fix, severity="error" if is_fatal else "warning")]


def token_counter(folder: Path) -> Callable[[str], int] | None:
    """Return what counts the tokens of a text; None where the tokenizer cannot be read here."""
    file = folder / "tokenizer.json"
    try:
        tokenizer = _tokenizer(file, file.stat().st_mtime_ns)
    except OSError:
        return None
    if tokenizer is None:
        return None

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


@lru_cache(maxsize=4)
def _tokenizer(file: Path, changed_ns: int) -> Any:
    del changed_ns  # a changed file is read anew
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    try:
        return cast("Any", Tokenizer).from_file(str(file))
    except Exception:  # noqa: BLE001  its Rust code raises bare Exceptions for a file that it cannot read
        return None


def _measured(trainer: Trainer, settings: Settings) -> tuple[str, list[list[str]]]:
    """Return the key of the limit, and the columns whose texts make up each sequence."""
    if trainer == "sft":
        return "data.max_length", [[settings["data.messages_key"]]]
    if trainer == "dpo":
        prompt, chosen, rejected = (settings[f"dpo.{name}_key"] for name in ("prompt", "chosen", "rejected"))
        return "data.max_length", [[prompt, chosen], [prompt, rejected]]
    return "data.max_prompt_length", [[settings["data.prompt_key"]]]
