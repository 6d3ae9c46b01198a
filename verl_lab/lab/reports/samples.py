"""What a run's model wrote: at its first and last step, best and worst, and group by group."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from verl_lab.errors import VerlLabError
from verl_lab.lab.reports.parts import said, wrapped
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from verl_lab.lab.reports.parts import Part
    from verl_lab.widgets.source import PanelSource, Sample, SampleGroup, SampleSheet

_PROMPTS, _EXTREMES, _RESPONSES = 4, 2, 8
_LONGEST, _SHORT = 900, 400
_KINDS = ("validation", "rollout")


class _Row(NamedTuple):
    what: str
    prompt: str
    sample: Sample


def samples(source: PanelSource) -> list[Part]:
    """Return a run's samples as a report shows them; in a sentence why there are none."""
    sheets: dict[str, SampleSheet] = {}
    reasons: list[str] = []
    for kind in _KINDS:
        try:
            sheets[kind] = source.samples(None, kind)
        except (VerlLabError, ValueError) as error:  # none were dumped; a file that was cut
            reasons.append(error.message if isinstance(error, VerlLabError) else f"The {kind} samples cannot be read.")
    if not sheets:
        return [said(*dict.fromkeys(reasons))]
    last = next(iter(sheets.values()))
    parts = [_course(source, last), _extremes(last)]
    rollout = sheets.get("rollout")
    parts.append(_groups(rollout) if rollout is not None else said("The run has dumped no rollouts, so no groups."))
    return parts


def _course(source: PanelSource, last: SampleSheet) -> Part:
    """Return prompts of the first and the last step, the same ones where there are such."""
    steps = last.steps[last.kind]
    first = last if len(steps) < 2 else source.samples(min(steps), last.kind)  # noqa: PLR2004  first and last
    before = {group.prompt: group for group in first.groups}
    same = [group for group in last.groups if group.prompt in before and first is not last]
    rows: list[_Row] = []
    for group in sorted(same, key=lambda one: _mean(one) == _mean(before[one.prompt]))[:_PROMPTS]:
        rows += [_row(first, before[group.prompt]), _row(last, group)]
    if not rows:
        chosen = [(first, one) for one in first.groups[:_PROMPTS]]
        chosen += [(last, one) for one in last.groups[:_PROMPTS] if first is not last]
        rows = [_row(sheet, group) for sheet, group in chosen]
    about = "the same prompts" if same else "some prompts"
    when = f"step {last.step}" if first is last else f"the first and the last step, {first.step} and {last.step}"
    return _table(f"{last.kind.capitalize()}: {about} at {when}", rows)


def _extremes(sheet: SampleSheet) -> Part:
    scored = [(group.prompt, one) for group in sheet.groups for one in group.samples if one.score is not None]
    if not scored:
        return said(f"The {sheet.kind} samples have no scores, so none is the best.")
    scored.sort(key=lambda pair: pair[1].score or 0.0, reverse=True)
    best = [_Row("best", *pair) for pair in scored[:_EXTREMES]]
    worst = [_Row("worst", *pair) for pair in scored[_EXTREMES:][-_EXTREMES:]]
    return _table(f"Best and worst of step {sheet.step} ({sheet.kind})", [*best, *worst])


def _groups(sheet: SampleSheet) -> Part:
    """Return how the responses to one prompt differ, which is what GRPO learns from."""
    groups = [group for group in sheet.groups if len(group.samples) > 1]
    if not groups:
        return said(f"At step {sheet.step} each prompt has one response: there are no groups to compare.")
    dead = sum(len({one.score for one in group.samples}) == 1 for group in groups)
    chosen = max(groups, key=_spread)
    ordered = sorted(chosen.samples, key=lambda one: -(one.score or 0.0))
    rows = [_Row(f"{k}", chosen.prompt if k == 1 else "", one) for k, one in enumerate(_thinned(ordered), 1)]
    many = f", {len(rows)} of its {len(ordered)} responses" if len(rows) < len(ordered) else ""
    above = (
        f"Groups of rollout step {sheet.step}: in {dead} of {len(groups)} all responses score the same, which teaches "
        f"nothing; here the one whose scores differ most{many}"
    )
    return _table(above, rows)


def _thinned(some: Sequence[Sample]) -> list[Sample]:
    """Return a group's responses, of a large one the best and the worst."""
    half = _RESPONSES // 2
    return [*some] if len(some) <= _RESPONSES else [*some[:half], *some[-half:]]


def _spread(group: SampleGroup) -> float:
    scores = [one.score for one in group.samples if one.score is not None]
    return max(scores) - min(scores) if scores else -1.0


def _mean(group: SampleGroup) -> float | None:
    scores = [one.score for one in group.samples if one.score is not None]
    return sum(scores) / len(scores) if scores else None


def _row(sheet: SampleSheet, group: SampleGroup) -> _Row:
    return _Row(f"step {sheet.step}", group.prompt, group.samples[0])


def _table(above: str, rows: Sequence[_Row]) -> Part:
    has_expected = any(row.sample.expected for row in rows)
    heads = ["", "prompt", "response", "score", *(["expected"] if has_expected else [])]
    head = "".join(f'<th style="text-align:left">{one}</th>' for one in heads)
    body = "".join(f"<tr>{''.join(_cells(row, has_expected=has_expected))}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return {"text/html": f"<h4>{escape(above)}</h4>{table}", "text/plain": "\n".join([above, *_lines(rows)])}


def _cells(row: _Row, *, has_expected: bool) -> Iterator[str]:
    texts = [escape(row.what), wrapped(_shortened(row.prompt, _SHORT)), wrapped(_shortened(row.sample.response))]
    texts.append(escape(number(row.sample.score)))
    if has_expected:
        texts.append(wrapped(_shortened(row.sample.expected or "", _SHORT)))
    for text in texts:
        yield f'<td style="text-align:left;vertical-align:top">{text}</td>'


def _lines(rows: Iterable[_Row]) -> Iterator[str]:
    for row in rows:
        yield f"  {row.what}: {_shortened(row.prompt, _SHORT)!r} → {_shortened(row.sample.response)!r}"
        yield f"    score {number(row.sample.score)}"


def _shortened(text: str, longest: int = _LONGEST) -> str:
    """Return the beginning and the end of a long text, and how much lies between."""
    if len(text) <= longest:
        return text.strip()
    tail = longest // 4
    return f"{text[: longest - tail].lstrip()} … {len(text) - longest:,} characters … {text[-tail:].rstrip()}"
