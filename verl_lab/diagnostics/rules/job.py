"""Rules about the run as a job: whether it moves, ended where it should, and leaves evidence behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics.rule import MILES, Parameter, Rule, Standing
from verl_lab.domain.finding import Severity
from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Values

_RECENT = 50  # steps whose median duration is the usual one
_SAMPLES = ("trainer.rollout_data_dir", "trainer.validation_data_dir")


def _last_step(facts: RunFacts) -> int:
    return facts.clock.last_step or 0


def _usual_step_s(facts: RunFacts) -> float | None:
    known = facts.clock.finite
    if known.size <= 1:
        return None
    durations = np.diff(known.values[-_RECENT - 1 :]) / np.diff(known.steps[-_RECENT - 1 :])
    return float(np.median(durations))


def _last_sign(facts: RunFacts) -> float | None:
    known = facts.clock.finite
    signs = [float(known.values[-1])] if known.size else []
    return max([*signs, *([] if facts.last_event is None else [facts.last_event])], default=None)


def _silence(facts: RunFacts, values: Values) -> tuple[Standing, ...]:
    sign = _last_sign(facts)
    if facts.now is None or facts.ended is not None or sign is None:
        return ()
    usual = _usual_step_s(facts)
    limit = max(values["least_minutes"] * 60, values["factor"] * (usual or 0.0))
    age = facts.now - sign
    if age < limit:
        return ()
    known = "" if usual is None else f"; a step usually takes {usual:.3g} s"
    step = _last_step(facts)
    evidence = f"nothing was recorded for {age / 60:.3g} minutes after step {step}, over {limit / 60:.3g}{known}"
    return (Standing(Severity.CRITICAL, "time", step, step, evidence, value=age, threshold=limit),)


def _lacks_silence(facts: RunFacts, _: Values) -> str | None:
    if facts.ended is not None:
        return "the run is over"
    if facts.now is None:
        return "the present time was not given"
    return "the records carry no time" if _last_sign(facts) is None else None


def _stopped_short(facts: RunFacts, _: Values) -> tuple[Standing, ...]:
    ended, total = facts.ended, _planned(facts)
    if ended is None or total is None or ended.exit_code != 0 or ended.state is RunState.STOPPED:
        return ()
    reached = max(_last_step(facts), ended.step or 0)
    if reached >= total:
        return ()
    evidence = f"training ended with exit code 0 at step {reached}, before its last step {total}"
    return (Standing(Severity.CRITICAL, "training/global_step", reached, reached, evidence, reached, total),)


def _planned(facts: RunFacts) -> int | None:
    ended = facts.ended
    return ended.total if ended is not None and ended.total is not None else facts.total_steps


def _lacks_end(facts: RunFacts, _: Values) -> str | None:
    if facts.ended is None:
        return "the run is not over, or nobody recorded its end"
    return "how many steps were planned is not known" if _planned(facts) is None else None


def _missing_evidence(facts: RunFacts, values: Values) -> tuple[Standing, ...]:
    if facts.config is None:
        return ()
    first = int(facts.clock.steps[0]) if facts.clock.size else 0
    every = int(values["every"])
    found: list[Standing] = []
    for key, what in (("trainer.test_freq", "is never validated"), ("trainer.save_freq", "is never saved")):
        frequency = facts.number(key)
        if frequency is not None and frequency <= 0:
            evidence = f"{key} is {frequency:g}: the run {what} on its way"
            found.append(
                Standing(Severity.WARNING, key, first, first, evidence, frequency, 1, settings=(f"{key}={every}",))
            )
    if any(facts.has_setting(key) for key in _SAMPLES) and not any(facts.setting(key) for key in _SAMPLES):
        evidence = f"{_SAMPLES[0]} and {_SAMPLES[1]} are not set: no prompt or response is kept"
        found.append(
            Standing(
                Severity.WARNING,
                _SAMPLES[0],
                first,
                first,
                evidence,
                settings=(f"{_SAMPLES[0]}=@attempt@/samples/rollout", f"{_SAMPLES[1]}=@attempt@/samples/validation"),
            )
        )
    return tuple(found)


def _lacks_config(facts: RunFacts, _: Values) -> str | None:
    return "verl's configuration is not known" if facts.config is None else None


STALL = Rule(
    id="stall",
    title="Stall",
    cause="Training hangs: a worker waits for one that died, or the rollout engine does not answer.",
    suggestion=(
        "Before stopping it, dump the stacks (py-spy dump --pid of the workers, ray stack) and keep the logs; "
        "then stop and resume."
    ),
    source=f"{MILES}; verl#12; verl#7180",
    parameters=(
        Parameter("factor", 6.0, "silence as a multiple of the usual time of a step, from: critical", least=1),
        Parameter("least_minutes", 30.0, "minutes of silence, at least", least=0),
    ),
    standing=_silence,
    standing_lacks=_lacks_silence,
)

EARLY_END = Rule(
    id="early-end",
    title="Silent early end",
    cause="Training ended as if all were well, without having reached its last step.",
    suggestion="Take the run as incomplete: read the end of its log, then resume it (trainer.resume_mode=auto).",
    settings=("trainer.resume_mode=auto",),
    source="verl#7401",
    standing=_stopped_short,
    standing_lacks=_lacks_end,
)

NO_EVIDENCE = Rule(
    id="no-evidence",
    title="No evidence is kept",
    cause="The configuration leaves nothing to judge the run by, or to go back to.",
    suggestion="Set trainer.test_freq, trainer.save_freq and the folders for samples before training.",
    source="verl, trainer configuration (defaults -1 and null)",
    parameters=(Parameter("every", 10, "steps between validations and checkpoints to suggest", least=1),),
    standing=_missing_evidence,
    standing_lacks=_lacks_config,
)

RULES = (STALL, EARLY_END, NO_EVIDENCE)
