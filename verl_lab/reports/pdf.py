"""A report's page on paper, printed by the browser that is installed here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING

from verl_lab.errors import EnvironmentMismatchError

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
_PATIENCE_S = 120.0
_SAID_LONGEST = 300
_OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pdf-header-footer",
)


def browser() -> str:
    """Return the browser that prints.

    Raises
    ------
    EnvironmentMismatchError
        There is none.
    """
    found = next((path for name in (*_NAMES, _MAC) if (path := shutil.which(name)) is not None), None)
    if found is None:
        raise EnvironmentMismatchError(
            "A PDF is printed by Chromium or Chrome, and none is installed here.",
            "Install one (on Debian: apt-get install chromium), or print the report's HTML file from any browser.",
        )
    return found


def print_pdf(page: Path, to: Path) -> None:
    """Print an HTML file to a PDF.

    Raises
    ------
    EnvironmentMismatchError
        There is no browser, or it does not print.
    """
    with tempfile.TemporaryDirectory(prefix="verl-lab-", ignore_cleanup_errors=True) as profile:
        # Chromium's own sandbox refuses root; the page runs no script but its own and asks for nothing.
        options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        argv = [browser(), *options, f"--user-data-dir={profile}", f"--print-to-pdf={to}", page.resolve().as_uri()]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            _, said = process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            said = b"it did not end by itself"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    if not to.is_file() or not to.stat().st_size:
        told = said.decode(errors="replace").strip()[-_SAID_LONGEST:]
        raise EnvironmentMismatchError(f"The browser printed no PDF: {told}", "Print the HTML file from any browser.")
