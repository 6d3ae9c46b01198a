"""verl-lab: LLM post-training with verl in a Jupyter notebook.

``Lab`` is the one object; ``%load_ext verl_lab`` gives the magics. Importing this package loads
neither: both come when they are asked for, so that verl's own processes and a laptop stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from verl_lab.lab import Lab, Run

__version__ = "0.1.0"
__all__ = ["Lab", "Run", "__version__", "load_ipython_extension", "unload_ipython_extension"]


def __getattr__(name: str) -> Any:
    if name in ("Lab", "Run"):
        from verl_lab import lab

        return getattr(lab, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give ``shell`` the ``%verl_…`` magics (``%load_ext verl_lab``)."""
    from verl_lab import magics

    magics.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics back and end what they started in this process."""
    from verl_lab import magics

    magics.unload(shell)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:  # pyright: ignore[reportUnusedFunction]  Jupyter's
    """Tell jupyter_server what to load."""
    from verl_lab.server.extension import VerlLabServer

    return [{"module": "verl_lab.server.extension", "app": VerlLabServer}]
