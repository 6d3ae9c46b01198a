"""What ``%verl_recipes`` and ``%%verl_recipe`` do with the line they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.errors import VerlLabError
from verl_lab.magics.line import MagicError, argument
from verl_lab.magics.tables import RecipeTable, VersionTable
from verl_lab.recipes.entries import without_secrets
from verl_lab.recipes.fields import as_text, changes
from verl_lab.recipes.versions import SHOWN

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from verl_lab.lab.table import Table
    from verl_lab.recipes.book import RecipeBook
    from verl_lab.recipes.entries import Source

_UNDO = "%verl_recipes --undo takes it back."
_MOST = 20

RECIPES = (
    argument("recipe", metavar="RECIPE", nargs="?", help="show this one: where it lies, its version, its text"),
    argument("--full", action="store_true", help="show it with all that it extends merged in"),
    argument("--search", nargs="+", metavar="WORD", help="list those that have every word in their name or text"),
    argument("--versions", action="store_true", help="list the versions that RECIPE had"),
    argument("--version", metavar="VERSION", help="show RECIPE as it was then; the beginning of a version will do"),
    argument("--fork", metavar="NEW", help="copy RECIPE, comments included, to a recipe of yours"),
    argument("--rename", metavar="NEW", help="give RECIPE another name"),
    argument("--delete", action="store_true", help="delete RECIPE; --undo brings it back"),
    argument("--undo", action="store_true", help="take back the last change: of RECIPE, or of any recipe"),
    argument("--export", metavar="PATH", help="write RECIPE to a file that needs no other recipe"),
    argument("--import", metavar="PATH", dest="import_", help="take in a recipe's file; RECIPE is what to call it"),
)
RECIPE = (
    argument("recipe", metavar="NAME", help="what the recipe is called"),
    argument("--project", action="store_true", help="put it into recipes/ beside the notebook; default: your own"),
    argument("--version", metavar="VERSION", help="replace this version, though it is not the one seen here last"),
)


def list_or_change(book: RecipeBook, args: argparse.Namespace, seen: dict[str, str]) -> Table | None:
    """Do the one thing that a line of ``%verl_recipes`` asks for.

    ``seen`` holds, by file, the versions that this session has shown or saved.
    """
    does: dict[str, Callable[[], Table | str]] = {
        "search": lambda: RecipeTable.of(book.search(" ".join(args.search))),
        "undo": lambda: f"Taken back: {book.undo(args.recipe)}.",
        "import_": lambda: _saved(book, book.import_(args.import_, args.recipe).name, "imported"),
        "versions": lambda: VersionTable.of(book.versions(_named(args, "--versions"))),
        "fork": lambda: _saved(book, book.fork(_named(args, "--fork"), args.fork).name, "made"),
        "rename": lambda: _saved(book, book.rename(_named(args, "--rename"), args.rename).name, "renamed"),
        "delete": lambda: f"{book.delete(_named(args, '--delete'))}. {_UNDO}",
        "export": lambda: f"Written: {book.export(_named(args, '--export'), args.export)}",
    }
    asked = [name for name in does if getattr(args, name) not in (None, False)]
    if len(asked) > 1:
        raise MagicError(f"One thing at a time: {' or '.join('--' + name.rstrip('_') for name in asked)}.")
    if not asked and args.recipe is None and not (args.full or args.version):
        return RecipeTable.of(book.list())
    if asked and asked[0] == "search" and args.recipe is not None:
        raise MagicError("--search looks through all recipes: put it first, or leave RECIPE out.")
    told = does[asked[0]]() if asked else _shown(book, args, seen)
    if asked and asked[0] not in ("search", "versions", "export"):
        seen.clear()  # what was changed here may be replaced from here
    if not isinstance(told, str):
        return told
    print(told, end="" if told.endswith("\n") else "\n")
    return None


def save_cell(book: RecipeBook, args: argparse.Namespace, cell: str, seen: dict[str, str]) -> None:
    """Save a cell's YAML as a recipe, and say what that changes.

    What this session has shown or saved may be replaced. If something else has changed it since,
    the cell is refused, and nothing is written.
    """
    name: str = args.recipe
    try:
        before = book.get(name)
    except VerlLabError:  # there is none yet, or this is how a broken one is mended
        before = None
    to = "project" if args.project else None
    file = str(book.file_for(name, to))
    saved = book.save_text(name, cell, to=to, version=args.version or seen.get(file))
    unchanged = before is not None and before.origin == saved.origin
    print(_saved(book, name, "unchanged" if unchanged else "saved"))
    if saved.origin is not None:
        seen[file] = saved.origin.version
    differences = [] if before is None else changes(before, saved)
    print("".join(f"  {line}\n" for line in differences[:_MOST]), end="")
    if len(differences) > _MOST:
        print(f"  and {len(differences) - _MOST} more.")
    if not unchanged:
        print(_UNDO)


def _shown(book: RecipeBook, args: argparse.Namespace, seen: dict[str, str]) -> str:
    name = _named(args, "--full" if args.full else "--version")
    recipe = book.get(name, args.version)
    source = book.source(name, args.version)
    if args.version is None:
        seen[str(source.path)] = source.version
    text = as_text(recipe) if args.full else source.text
    return "".join(
        (
            f"# {_where(source)}\n",
            f"# {recipe.description}\n" if recipe.description else "",
            without_secrets(text),
        )
    )


def _saved(book: RecipeBook, name: str, how: str) -> str:
    return f"{how.capitalize()}: {_where(book.source(name))}"


def _where(source: Source) -> str:
    return f"{source.name}, version {source.version[:SHOWN]}, {source.place}: {source.path}"


def _named(args: argparse.Namespace, option: str) -> str:
    if args.recipe is None:
        raise MagicError(f"{option} is about one recipe: give its name. %verl_recipes lists them.")
    return args.recipe
