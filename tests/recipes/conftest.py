"""Where recipes are looked for in these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.recipes.book import RecipeBook
from verl_lab.recipes.catalog import Catalog, builtin_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def catalog() -> Catalog:
    """Return the built-in recipes alone."""
    return Catalog([builtin_folder()])


@pytest.fixture
def book(tmp_path: Path) -> RecipeBook:
    """Return a book whose folders lie below the test's own."""
    return RecipeBook(user=tmp_path / "user", project=tmp_path / "project", versions=tmp_path / "versions")
