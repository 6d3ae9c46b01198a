"""``import verl_lab`` and ``%load_ext verl_lab`` stay light: a laptop without torch is a full manager."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "verl", "ray", "pandas", "plotly", "paramiko", "transformers", "matplotlib", "sqlalchemy")


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after ``code``."""
    listing = f"{code}\nimport sys; print('\\n'.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_door_loads_nothing_heavy() -> None:
    assert loaded_by("import verl_lab").isdisjoint(HEAVY)


def test_importing_the_door_loads_nothing_but_the_standard_library() -> None:
    added = loaded_by("import verl_lab") - loaded_by("pass")
    assert added - set(sys.stdlib_module_names) == {"verl_lab"}


@pytest.mark.parametrize("code", ["from verl_lab import Lab", "import verl_lab.environments"])
def test_the_services_load_neither_torch_nor_verl(code: str) -> None:
    assert loaded_by(code).isdisjoint({"torch", "verl", "ray", "pandas", "paramiko", "transformers"})


def test_the_magics_load_neither_torch_nor_verl() -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "InteractiveShell.instance().run_line_magic('load_ext', 'verl_lab')"
    )
    assert loaded_by(code).isdisjoint({"torch", "verl", "ray", "pandas", "paramiko", "transformers"})


def test_what_the_door_promises_is_there() -> None:
    import verl_lab

    for name in verl_lab.__all__:
        assert getattr(verl_lab, name) is not None
