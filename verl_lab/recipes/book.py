"""``lab.recipes``: the recipes there are, and everything that can be done to them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.domain.recipe import Origin
from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError
from verl_lab.recipes.catalog import Catalog, builtin_folder, version_of
from verl_lab.recipes.entries import Entry, Kept, Source, Version, said
from verl_lab.recipes.fields import as_text, as_written
from verl_lab.recipes.shelf import Shelf, readable
from verl_lab.recipes.source import read_text
from verl_lab.recipes.versions import Change, Versions, match, replace_file

if TYPE_CHECKING:
    from verl_lab.domain.recipe import Recipe

BUILTIN, USER, PROJECT = "built-in", "user", "project"


class RecipeBook:
    """The recipes of three places; of two of one name, the project's comes first, then the user's.

    Parameters
    ----------
    user
        The user's own recipes.
    project
        The folder of the notebook; its recipes are in ``recipes/`` there.
    versions
        Where every version of every recipe is kept.
    """

    def __init__(self, *, user: Path, project: Path, versions: Path) -> None:
        self._folders = {BUILTIN: builtin_folder(), USER: user, PROJECT: project / "recipes"}
        self._catalog = Catalog(tuple(self._folders.values()))
        self._kept = Versions(versions)
        self._shelf = Shelf(self._catalog, self._kept)

    def __repr__(self) -> str:
        return f"RecipeBook({', '.join(self.names())})"

    def names(self) -> list[str]:
        """Return the names of all recipes, sorted; those of broken ones are among them."""
        return self._catalog.names()

    def list(self) -> list[Entry]:
        """Return all recipes, by name; one that is broken says why and leaves the others usable."""
        return [self._entry(name) for name in self.names()]

    def search(self, text: str) -> list[Entry]:
        """Return the recipes that have every word of ``text`` in their name, description, notes or settings."""
        words = text.lower().split()
        return [entry for entry in self.list() if all(word in said(entry) for word in words)]

    def get(self, name: str, version: str | None = None) -> Recipe:
        """Return a recipe with what it extends merged in.

        Parameters
        ----------
        version
            One of ``versions(name)``, or a beginning of it: as the recipe was then.

        Raises
        ------
        NotFoundError
            There is no such recipe or version; the nearest names are given.
        FormatError, InvalidInputError
            It is broken; the message has line and column.
        """
        if version is None:
            return self._catalog.get(name)
        change = self._version(name, version)
        found = self._as_it_was(change).model_copy(update={"name": name})
        with contextlib.suppress(NotFoundError):
            # Saving it puts the old values into the file as it is now.
            here = self.source(name)
            return found.read_from(Origin(here.path, here.version))
        return found

    def load_file(self, path: Path) -> Recipe:
        """Return the recipe in a file anywhere; errors as ``get``."""
        return self._catalog.load_file(path)

    def source(self, name: str, version: str | None = None) -> Source:
        """Return the text of a recipe as it is, or was, and where it lies; errors as ``get``."""
        if version is not None:
            change = self._version(name, version)
            path = Path(change.file)
            return Source(name, self._place(path), path, self._kept.text(change.after or ""), change.after or "")
        path = self._catalog.find(name).resolve()
        text = read_text(path)
        return Source(name, self._place(path), path, text, version_of(text))

    def versions(self, name: str) -> list[Version]:
        """Return the versions a recipe had, newest first; those of a deleted one too.

        Raises
        ------
        NotFoundError
            There is no such recipe and never was.
        """
        found: dict[str, Version] = {}
        for change in self._kept.of(name):
            if change.after is not None:
                version = Version(change.after, change.time, change.action, change.name, change.parent or change.before)
                found.setdefault(change.after, version)
        if name in self.names():
            with contextlib.suppress(VerlLabError):
                here = self.source(name)
                made = Version(here.version, here.path.stat().st_mtime, "found", name, None)
                return [found.pop(here.version, made), *found.values()]
        if not found:
            raise NotFoundError.of("recipe", name, self.names(), "'%verl_recipes' lists them all.")
        return list(found.values())

    def save(self, recipe: Recipe, *, to: str | None = None, version: str | None = None) -> Recipe:
        """Write a recipe, changing only what differs in its file: comments and order stay.

        Parameters
        ----------
        to
            ``user`` or ``project``; by default where a recipe of that name is, else ``user``. A
            built-in one is never changed: its text is copied to the user's, which comes before it.
        version
            The version that may be replaced; by default the one that ``recipe`` was read at.

        Returns
        -------
        Recipe
            As it can be read now. Go on from this one: the old one was read before the change.

        Raises
        ------
        InvalidInputError
            Something else has changed the recipe since it was read, and nothing was written; or it
            leaves out what it inherits.
        """
        origin = recipe.origin
        file = self.file_for(recipe.name, to)

        def text_of(now: str | None) -> str:
            # Where it goes to a new file, it takes the comments of where it came from along.
            basis = readable(origin.file) if now is None and origin is not None else now
            return as_written(recipe, basis or "", file, self._catalog)

        replaces = version or (origin.version if origin is not None and origin.file == file else None)
        return self._shelf.write("saved", file, text_of, replaces=replaces)

    def save_text(self, name: str, text: str, *, to: str | None = None, version: str | None = None) -> Recipe:
        """Write a recipe as this YAML, once it is found to be one.

        Parameters
        ----------
        to
            As for ``save``.
        version
            The version that may be replaced; by default any. What is replaced is kept.

        Raises
        ------
        FormatError, InvalidInputError
            It is no recipe (the message has line and column), or was changed by something else.
        """
        file = self.file_for(name, to)
        now = readable(file)
        replaces = version or (None if now is None else version_of(now))
        return self._shelf.write("saved", file, lambda _: text, replaces=replaces)

    def fork(self, name: str, new: str, *, to: str | None = None) -> Recipe:
        """Copy a recipe, comments included, under a new name; errors as ``save``."""
        source = self.source(name)
        recipe = self.get(name).model_copy(update={"name": new})
        file = self.file_for(new, to or (USER if source.place == BUILTIN else source.place), new=True)
        text = as_written(recipe, source.text, file, self._catalog)
        return self._shelf.write("forked", file, lambda _: text, replaces=None, was=name, parent=source.version)

    def rename(self, old: str, new: str) -> Recipe:
        """Give a recipe another name; its versions go with it. Errors as ``save``."""
        source = self._own(old)
        self._shelf.refuse_orphans(old, source.path)
        file = self.file_for(new, source.place, new=True)
        recipe = self.get(old).model_copy(update={"name": new})
        text = as_written(recipe, source.text, file, self._catalog)
        return self._shelf.write(
            "renamed", file, lambda _: text, replaces=None, was=old, parent=source.version, instead_of=source.path
        )

    def delete(self, name: str) -> Change:
        """Remove a recipe; ``undo()`` brings it back, and its versions can still be read.

        Raises
        ------
        NotFoundError
            There is no such recipe.
        InvalidInputError
            It is built in, or another one extends it.
        """
        source = self._own(name)
        self._shelf.refuse_orphans(name, source.path)
        return self._shelf.remove(source.path, source.version)

    def undo(self, name: str | None = None) -> Change:
        """Take back the last change that was made here: of any recipe, or of ``name``.

        Again, and it takes back the one before. Changes of other notebooks to the same folders count.

        Returns
        -------
        Change
            What was taken back.

        Raises
        ------
        NotFoundError
            There is nothing to take back.
        InvalidInputError
            Something else has changed the file since.
        """
        return self._shelf.revert(name, {self._folders[place].resolve() for place in (USER, PROJECT)})

    def export(self, name: str, path: Path | str) -> Path:
        """Write a recipe as one file for use elsewhere: it holds what it extends, and no address of a webhook.

        Paths in it are absolute. Nothing is overwritten.

        Raises
        ------
        InvalidInputError
            There is such a file already, or no such folder.
        """
        file = Path(path).expanduser().absolute()
        if file.is_dir():
            file /= f"{name}.yaml"
        recipe = self.get(name)
        alerts = recipe.alerts.model_copy(update={"webhook": None})
        whole = recipe.model_copy(update={"extends": None, "alerts": alerts, "name": file.stem})
        if file.exists() or not file.parent.is_dir():
            why = "exists already" if file.exists() else "its folder does not exist"
            raise InvalidInputError(f"path: {file}: {why}.", "Give another path.")
        replace_file(file, as_written(whole, self.source(name).text, file, self._catalog), private=False)
        return file

    def import_(self, path: Path | str, name: str | None = None, *, to: str | None = None) -> Recipe:
        """Take in a recipe's file from elsewhere; relative paths in it stay those of where it lay.

        Parameters
        ----------
        name
            What to call it; by default as its file is called.

        Raises
        ------
        NotFoundError, FormatError, InvalidInputError
            There is no such file, it is no recipe, or the name is taken.
        """
        file = Path(path).expanduser().resolve()
        text = read_text(file)
        recipe = self._catalog.load_text(text, file)
        recipe = recipe.model_copy(update={"name": name or file.stem})
        target = self.file_for(recipe.name, to or USER, new=True)
        new = as_written(recipe, text, target, self._catalog)
        return self._shelf.write("imported", target, lambda _: new, replaces=None, was=str(file))

    def keep(self, recipe: Recipe) -> Kept:
        """Keep a recipe as it is launched, and return the versions that a run records."""
        whole = as_text(recipe)
        origin = recipe.origin
        text, file = whole, self._folders[USER] / f"{recipe.name}.yaml"
        if origin is not None:
            with contextlib.suppress(VerlLabError):  # it is gone or broken by now: then the whole speaks for itself
                there = read_text(origin.file)
                if version_of(there) == origin.version and self._catalog.load_text(there, origin.file) == recipe:
                    text, file = there, origin.file
        with self._kept.writing():
            kept = Kept(self._kept.keep(whole), self._kept.keep(text))
            known = any((c.after, c.recipe) == (kept.source, kept.recipe) for c in self._kept.of(recipe.name))
            if not known:
                change = Change("launched", recipe.name, str(file), kept.source, kept.source, kept.recipe)
                self._kept.record(change)
        return kept

    def _entry(self, name: str) -> Entry:
        path = self._catalog.files(name)[-1]
        try:
            return Entry(name, self._place(path), path, self.get(name), None)
        except VerlLabError as error:
            return Entry(name, self._place(path), path, None, error.message)

    def _place(self, path: Path) -> str:
        folder = path.parent.resolve()
        return next((place for place, one in self._folders.items() if one.resolve() == folder), "elsewhere")

    def _version(self, name: str, version: str) -> Change:
        """Return the change that made a version, or that recorded a whole recipe of that version."""
        known = self._kept.of(name)
        found = match(version, [one for change in known for one in (change.after, change.recipe) if one], name)
        return next(change for change in known if found in (change.after, change.recipe))

    def _own(self, name: str) -> Source:
        """Return a recipe that may be changed."""
        source = self.source(name)
        if source.place == BUILTIN:
            raise InvalidInputError(
                f"The recipe {name!r} is built in, and stays as it is.",
                f"Change a copy: fork({name!r}, 'another-name').",
            )
        self.file_for(name, source.place)
        return source

    def _as_it_was(self, change: Change) -> Recipe:
        file, text = Path(change.file), self._kept.text(change.after or "")
        if change.recipe is None:
            return self._catalog.load_text(text, file)
        whole = self._catalog.load_text(self._kept.text(change.recipe), file)
        with contextlib.suppress(VerlLabError):
            # Where what it extends is still as it was then, it is what its own text says.
            found = self._catalog.load_text(text, file)
            if found.model_copy(update={"extends": None}) == whole:
                return found
        return whole

    def file_for(self, name: str, to: str | None = None, *, new: bool = False) -> Path:
        """Return the file that a recipe is written to, whether or not there is one; errors as ``save``."""
        places = {USER: self._folders[USER], PROJECT: self._folders[PROJECT].parent}
        if to is not None and to not in places:
            raise InvalidInputError(f"to: {to!r} is no place for a recipe.", f"It is one of {', '.join(places)}.")
        if new and name in self.names():
            raise InvalidInputError(f"There is a recipe {name!r} already.", "Choose another name.")
        there = [self._place(path) for path in self._catalog.files(name)]
        place = to or (PROJECT if PROJECT in there else USER)
        return self._shelf.file(name, self._folders[place], places[place])
