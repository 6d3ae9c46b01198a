"""What is begun in the side panel and takes its time: a host that is added and set up, a report that is made."""

from __future__ import annotations

import getpass
import subprocess
from typing import TYPE_CHECKING

import pytest
from driving import wait_for
from playwright.sync_api import expect
from ssh_server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jupyterlab_page import RunningLab
    from playwright.sync_api import Locator
    from run_folder import RunFolder
    from side_panel import Panel


@pytest.fixture
def box(tmp_path: Path, lab: RunningLab) -> Iterator[Server]:
    """Return a host; the package index that its pip would ask answers, if only that it has nothing."""
    server = Server(tmp_path / "sshd", f"SetEnv PIP_INDEX_URL={lab.url}/nothing")
    yield server
    server.stop()


def test_a_host_is_known_by_its_fingerprint_and_a_person_and_set_up_before_their_eyes(
    panel: Panel, box: Server, tmp_path: Path
) -> None:
    panel.show("Hosts")
    panel.root.get_by_role("button", name="Add a host").click()
    form = panel.root.get_by_role("form", name="Add a host")
    form.get_by_text("More").click()
    for label, text in {
        "Name": "box",
        "Address": "127.0.0.1",
        "Port": "99999",
        "User": getpass.getuser(),
        "Private key": str(box.user_key),
        "Folder for runs": str(tmp_path / "far" / "runs"),
    }.items():
        form.get_by_label(label, exact=True).fill(text)
    form.get_by_role("button", name="Add").click()
    expect(form.get_by_text("65535")).to_be_visible()
    panel.expect_refusal(400)
    form.get_by_label("Port", exact=True).fill(str(box.port))
    form.get_by_role("button", name="Add").click()
    host = panel.root.get_by_role("article", name="Host box")
    accept_key(host, box)
    set_up_in_vain(host, tmp_path / "far")
    host.get_by_role("button", name="Remove").click()
    panel.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(host).to_have_count(0)


def accept_key(host: Locator, box: Server) -> None:
    """Test it, compare its fingerprint, and accept it."""
    host.get_by_role("button", name="Test").click()
    unknown = host.get_by_role("group", name="Unknown host key")
    keygen = ["ssh-keygen", "-lf", str(box.host_key)]
    fingerprint = subprocess.run(keygen, capture_output=True, text=True, check=True).stdout.split()[1]
    expect(unknown).to_contain_text(fingerprint)
    expect(host.get_by_role("region", name="Test").locator("[data-ok=false]")).not_to_have_count(0)
    unknown.get_by_role("button", name="Accept this key").click()
    expect(unknown).to_have_count(0)
    expect(host.get_by_role("region", name="Test").locator("[data-ok=true]")).not_to_have_count(0)
    expect(host).to_contain_text("reachable")


def set_up_in_vain(host: Locator, root: Path) -> None:
    """Set it up where something else lies in the environment's place: what the host says of that is shown."""
    for role in ("cpu", "training"):
        (root / "environments" / role).mkdir(parents=True)
        (root / "environments" / role / "thesis.txt").write_text("not to be touched")
    host.get_by_role("button", name="Set up").click()
    told = host.get_by_role("region", name="Setting up")
    expect(told.locator(".vl-log")).to_contain_text("is something else than an environment")
    expect(told.locator("p").first).to_contain_text("could not be set up")
    assert (root / "environments" / "cpu" / "thesis.txt").exists()


def test_a_report_is_made_in_a_cell_that_links_to_it(
    panel: Panel, make_run: Callable[..., RunFolder], lab: RunningLab
) -> None:
    run = make_run("to be reported")
    run.status("completed", step=11, total=60)
    panel.show(search=run.name)
    panel.run(run.name).click()
    panel.root.get_by_role("button", name="Report").click()
    wait_for(panel.notebook, lambda: panel.sources()[-1] == f"%verl_report {run.id}")
    cell = panel.page.locator(".jp-Cell").last
    expect(cell).to_contain_text("Report made: 2 files.", timeout=120_000)
    (page,) = (lab.root / "reports").glob("*.html")
    assert run.name in page.read_text()
    expect(cell.get_by_role("link", name="Notebook")).to_be_visible()
    link = cell.get_by_role("link", name="Page").get_attribute("href")
    assert link
    assert run.name in panel.page.request.get(link).text()
