"""Finding and reading recipes: the built-in ones, the user's, and those next to the notebook."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from verl_lab.domain.recipe import Alerts, Checks, DataFiles, Expectation, Origin, Recipe, Resources, Reward
from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError, nearest
from verl_lab.inputs import is_below
from verl_lab.recipes.overrides import flatten
from verl_lab.recipes.paths import locate, locate_model
from verl_lab.recipes.source import parse_mapping, place_of, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

_PARTS: Mapping[str, type[BaseModel]] = {
    "data": DataFiles,
    "reward": Reward,
    "resources": Resources,
    "checks": Checks,
    "alerts": Alerts,
}
MERGED_LEVELS: Mapping[str, int] = {**dict.fromkeys((*_PARTS, "parameters", "expected"), 1), "checks": 3}
"""How many levels of a field are merged with what is extended; checks go down to the parameters of each rule."""
_SUFFIXES = (".yaml", ".yml")


def builtin_folder() -> Path:
    """Return where the recipes that come with verl-lab lie: in the wheel, else in the checkout."""
    shipped = Path(__file__).parent / "builtin"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "recipes"


class Catalog:
    """The recipes in some folders.

    Parameters
    ----------
    folders
        Where to look; of two recipes of one name the one in the later folder wins. Folders that do
        not exist are empty.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    @classmethod
    def standard(cls, user_folder: Path, project: Path) -> Catalog:
        """Return the built-in recipes, the user's, and those in ``project``'s folder ``recipes``."""
        return cls((builtin_folder(), user_folder, project / "recipes"))

    def names(self) -> list[str]:
        """Return the names of all recipes, sorted; a recipe that is broken is among them."""
        return sorted({path.stem for folder in self._folders for path in _files(folder)})

    def get(self, name: str) -> Recipe:
        """Return the recipe of that name, with what it extends merged in.

        Raises
        ------
        NotFoundError
            If no folder has it; the nearest names are given.
        FormatError, InvalidInputError
            If its file is broken.
        """
        return self.load_file(self.find(name))

    def find(self, name: str) -> Path:
        """Return the file of the recipe of that name.

        Raises
        ------
        NotFoundError
            If no folder has it; the nearest names are given.
        InvalidInputError
            If it is a link to a file elsewhere.
        """
        path = self._find(name)
        if path is None:
            raise NotFoundError.of("recipe", name, self.names(), "'%verl_recipes' lists them all.")
        return path

    def load_file(self, path: Path) -> Recipe:
        """Return the recipe in one file; it may extend recipes of this catalog. Errors as ``get``."""
        file = Path(path).expanduser().resolve()
        return self.load_text(read_text(file), file)

    def load_text(self, text: str, file: Path) -> Recipe:
        """Return what the recipe in ``file`` is when it holds ``text``. Errors as ``get``."""
        merged = self._merged(file, (), text)
        merged["name"] = file.stem
        try:
            recipe = Recipe.model_validate(merged)
        except ValidationError as error:
            raise _refusal(file, error, text) from error
        return recipe.read_from(Origin(file, version_of(text)))

    def own(self, text: str, file: Path) -> dict[str, Any]:
        """Return what a text says itself: keys of ``parameters`` dotted, paths absolute as seen from ``file``."""
        return absolute(_shaped(parse_mapping(text, str(file)), file), file.parent)

    def inherited(self, parent: str | None, file: Path) -> dict[str, Any]:
        """Return, in the form of ``own``, what the recipe in ``file`` gets by extending ``parent``."""
        return {} if parent is None else self._above(parent, (), file)

    def extended_by(self, name: str) -> list[Path]:
        """Return the files of the recipes that extend ``name``; what cannot be read extends nothing."""
        return [path for folder in self._folders for path in _files(folder) if _extends(path) == name]

    def files(self, name: str) -> list[Path]:
        """Return the files of that name, the one that counts last."""
        return [path for folder in self._folders for path in _files(folder) if path.stem == name]

    def _find(self, name: str, besides: Iterable[Path] = ()) -> Path | None:
        for folder in reversed(self._folders):
            for path in _files(folder):
                if path.stem == name and path.resolve() not in besides:
                    _refuse_leading_out(path, folder)
                    return path
        return None

    def _merged(self, file: Path, seen: tuple[Path, ...], text: str) -> dict[str, Any]:
        """Lay what one file says over what it extends."""
        own = self.own(text, file)
        name = own.pop("name", file.stem)
        if name != file.stem:
            raise InvalidInputError(
                f"{file}{place_of(text, ['name'])}: name: is {name!r}, but the file is called {file.stem!r}.",
                "Make the two agree, or leave it out.",
            )
        parent = own.get("extends")
        if parent is None:
            return own
        if not isinstance(parent, str):
            raise InvalidInputError(f"{file}{place_of(text, ['extends'])}: extends: {parent!r} is no name of a recipe.")
        return lay_over(self._above(parent, seen, file), own)

    def _above(self, parent: str, seen: tuple[Path, ...], file: Path) -> dict[str, Any]:
        """Read what ``file`` extends. A recipe may extend one of its own name: that is the one it hides."""
        path = self._find(parent, (*seen, file))
        if path is None:
            if self._find(parent) is not None:
                raise InvalidInputError(
                    f"{file}: extends: {parent!r} extends this recipe in turn.", "Break the circle."
                )
            raise NotFoundError.of("recipe", parent, self.names(), f"{file} extends it.")
        above = path.resolve()
        return self._merged(above, (*seen, file), read_text(above))


