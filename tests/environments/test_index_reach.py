"""Whether a host reaches the package index that its pip is configured to use."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.environments.asking import FAR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Refusing(http.server.BaseHTTPRequestHandler):
    """An index that answers, if only that there is no such thing."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
        """Say nothing."""


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """Return the address of an index."""
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def asked(home: Path, **variables: str) -> dict[str, Any]:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(home / "none"), **variables}
    command = [sys.executable, "-I", FAR / "reach.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_an_index_that_answers_anything_is_reached(index: str, tmp_path: Path) -> None:
    assert asked(tmp_path, PIP_INDEX_URL=index) == {"why_not": None, "index": index}


def test_the_file_of_pips_settings_counts_and_the_environment_wins(index: str, tmp_path: Path) -> None:
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    settings = tmp_path / ".config" / "pip" / "pip.conf"
    settings.write_text("[global]\nindex-url = http://me:secret@127.0.0.1:1/simple\n")
    found = asked(tmp_path)
    assert "refused" in found["why_not"]
    assert "secret" not in str(found), "a password in the address is not shown"
    assert asked(tmp_path, PIP_INDEX_URL=index)["why_not"] is None
    settings.write_text("[install]\nno-index = true\nfind-links = /srv/wheels\n")
    assert asked(tmp_path)["why_not"] is None, "the host has its packages somewhere else"


def test_a_proxy_is_asked_where_one_is_set(index: str, tmp_path: Path) -> None:
    proxy = index.removesuffix("/simple")
    assert asked(tmp_path, PIP_INDEX_URL="http://nowhere.invalid/simple", PIP_PROXY=proxy)["why_not"] is None
    assert asked(tmp_path, PIP_INDEX_URL="http://nowhere.invalid/simple", http_proxy=proxy)["why_not"] is None
    assert asked(tmp_path, PIP_INDEX_URL="http://nowhere.invalid/simple")["why_not"]
