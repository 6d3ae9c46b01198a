"""Files of a run that are read when asked for: log, samples, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from verl_lab.errors import FormatError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from verl_lab.domain.wire import AttemptLayout, RunLayout
    from verl_lab.transport.base import Host

_BLOCK = 1 << 16
_SAMPLE_KINDS = ("validation", "rollout")


def last_lines(host: Host, path: str, count: int | None) -> str:
    """Return the last ``count`` lines of a text file, all of them if None; empty if there is no file."""
    stat = host.stat(path)
    if stat is None:
        return ""
    if count is None:
        return host.read(path).decode(errors="replace")
    begin, tail = stat.size, b""
    while begin > 0 and tail.count(b"\n") <= count:
        size = min(_BLOCK, begin)
        begin -= size
        tail = host.read(path, begin, size) + tail
    return b"".join(tail.splitlines(keepends=True)[-count:]).decode(errors="replace")


def attempts(host: Host, layout: RunLayout[Path]) -> list[AttemptLayout[Path]]:
    """Return the attempts that a run folder holds, oldest first."""
    names = host.list_folder(str(layout.attempts))
    return [layout.attempt(n) for n in sorted(int(x) for x in names if x.isdecimal())]


def sample_files(host: Host, attempts: Sequence[AttemptLayout[Path]], kind: str) -> dict[int, Path]:
    """Return verl's files of dumped samples by step; the newest attempt that has a step counts."""
    if kind not in _SAMPLE_KINDS:
        raise InvalidInputError(f"kind: {kind!r} is no kind of sample.", f"It is one of {', '.join(_SAMPLE_KINDS)}.")
    found: dict[int, Path] = {}
    for attempt in attempts:
        folder = attempt.samples / kind
        for name in host.list_folder(str(folder)):
            stem = name.removesuffix(".jsonl")
            if name.endswith(".jsonl") and stem.isdecimal():
                found[int(stem)] = folder / name
    return dict(sorted(found.items()))


def read_samples(
    host: Host, attempts: Sequence[AttemptLayout[Path]], step: int | None, kind: str
) -> list[dict[str, Any]]:
    """Return verl's dumped samples of one step; the newest attempt that has the step counts."""
    found = sample_files(host, attempts, kind)
    if not found:
        raise NotFoundError(f"The run has dumped no {kind} samples.", "They come with the first validation or rollout.")
    wanted = max(found) if step is None else step
    if wanted not in found:
        steps = ", ".join(map(str, found))
        raise NotFoundError(f"There are no {kind} samples of step {wanted}.", f"There are some of steps {steps}.")
    return read_sample_file(host, found[wanted])


def read_sample_file(host: Host, path: Path) -> list[dict[str, Any]]:
    """Return the samples in one of verl's files.

    Raises
    ------
    FormatError
        A line is no JSON object: the file was cut, or is being written.
    """
    lines = [line for line in host.read(str(path)).splitlines() if line.strip()]
    return [_sample(line, f"{path}: line {number}") for number, line in enumerate(lines, start=1)]


def model_path(host: Host, layout: RunLayout[Path], step: int | None) -> str:
    """Return the folder of one checkpoint that transformers can load."""
    prefix = "global_step_"
    names = host.list_folder(str(layout.checkpoints))
    steps = sorted(int(n.removeprefix(prefix)) for n in names if n.removeprefix(prefix).isdecimal())
    if not steps:
        raise NotFoundError("The run has saved no checkpoint.", "Set trainer.save_freq, or stop it: it saves then.")
    wanted = steps[-1] if step is None else step
    if wanted not in steps:
        have = ", ".join(str(s) for s in steps)
        raise NotFoundError(f"There is no checkpoint of step {wanted}.", f"There are some of steps {have}.")
    checkpoint = layout.checkpoints / f"{prefix}{wanted}"
    for folder in (checkpoint / "huggingface", checkpoint / "actor" / "huggingface"):
        if any(name.endswith((".safetensors", ".bin")) for name in host.list_folder(str(folder))):
            return str(folder)
    raise NotFoundError(
        f"The checkpoint of step {wanted} holds no weights in Hugging Face form.",
        "Add hf_model to checkpoint.save_contents, or merge it with verl.model_merger.",
    )


def _sample(line: bytes, where: str) -> dict[str, Any]:
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        # verl dumps with Python's json, which writes bare NaN; that one reads it back.
        import json

        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{where} is no JSON: the file was cut, or is being written.") from error
    if not isinstance(found, dict):
        raise FormatError(f"{where} is no object of names and values.")
    return cast("dict[str, Any]", found)
