"""Where recipes are written: the user's folder and the project's, one writer at a time, every version kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.domain.recipe import LONGEST_NAME, NAME, Recipe
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError, TransportError, VerlLabError
from verl_lab.inputs import is_below
from verl_lab.recipes.catalog import version_of
from verl_lab.recipes.fields import as_text
from verl_lab.recipes.source import read_text
from verl_lab.recipes.versions import SHOWN, Change, Versions, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.recipes.catalog import Catalog


class Shelf:
    """Writes recipes, and can take back what it wrote.

    Parameters
    ----------
    catalog
        Reads what is written before it is written.
    kept
        Where versions and changes go.
    """

    def __init__(self, catalog: Catalog, kept: Versions) -> None:
        self._catalog = catalog
        self._kept = kept

    def file(self, name: str, folder: Path, within: Path) -> Path:
        """Return the file of a recipe of that name in a folder, whether or not there is one.

        Raises
        ------
        InvalidInputError
            The name is none that a recipe can have, or what it names would lie outside of ``within``.
        """
        if not re.fullmatch(NAME, name) or len(name) > LONGEST_NAME:
            raise InvalidInputError(
                f"name: {name[:100]!r} is no name for a recipe.",
                f"Use letters, digits, '.', '_' and '-', at most {LONGEST_NAME}, beginning with a letter or digit.",
            )
        real = folder.resolve()
        found = [real / f"{name}{suffix}" for suffix in (".yaml", ".yml")]
        file = next((path for path in found if path.exists() or path.is_symlink()), found[0])
        if file.is_symlink() or not is_below(real, within):
            raise InvalidInputError(
                f"{file if file.is_symlink() else folder}: is a link, and recipes are not written through links.",
                "Put the recipe itself into the folder.",
            )
        return file

    def write(
        self,
        action: str,
        file: Path,
        text_of: Callable[[str | None], str],
        *,
        replaces: str | None,
        was: str | None = None,
        parent: str | None = None,
        instead_of: Path | None = None,
    ) -> Recipe:
        """Write a recipe, if its file still holds the version ``replaces``, and return it as read back.

        Parameters
        ----------
        text_of
            Makes the new text from the present one, which is None where there is no file.
        instead_of
            The file that the new one takes the place of, still at version ``parent``.

        Raises
        ------
        InvalidInputError
            The file holds another version; nothing was written.
        FormatError, InvalidInputError
            The new text is no recipe.
        TransportError
            It cannot be written.
        """
        with self._kept.writing():
            now = readable(file)
            self._refuse_changed(file, now, replaces)
            if instead_of is not None:
                self._refuse_changed(instead_of, readable(instead_of), parent)
                self._note(instead_of)
            text = text_of(now)
            recipe = self._checked(text, file)
            if text == now:
                return recipe
            self._note(file)
            self._put(file, text)
            if instead_of is not None:
                instead_of.unlink()
            held = None if now is None else version_of(now)
            before = parent if instead_of is not None else held
            whole = self._kept.keep(as_text(recipe))
            self._kept.record(
                Change(action, file.stem, str(file), before, version_of(text), whole, was=was, parent=parent)
            )
            return recipe

    def remove(self, file: Path, version: str) -> Change:
        """Remove a recipe's file, if it still holds that version; errors as ``write``."""
        with self._kept.writing():
            self._refuse_changed(file, readable(file), version)
            self._note(file)
            file.unlink()
            return self._kept.record(Change("deleted", file.stem, str(file), version, None))

    def revert(self, name: str | None, folders: set[Path]) -> Change:
        """Take back the last change in some folders, of one recipe or of any, and return it.

        Raises
        ------
        NotFoundError
            There is none.
        InvalidInputError
            Something else has changed the file since, or another recipe extends what would go.
        """
        with self._kept.writing():
            known = self._kept.changes()
            done = {change.undoes for change in known}
            last = next(
                (
                    change
                    for change in reversed(known)
                    if change.reversible
                    and change.id not in done
                    and Path(change.file).parent in folders
                    and name in (None, change.name, change.was)
                ),
                None,
            )
            if last is None:
                what = "of a recipe" if name is None else f"of the recipe {name!r}"
                raise NotFoundError(f"There is no change {what} to take back.")
            self._restore(last)
            return last

    def refuse_orphans(self, name: str, file: Path) -> None:
        """Refuse to take a recipe away from those that extend it.

        Raises
        ------
        InvalidInputError
            Some do, and there is no other of that name behind it.
        """
        below = sorted({path.stem for path in self._catalog.extended_by(name) if path.resolve() != file})
        if below and len(self._catalog.files(name)) == 1:
            raise InvalidInputError(
                f"{name!r} is extended by {', '.join(below)}, which cannot be used without it.",
                "Change or delete those first, or fork it.",
            )

    def _restore(self, change: Change) -> None:
        file = Path(change.file)
        self._refuse_changed(file, readable(file), change.after)
        home = file
        if change.action == "renamed":
            home = file.with_stem(change.was or file.stem)
            self._refuse_changed(home, readable(home), None)
        if change.before is None or home != file:
            self.refuse_orphans(file.stem, file)
        recipe = None
        if change.before is not None:
            text = self._kept.text(change.before)
            self._put(home, text)
            recipe = self._whole(text, home)
        if change.before is None or home != file:
            file.unlink()
        self._kept.record(Change("undone", home.stem, str(home), change.after, change.before, recipe, undoes=change.id))

    def _refuse_changed(self, file: Path, now: str | None, expected: str | None) -> None:
        found = None if now is None else version_of(now)
        if found == expected or (found is not None and expected and found.startswith(expected)):
            return
        self._note(file)
        if expected is None:
            raise InvalidInputError(
                f"There is a recipe {file.stem!r} already, version {(found or '')[:SHOWN]}: {file}.",
                "Read it with lab.recipes.get and change that, or give the version that may be replaced.",
            )
        state = "is gone" if found is None else f"is now at version {found[:SHOWN]}"
        raise InvalidInputError(
            f"The recipe {file.stem!r} was changed by something else: it was at version {expected[:SHOWN]} when it was "
            f"read, and {state}. Nothing was written.",
            f"Both are kept: lab.recipes.versions({file.stem!r}). Read it again, and make your change to that.",
        )

    def _note(self, file: Path) -> None:
        """Keep a text that something else wrote, before it is replaced."""
        text = readable(file)
        if text is None or any(change.after == version_of(text) for change in self._kept.of(file.stem)):
            return
        version = self._kept.keep(text)
        self._kept.record(Change("found", file.stem, str(file), None, version, self._whole(text, file)))

    def _whole(self, text: str, file: Path) -> str | None:
        try:
            return self._kept.keep(as_text(self._catalog.load_text(text, file)))
        except VerlLabError:  # a broken one is kept as its text alone
            return None

    def _checked(self, text: str, file: Path) -> Recipe:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise FormatError(f"{file}: character {error.start} is half a character.") from error
        return self._catalog.load_text(text, file)

    def _put(self, file: Path, text: str) -> None:
        self._kept.keep(text)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, text, private=False)
        except OSError as error:
            raise TransportError(f"{file} cannot be written: {error.strerror}.") from error


def readable(file: Path) -> str | None:
    """Return what a file holds, None where there is none; errors as ``read_text``."""
    return read_text(file) if file.exists() else None
