"""A real JupyterLab on loopback, and a real Chromium to drive it: for tests, and for benchmarks."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nbformat
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MISSING = "The browser tests need Chromium, which is not installed. On Debian: apt-get install chromium"
_WAIT_MS = 60_000
# Before its session is ready JupyterLab asks which kernel to take, and what it sends before may get lost for good.
_KERNEL_ANSWERS = """async (limit) => {
    const until = performance.now() + limit;
    const later = (ms) => new Promise((done) => setTimeout(done, ms, "late"));
    const within = (promise, ms) => Promise.race([promise, later(ms)]);
    const context = jupyterapp.shell.currentWidget.sessionContext;
    for (; performance.now() < until; await later(50)) {
        if (await within(context.ready, 1000) === "late" || !context.session?.kernel) continue;
        const { kernel } = context.session;
        if (await within(kernel.info, 1000) === "late") continue;
        if (await within(kernel.requestExecute({ code: "", silent: true }).done, 3000) !== "late") return;
    }
    throw new Error(`The kernel does not answer: ${context.kernelDisplayStatus}`);
}"""
# Where a notebook is closed, or its kernel ended, while that kernel starts, JupyterLab's widgets fail a moment later.
_HAS_BEGUN = """const hasBegun = async (widget) => {
    const later = (ms) => new Promise((done) => setTimeout(done, ms));
    const context = widget?.sessionContext;
    if (!context || context.isReady) return;
    await Promise.race([context.ready, later(10_000)]);
    await later(200); };"""
# Takes away what a test left in a kernel; what it imported stays, which is what makes the next test begin quickly.
_EMPTY_KERNEL = """
import sys
if "ipywidgets" in sys.modules: sys.modules["ipywidgets"].Widget.close_all()
get_ipython().extension_manager.unload_extension("verl_lab")
get_ipython().run_line_magic("reset", "-f")
"""
# What JupyterLab itself reports when a kernel ends under a notebook, or a widget's kernel is gone.
_NOT_OURS = ("Canceled future for ", "widget model not found")


@dataclass(frozen=True)
class RunningLab:
    """Where a JupyterLab answers, the folder it serves, and its process."""

    url: str
    token: str
    root: Path
    pid: int


class LabServer:
    """A JupyterLab whose folders all lie in ``base``. Started again, it is found at the same address."""

    def __init__(self, base: Path) -> None:
        self.root = base / "notebooks"
        self.root.mkdir()
        folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
        folders += ("JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR", "VERL_LAB_HOME")
        settings = base / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
        self._env = {**os.environ, **{name: str(base / name.lower()) for name in folders}}
        self._log = base / "lab.log"
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, token: str) -> RunningLab:
        """Start it, and wait until it answers."""
        argv = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={self._port}"]
        argv += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={self.root}"]
        argv += ["--allow-root", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
        argv += [
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
        ]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                argv, env=self._env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        url = f"http://127.0.0.1:{self._port}"
        _wait_until_up(self._process, f"{url}/api/status?token={token}", self._log)
        return RunningLab(url, token, self.root, self._process.pid)

    def stop(self) -> None:
        """End it with its kernels."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def running_lab(base: Path) -> Generator[RunningLab]:
    """Run a JupyterLab whose folders all lie in ``base``."""
    server = LabServer(base)
    try:
        yield server.start(secrets.token_hex(16))
    finally:
        server.stop()


