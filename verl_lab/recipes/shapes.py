"""Whether rows have the shape that a trainer reads: conversations, rewards, preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from verl_lab.domain.recipe import Trainer
    from verl_lab.recipes.composed import Settings

Fault = tuple[str, str] | None
"""The column, and what is wrong in it."""


def needed_columns(trainer: Trainer, settings: Settings) -> list[str]:
    """Return the columns that the trainer's data set reads (``verl/utils/dataset``); none of the user's own."""
    if settings["data.custom_cls.path"]:
        return []
    if trainer == "sft":
        return [settings["data.messages_key"]]
    if trainer == "dpo":
        return [settings[f"dpo.{name}_key"] for name in ("chosen", "rejected")]
    columns = [settings["data.prompt_key"], settings["data.reward_fn_key"]]
    return [*columns, "reward_model"] if _is_rule_based(settings) else columns


def read_suffixes(trainer: Trainer, settings: Settings) -> list[str]:
    """Return the types of file that the trainer's data set reads."""
    is_plain_sft = trainer == "sft" and not settings["data.custom_cls.path"]
    return [".parquet"] if is_plain_sft else [".parquet", ".json", ".jsonl"]


def fault_finder(trainer: Trainer, settings: Settings) -> Callable[[Mapping[str, Any]], Fault]:
    """Return what finds the first fault of a row; of a user's own data set it finds none."""
    if settings["data.custom_cls.path"]:
        return lambda _: None
    if trainer == "sft":
        key = settings["data.messages_key"]
        return lambda row: _conversation(key, row.get(key), answered=True)
    if trainer == "dpo":
        prompt, chosen, rejected = (settings[f"dpo.{name}_key"] for name in ("prompt", "chosen", "rejected"))
        return lambda row: _preference(row, prompt, chosen, rejected)
    prompt, rule_based = settings["data.prompt_key"], _is_rule_based(settings)
    return lambda row: _conversation(prompt, row.get(prompt)) or (_ground_truth(row) if rule_based else None)


def texts_of(value: object) -> list[str]:
    """Return the texts in a column: itself, or what the messages of a conversation say."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    contents = [m.get("content") for m in _messages(cast("list[Any]", value))]
    return [content for content in contents if isinstance(content, str)]


def _is_rule_based(settings: Settings) -> bool:
    """Whether rewards come from a function that is given each row's ground truth."""
    return settings["reward.reward_manager.name"] in ("naive", "dapo", "gdpo")


def _messages(items: Iterable[Any]) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _conversation(key: str, value: object, *, answered: bool = False) -> Fault:
    if not isinstance(value, list):
        what = "nothing" if value is None else "text" if isinstance(value, str) else f"a {type(value).__name__}"
        return key, f"is {what}, where a list of messages is read"
    items = cast("list[Any]", value)
    messages = _messages(items)
    if not items or len(messages) < len(items):
        return key, "has no messages" if not items else "holds something other than messages"
    for field in ("role", "content"):
        if any(message.get(field) is None for message in messages):
            return key, f"has a message without {field!r}"
    if answered and not any(message["role"] == "assistant" for message in messages):
        return key, "has no message by the assistant, so there is nothing to learn"
    return None


def _ground_truth(row: Mapping[str, Any]) -> Fault:
    reward = row.get("reward_model")
    if not isinstance(reward, dict):
        return "reward_model", "is no mapping with a ground_truth"
    if "ground_truth" not in reward:
        return "reward_model", "has no ground_truth"
    return None


def _begins_with_answer(value: object) -> bool:
    messages = _messages(cast("list[Any]", value)) if isinstance(value, list) else []
    return not messages or messages[0].get("role") == "assistant"


def _preference(row: Mapping[str, Any], prompt: str, chosen: str, rejected: str) -> Fault:
    # Answers that are whole conversations hold the prompt themselves.
    has_prompt = any(_begins_with_answer(row.get(key)) for key in (chosen, rejected))
    for key in (prompt, chosen, rejected) if has_prompt else (chosen, rejected):
        value = row.get(key)
        if not isinstance(value, str) and (fault := _conversation(key, value)):
            return fault
        if not any(text.strip() for text in texts_of(value)):
            return key, "is empty"
    return (rejected, f"is the same as {chosen}") if row[chosen] == row[rejected] else None