def version_of(text: str) -> str:
    """Return the version of a text: the SHA-256 of its UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _extends(path: Path) -> object:
    try:
        return parse_mapping(read_text(path), path.name).get("extends")
    except VerlLabError:
        return None


def _refuse_leading_out(path: Path, folder: Path) -> None:
    if not is_below(path, folder):
        raise InvalidInputError(
            f"{path}: is a link to a file outside of its folder.", "Put the recipe itself into the folder."
        )


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    except OSError:  # a folder that is not there or not readable holds no recipes
        return []


def _shaped(raw: dict[str, Any], file: Path) -> dict[str, Any]:
    """Flatten ``parameters``; what has the wrong shape elsewhere is left for the model to refuse."""
    parameters = raw.get("parameters")
    if parameters is None:
        return {key: value for key, value in raw.items() if key != "parameters"}
    if not isinstance(parameters, dict):
        raise InvalidInputError(f"{file}: parameters: {parameters!r} is no mapping.", "Write verl's keys and values.")
    try:
        return raw | {"parameters": dict(flatten(cast("dict[str, Any]", parameters)))}
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: parameters: {error.message}", error.hint) from error


def lay_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge two raw recipes: parts and parameters by their fields, all else as a whole."""
    merged = below | above
    for part, levels in MERGED_LEVELS.items():
        if part in below and part in above:
            merged[part] = _merge_levels(below[part], above[part], levels)
    return merged


def _merge_levels(lower: object, upper: object, levels: int) -> Any:
    if levels == 0 or not isinstance(lower, dict) or not isinstance(upper, dict):
        return upper
    below, above = cast("dict[str, Any]", lower), cast("dict[str, Any]", upper)
    both = {name: _merge_levels(below[name], above[name], levels - 1) for name in below.keys() & above.keys()}
    return below | above | both


def absolute(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make the paths of a recipe independent of where it is used from."""
    found = dict(raw)
    if "model" in raw:
        found["model"] = locate_model(raw["model"], base)
    for part, fields in (("data", ("train", "val")), ("reward", ("path",))):
        inner = raw.get(part)
        if isinstance(inner, dict):
            values = cast("dict[str, Any]", inner)
            found[part] = values | {field: locate(values[field], base) for field in fields if field in values}
    return found


def _refusal(file: Path, error: ValidationError, text: str) -> InvalidInputError:
    lines: list[str] = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        # Empty for what it does not say itself: then the mistake is in what it extends.
        place = place_of(text, item["loc"]).removeprefix(", ")
        at = f"{place}: {field}" if place else field
        if item["type"] == "extra_forbidden":
            *above, last = [str(part) for part in item["loc"]]
            part = Expectation if above[:1] == ["expected"] else _PARTS.get(above[0], Recipe) if above else Recipe
            near = nearest(last, part.model_fields)
            guess = f" The nearest: {', '.join(near)}." if near else ""
            lines.append(f"{at}: a recipe has no such field.{guess}")
        elif item["type"] == "missing":
            lines.append(f"{field}: is missing.")
        else:
            # The address of a webhook may hold a token, also where it is not well written.
            found = "" if field == "alerts.webhook" else f" (found {str(item['input'])[:60]!r})"
            lines.append(f"{at}: {item['msg'][:200]}{found}.")
    return InvalidInputError(f"{file}: " + " ".join(lines), f"A recipe's fields: {', '.join(Recipe.model_fields)}.")
