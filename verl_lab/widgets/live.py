"""A widget around a live session: the session's page is a notebook's output, beside it lies a still picture."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anywidget
from IPython.display import DisplayHandle, display  # pyright: ignore[reportUnknownVariableType]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.widgets.session import LiveSession

_VIEW = "application/vnd.jupyter.widget-view+json"
_HERE = Path(__file__).parent


def own_style(name: str) -> str:
    """Return one of the sheets in ``style/``."""
    return (_HERE / "style" / f"{name}.css").read_text("utf-8")


STYLE = "\n".join(map(own_style, ("panel", "panes")))


def front_end(*modules: str) -> str:
    """Return modules of ``front/``, in the order they depend on each other, as the one module a widget may have.

    It goes to the page with every widget: indentation and comments stay here.
    """
    text = "\n".join((_HERE / "front" / f"{name}.js").read_text("utf-8") for name in modules)
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith(("import ", "//", "/**", "*")))


def _shell_named(_said: object, named: str | None) -> str | None:
    return named


class LiveWidget(anywidget.AnyWidget):
    """Shows what its session sends, and keeps a picture of it in the notebook."""

    _session: LiveSession | None = None

    def __init__(self) -> None:
        super().__init__()
        # ipykernel 7.4 hands what a page says to the shell that last spoke to it, where it waits for the running cell;
        # a page names the shell itself, one that is free.
        if hasattr(self.comm, "_reply_subshell_for"):
            setattr(self.comm, "_reply_subshell_for", _shell_named)  # noqa: B010  nothing public says so
        self._settled = False
        self._settling = threading.Lock()
        self._stills: list[DisplayHandle] = []

    def _begin(self, session: LiveSession) -> None:
        """Give pages what ``session`` sends, and it what they say."""
        self._session = session
        self.on_msg(self._heard)  # pyright: ignore[reportUnknownMemberType]

    def _still(self) -> dict[str, Any]:
        """Return the still picture as a MIME bundle."""
        raise NotImplementedError

    def _summary(self) -> str:
        """Return it all as text."""
        raise NotImplementedError

    def _told(self) -> dict[str, Any]:
        """Return what lets a page draw the same without this kernel, as part of a MIME bundle."""
        raise NotImplementedError

    def close(self) -> None:
        """End the thread and the subscription, and remove the widget from every page."""
        self.end()
        super().close()

    def end(self) -> None:
        """End the thread and the subscription; pages keep what they show."""
        if self._session is not None:
            self._session.end()

    def settle(self) -> None:
        """See to it that the still picture of a run that is over is in the notebook.

        It is done by itself when the run ends. Call it where a cell is about to return: a notebook that is executed
        without a browser may be at its end by then, and its kernel with it.
        """
        if self._session is not None:
            self._settle_once(self._session.is_over())

    def _ipython_display_(self) -> None:
        session = self._session
        was_over = session is None or session.is_over()
        bundle, _ = self._repr_mimebundle_()
        display(bundle, raw=True)  # pyright: ignore[reportUnknownArgumentType]
        handle = DisplayHandle()
        handle.display(self._still(), raw=True)  # pyright: ignore[reportUnknownMemberType]
        self._stills.append(handle)
        if session is not None and not was_over:
            # The run may have ended while the picture was drawn: then it is due once more.
            with self._settling:
                self._settled = False
            session.wake()

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        # Where a page knows both, it takes the first.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {_VIEW: view, **self._told(), "text/plain": self._summary()}, {}

    def _settle_once(self, over: bool) -> None:  # noqa: FBT001  as a session calls it
        with self._settling:
            due = over and not self._settled
            self._settled = over
            if due:
                for shown in list(self._stills):
                    shown.update(self._still(), raw=True)  # pyright: ignore[reportUnknownMemberType]

    def _say(self, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        self.send(content, list(buffers))

    def _heard(self, _: object, content: object, __: object) -> None:
        """Take in what a page asks for; may run beside a busy cell, in any thread."""
        if self._session is not None:
            self._session.hear(cast("dict[str, Any]", content) if isinstance(content, dict) else {})


def show(widget: LiveWidget) -> None:
    """Display a widget and, under it, its still picture.

    A page with a kernel shows the live one and hides the picture; a notebook that is opened without
    its kernel shows the picture. The picture is made anew when the run ends.
    """
    widget._ipython_display_()  # pyright: ignore[reportPrivateUsage]
