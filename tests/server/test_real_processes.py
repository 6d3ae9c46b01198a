"""Stopping and going on with a run whose processes are real; what trains stands for verl."""

from __future__ import annotations

import sys
from pathlib import Path

from verl_lab.launch.launcher import Launcher, LaunchSpec
from verl_lab.transport.local import LocalHost

TRAINER = Path(__file__).parents[1] / "launch" / "programs" / "trainer.py"


async def test_run_is_stopped_and_goes_on_and_is_ended_at_once(ask, home, eventually) -> None:
    run = "20260101-000000-real-0000"
    launcher = Launcher(LocalHost(), str(home / "runs"))
    argv = (sys.executable, str(TRAINER), "steps=10000", "step_s=0.05")
    launcher.create(LaunchSpec(run, "real", argv, {"VERL_LAB_SAMPLE_S": "0"}, str(home), "a: 1\n", "train", {}))
    launcher.start(run)
    try:

        async def until(state: str) -> None:
            await eventually(lambda: ask("GET", f"runs/{run}"), lambda found: found.body["state"] == state)

        await until("running")
        assert (await ask("POST", f"runs/{run}/resume")).code == 409
        stopped = await ask("POST", f"runs/{run}/stop")
        assert stopped.code == 200
        assert stopped.body["id"] == run
        await until("stopped")
        assert (await ask("POST", f"runs/{run}/stop")).code == 409
        assert (await ask("POST", f"runs/{run}/resume")).code == 200
        await until("running")
        assert (await ask("POST", f"runs/{run}/stop", {"now": True})).code == 200
        await until("stopped")
    finally:
        if launcher.status(run).state.is_live:
            launcher.stop(run, now=True)