@contextlib.contextmanager
def running_chromium() -> Generator[Browser]:
    """Run a headless Chromium; say the command to type where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise RuntimeError(_MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class NotebookPage:
    """One notebook, open in a page of a JupyterLab."""

    page: Page
    lab: RunningLab
    path: str
    outside: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])

    def load(self, *, kernel: bool = True) -> None:
        """Load the page, and wait for the notebook and its kernel."""
        self.page.goto(f"{self.lab.url}/lab/tree/{self.path}?token={self.lab.token}&reset")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=_WAIT_MS)
        self.page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", timeout=_WAIT_MS)
        self.page.evaluate("async () => { await jupyterapp.restored; jupyterapp.shell.collapseLeft(); }")
        if kernel:
            self.page.evaluate(_KERNEL_ANSWERS, _WAIT_MS)

    def take_next(self, *cells: str, path: str | None = None, kernel: str | None = None) -> None:
        """Open another notebook in the loaded page, in place of the one before, for another test."""
        self.outside.clear()
        self.errors.clear()
        self.page.mouse.move(0, 0)
        self.show(path or _write_notebook(self.lab, cells), kernel=kernel)
        if path is None:
            self.page.evaluate(_KERNEL_ANSWERS, _WAIT_MS)

    def show(self, path: str, *, kernel: str | None = None) -> None:
        """Open the notebook that lies at ``path`` in place of the one before, with a running kernel or another."""
        self.path = path
        # The new one first: over an empty page JupyterLab would open its launcher.
        self.page.evaluate(
            f"""async ([path, id]) => {{
                {_HAS_BEGUN}
                const before = [...jupyterapp.shell.widgets("main")];
                const kernel = id === null ? undefined : {{ id, name: "python3" }};
                await jupyterapp.commands.execute("docmanager:open", {{ path, kernel }});
                await Promise.all(before.map(hasBegun));
                before.forEach((widget) => widget.dispose());
            }}""",
            [path, kernel],
        )
        self.page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", timeout=_WAIT_MS)

    def emptied_kernel(self) -> str | None:
        """Take away what was done in the notebook's kernel, and return its id; None if it does not answer."""
        return self.page.evaluate(
            f"""async (code) => {{
                {_HAS_BEGUN}
                const notebook = [...jupyterapp.shell.widgets("main")].find((one) => one.content?.model?.cells);
                await hasBegun(notebook);
                const kernel = notebook?.sessionContext.session?.kernel;
                if (!kernel || kernel.status === "dead") return null;
                const late = new Promise((done) => setTimeout(done, 10_000, null));
                const reply = await Promise.race([kernel.requestExecute({{ code, store_history: false }}).done, late]);
                return reply?.content.status === "ok" ? kernel.id : null; }}""",
            _EMPTY_KERNEL,
        )

    def start_cell(self, index: int) -> None:
        """Run a cell and return at once."""
        self.page.evaluate(
            """(i) => { const nb = jupyterapp.shell.currentWidget.content;
                        nb.deselectAll(); nb.activeCellIndex = i; nb.mode = "command";
                        window.running = jupyterapp.commands.execute("notebook:run-cell"); }""",
            index,
        )

    def run_cell(self, index: int) -> None:
        """Run a cell to its end; fail if it raised."""
        self.start_cell(index)
        self.page.evaluate(
            """async (limit) => {
                const late = new Promise((done) => setTimeout(done, limit, "late"));
                if (await Promise.race([window.running, late]) !== "late") return;
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const asked = document.querySelector(".jp-Dialog")?.innerText ?? "nothing";
                throw new Error(`The cell did not end: kernel ${kernel.status}, JupyterLab asks: ${asked}`); }""",
            2 * _WAIT_MS,
        )
        failed = [output for output in self.outputs(index) if output["output_type"] == "error"]
        assert not failed, failed[0]["evalue"]

    def execute(self, code: str) -> str:
        """Run code in the kernel beside the cells; return what it printed."""
        return self.page.evaluate(
            """async (code) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({ code, store_history: false });
                let out = "";
                future.onIOPub = ({ header, content }) => {
                    if (header.msg_type === "stream") out += content.text;
                    if (header.msg_type === "error") throw new Error(content.ename + ": " + content.evalue);
                };
                await future.done;
                return out; }""",
            code,
        )

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """Return a cell's outputs as the notebook holds them."""
        return self.page.evaluate(
            "(i) => jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.toJSON().outputs", index
        )

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook and read it back from disk."""
        self.page.evaluate("async () => { await jupyterapp.commands.execute('docmanager:save'); }")
        return nbformat.read(self.lab.root / self.path, as_version=4)

    def set_theme(self, name: str) -> None:
        """Change JupyterLab's theme, such as ``JupyterLab Dark``."""
        self.page.evaluate(
            "async (theme) => { await jupyterapp.commands.execute('apputils:change-theme', { theme }); }", name
        )
        light = "false" if "Dark" in name else "true"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
        # JupyterLab fails to take its splash away where the next one is there already.
        self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=_WAIT_MS)

    def shut_down_kernel(self) -> None:
        """End the notebook's kernel."""
        self.page.evaluate(
            f"""async () => {{
                {_HAS_BEGUN}
                const notebook = jupyterapp.shell.currentWidget;
                await hasBegun(notebook);
                await notebook.sessionContext.shutdown(); }}"""
        )


def open_page(
    lab: RunningLab,
    context: BrowserContext,
    *cells: str,
    path: str | None = None,
    before_load: Callable[[Page], None] | None = None,
) -> NotebookPage:
    """Open a notebook of the given cells, or the one that lies at ``path``, in a page of its own."""
    name = path or _write_notebook(lab, cells)
    shown = NotebookPage(context.new_page(), lab, name)
    shown.page.route("**/*", lambda route: _only_here(route, shown.outside))
    shown.page.on("console", lambda message: _note_error(message, shown.errors))
    shown.page.on("pageerror", lambda error: _note(error.stack or str(error), shown.errors))
    if before_load:
        before_load(shown.page)
    shown.load(kernel=path is None)
    return shown


def _write_notebook(lab: RunningLab, cells: Sequence[str]) -> str:
    """Write a notebook of these cells under a name of its own; return the name."""
    name = f"{secrets.token_hex(6)}.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.root / name)
    return name


def _only_here(route: Route, outside: list[str]) -> None:
    url = route.request.url
    if url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        route.continue_()
    else:
        outside.append(url)
        route.abort()


def _note_error(message: ConsoleMessage, errors: list[str]) -> None:
    if message.type == "error":
        _note(message.text, errors, where=f" ({message.location.get('url')})")


def _note(text: str, errors: list[str], *, where: str = "") -> None:
    if not any(known in text for known in _NOT_OURS):
        errors.append(f"{text}{where}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310  always http, see above
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")
