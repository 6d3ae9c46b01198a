"""Preference data as they lie in files, and as the texts that a model reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow.parquet as pq
from verl.utils.fs import copy_to_local

from verl_lab.errors import FormatError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from verl_lab.verl_plugin.dpo_settings import DPOSettings

Message = dict[str, Any]


def read_rows(files: str | Sequence[str], most: int) -> list[dict[str, Any]]:
    """Return the first ``most`` rows of parquet or JSON files, all of them if it is below 1.

    JSON holds one object a line, or one list of objects.

    Raises
    ------
    FormatError
        If a file is of another type, or what it holds is no JSON object.
    """
    rows: list[dict[str, Any]] = []
    for name in [files] if isinstance(files, str) else files:
        path = Path(copy_to_local(name))
        rows += cast("Any", pq).read_table(path).to_pylist() if path.suffix == ".parquet" else list(_json_rows(path))
    return rows[:most] if most > 0 else rows


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix not in {".json", ".jsonl"}:
        raise FormatError(f"{path}: preference data are parquet or JSON.", "Convert it, or rename it.")
    with path.open(encoding="utf-8") as lines:
        first = next((line for line in lines if line.strip()), "")
        lines.seek(0)
        if first.lstrip().startswith("["):
            yield from (_object(row, f"{path}, item {n}") for n, row in enumerate(_parsed(lines.read(), str(path)), 1))
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"{path}, line {number}"
                yield _object(_parsed(line, where), where)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"{where}: no JSON ({error}).", "Put one object on each line.") from error


def _object(row: object, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise FormatError(f"{where}: no JSON object.", "Put one object on each line.")
    return cast("dict[str, Any]", row)


@dataclass(frozen=True)
class Texts:
    """One pair as text: the prompt, and it with either answer behind it."""

    prompt: str
    with_chosen: str
    with_rejected: str


class PairTexts:
    """Turns rows into texts.

    Parameters
    ----------
    settings
        Names of the columns, and whether texts are taken as they are.
    tokenizer
        Whose chat template and end-of-sequence token are used.
    template_arguments
        Passed on to the chat template.
    """

    def __init__(self, settings: DPOSettings, tokenizer: Any, template_arguments: Mapping[str, Any]) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._arguments = dict(template_arguments)
        if not settings.plain_text and not tokenizer.chat_template:
            raise InvalidInputError(
                "model: its tokenizer has no chat template.",
                "Set dpo.plain_text=true, or use an instruction-tuned model.",
            )

    def of(self, row: Mapping[str, Any], number: int) -> Texts:
        """Return the texts of a row; ``number`` is for the message if it has none.

        Raises
        ------
        InvalidInputError
            If a column is missing or holds something else than a text or messages.
        """
        names = self._settings
        answers = [_column(row, name, number) for name in (names.chosen_key, names.rejected_key)]
        prompt = row.get(names.prompt_key)
        if names.plain_text:
            return self._plain(prompt, answers, number)
        chosen, rejected = (_messages(answer, "assistant", number) for answer in answers)
        if chosen[0]["role"] != "assistant" and rejected[0]["role"] != "assistant":
            # The answers repeat the prompt, as in TRL's implicit prompts; a column that holds it too adds nothing.
            shared = _shared_turns(chosen, rejected)
            asked, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        elif prompt is None:
            raise InvalidInputError(
                f"Row {number}: the column {names.prompt_key!r} is missing, and the answers hold no prompt either.",
                "Add it, set dpo.prompt_key, or let both answers begin with the user's messages.",
            )
        else:
            asked = _messages(prompt, "user", number)
            chosen, rejected = (_without(asked, answer) for answer in (chosen, rejected))
        return Texts(
            self._render(asked, opens_answer=True), self._render(asked + chosen), self._render(asked + rejected)
        )

    def _plain(self, prompt: object, answers: list[Any], number: int) -> Texts:
        if not isinstance(prompt, str) or not all(isinstance(answer, str) for answer in answers):
            raise InvalidInputError(
                f"Row {number}: dpo.plain_text wants prompt, chosen and rejected as texts.",
                "Set it to false for messages.",
            )
        end = self._tokenizer.eos_token or ""
        chosen, rejected = (prompt + (answer if answer.endswith(end) else answer + end) for answer in answers)
        return Texts(prompt, chosen, rejected)

    def _render(self, messages: list[Message], *, opens_answer: bool = False) -> str:
        return self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=opens_answer, **self._arguments
        )


def _column(row: Mapping[str, Any], name: str, number: int) -> Any:
    if row.get(name) is None:
        raise InvalidInputError(
            f"Row {number}: the column {name!r} is missing or empty.",
            f"It has {', '.join(sorted(row))}; set dpo.chosen_key and dpo.rejected_key.",
        )
    return row[name]


def _messages(value: object, role: str, number: int) -> list[Message]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    messages: list[Message] = []
    for item in cast("list[object]", value) if isinstance(value, list) else []:
        if not (isinstance(item, dict) and "role" in item and "content" in item):
            messages = []
            break
        # Parquet gives every message the fields of all.
        messages.append({key: field for key, field in cast("Message", item).items() if field is not None})
    if not messages:
        raise InvalidInputError(
            f"Row {number}: {str(value)[:80]!r} is neither a text nor a list of messages.",
            "A message has a role and a content.",
        )
    return messages


def _without(asked: list[Message], answer: list[Message]) -> list[Message]:
    """Return an answer without the prompt that it repeats."""
    repeats = len(answer) > len(asked) and answer[: len(asked)] == asked
    return answer[len(asked) :] if repeats else answer


def _shared_turns(chosen: list[Message], rejected: list[Message]) -> int:
    """Return how many messages two conversations begin with alike, leaving each an answer."""
    shared = 0
    most = min(len(chosen), len(rejected)) - 1
    while shared < most and chosen[shared] == rejected[shared]:
        shared += 1
    return shared
