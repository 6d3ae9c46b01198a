"""A recipe's text as it is shown and edited elsewhere: the address of a webhook may hold a token, and stays here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from verl_lab.errors import VerlLabError
from verl_lab.recipes.edit import put
from verl_lab.recipes.entries import without_secrets
from verl_lab.recipes.source import parse_mapping

if TYPE_CHECKING:
    from verl_lab.recipes.book import RecipeBook

_BLOTTED = "**********"
_WEBHOOK = re.compile(r"(\bwebhook[\"']?\s*:\s*)[^\n#}]+")


def shown_text(text: str) -> str:
    """Return a recipe's text with the address of a webhook blotted out, also where the text is no recipe."""
    try:
        return without_secrets(text)
    except VerlLabError:
        return _WEBHOOK.sub(rf"\g<1>'{_BLOTTED}'", text)


def saved_text(recipes: RecipeBook, name: str, text: str) -> str:
    """Return a text to be saved as a recipe: where its webhook is still blotted out, it is the one there was."""
    if _BLOTTED not in text:
        return text
    before = _webhook(recipes.source(name).text)
    if before is None or _webhook(text) != _BLOTTED:
        return text
    return put(text, ("alerts", "webhook"), before)


def _webhook(text: str) -> str | None:
    try:
        alerts = parse_mapping(text, "recipe").get("alerts")
    except VerlLabError:
        return None
    found = cast("dict[str, object]", alerts).get("webhook") if isinstance(alerts, dict) else None
    return found if isinstance(found, str) else None
