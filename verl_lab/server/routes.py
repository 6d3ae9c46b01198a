"""Every route of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.server import data, hosts, recipes, runs, system
from verl_lab.server.openapi import document
from verl_lab.server.routing import Route

if TYPE_CHECKING:
    from verl_lab.lab import Lab


def _openapi(lab: Lab) -> dict[str, Any]:
    del lab
    return document(ROUTES)


ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *runs.ROUTES,
    *recipes.ROUTES,
    *hosts.ROUTES,
    *data.ROUTES,
    Route("GET", "openapi.json", _openapi, "Describe this interface."),
)
"""In the order of the API's document."""
