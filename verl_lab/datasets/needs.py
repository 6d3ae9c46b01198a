"""What each trainer needs of a row, and by what a row is told from another.

verl's data sets read these columns (``verl/utils/dataset``: ``multiturn_sft_dataset.py``, ``rl_dataset.py``),
and ``reward_model.ground_truth`` is what its naive reward manager hands to the reward function.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from verl_lab.domain.recipe import Trainer

    Row = Mapping[str, Any]

ROLES = frozenset({"system", "user", "assistant", "tool", "developer"})


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a row."""

    column: str
    why: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Needs:
    """What a trainer needs.

    Attributes
    ----------
    columns
        Names that every row needs.
    faults
        Gives what is wrong with a row that has the columns.
    content
        What makes a row the same as another in training.
    question
        What a held-out row must not share with a row that is trained on.
    """

    columns: tuple[str, ...]
    faults: Callable[[Row], Iterable[Fault]]
    content: Callable[[Row], Any]
    question: Callable[[Row], Any]


def _sft(row: Row) -> Iterable[Fault]:
    faults = list(_conversation("messages", row["messages"]))
    yield from faults
    if not faults and not any(message["role"] == "assistant" for message in _messages(row["messages"])):
        yield Fault("messages", "have no message of the assistant, so nothing to learn")


def _ppo(row: Row) -> Iterable[Fault]:
    if isinstance(row["prompt"], str):
        yield Fault("prompt", "have text, where verl takes a list of messages with role and content")
    else:
        yield from _conversation("prompt", row["prompt"])
    if _is_blank(row["data_source"]):
        yield Fault("data_source", "have none, so that no reward function is found")
    judged = row["reward_model"]
    if not isinstance(judged, dict) or cast("dict[str, Any]", judged).get("ground_truth") is None:
        yield Fault("reward_model", "have no ground_truth to judge an answer by")


def _dpo(row: Row) -> Iterable[Fault]:
    for column in ("prompt", "chosen", "rejected"):
        value = row.get(column)
        if column == "prompt" and value is None and _hold_prompt(row):
            continue
        if isinstance(value, str):
            if not value.strip():
                yield Fault(column, "are empty")
        else:
            yield from _conversation(column, value)
    if row["chosen"] == row["rejected"]:
        yield Fault("rejected", "are the same as chosen, so nothing to prefer", "warning")


def _hold_prompt(row: Row) -> bool:
    """Return whether both answers are whole conversations."""
    answers = [_messages(row["chosen"]), _messages(row["rejected"])]
    return all(answer and answer[0]["role"] != "assistant" for answer in answers)


def _preferred(row: Row) -> Any:
    """Return what is asked of two answers: the prompt, or the turns that they begin with alike."""
    if row.get("prompt") is not None:
        return _said(row["prompt"])
    turns = zip(_messages(row["chosen"])[:-1], _messages(row["rejected"])[:-1], strict=False)
    return _said([one for one, _ in takewhile(lambda pair: _said([pair[0]]) == _said([pair[1]]), turns)])


def _conversation(column: str, value: object) -> Iterable[Fault]:
    """Check a list of messages."""
    if value is None or value == []:
        yield Fault(column, "are empty")
        return
    messages = _messages(value)
    if not messages:
        yield Fault(column, "are no list of messages with role and content")
        return
    if any(message["role"] not in ROLES for message in messages):
        yield Fault(column, "have a message of a role that chat templates do not know", "warning")
    if all(_is_blank(message["content"]) for message in messages):
        yield Fault(column, "have messages without any text")
    elif any(_is_blank(m["content"]) and not m.get("tool_calls") for m in messages):
        yield Fault(column, "have a message without text", "warning")


def _messages(value: object) -> list[dict[str, Any]]:
    """Return the messages of a conversation; none if it is no conversation."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    found = [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
    whole = len(found) == len(items) and all(isinstance(m.get("role"), str) and "content" in m for m in found)
    return found if whole else []


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value == []


def _asked(row: Row) -> Any:
    """Return a conversation up to the first answer."""
    messages = _messages(row["messages"])
    answers = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    return _said(messages[: answers[0]] if answers else messages)


def _said(value: Any) -> Any:
    """Return who says what, so that white space and further fields make no difference."""
    if isinstance(value, str):
        return " ".join(value.split())
    if messages := _messages(value):
        return [(m["role"], _said(m["content"])) for m in messages]
    return value


NEEDS: dict[Trainer, Needs] = {
    "sft": Needs(("messages",), _sft, lambda row: _said(row["messages"]), _asked),
    "dpo": Needs(
        ("chosen", "rejected"),
        _dpo,
        lambda row: [_said(row.get(name)) for name in ("prompt", "chosen", "rejected")],
        _preferred,
    ),
    "ppo": Needs(
        ("prompt", "data_source", "reward_model"),
        _ppo,
        lambda row: [_said(row["prompt"]), row["reward_model"]],
        lambda row: _said(row["prompt"]),
    ),
}
"""By trainer."""

NO_NEEDS = Needs((), lambda _: (), lambda row: row, lambda row: row)
"""Of rows of which nobody said what they are for."""


def guess(columns: Iterable[str]) -> Trainer | None:
    """Return the trainer whose columns these are; None if they are nobody's."""
    names = set(columns)
    order: tuple[Trainer, ...] = ("dpo", "ppo", "sft")
    return next((trainer for trainer in order if names.issuperset(NEEDS[trainer].columns)), None)
