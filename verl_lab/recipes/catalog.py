"""Finding recipes: the built-in ones, the user's, and those next to the notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from verl_lab.domain.recipe import Alerts, Checks, DataFiles, Recipe, Resources, Reward
from verl_lab.errors import InvalidInputError, NotFoundError, nearest
from verl_lab.recipes.overrides import flatten
from verl_lab.recipes.paths import locate, locate_model
from verl_lab.recipes.source import read_mapping

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
# How many levels of a field are merged; checks go down to the parameters of each rule.
_MERGED_LEVELS = {**dict.fromkeys((*_PARTS, "parameters"), 1), "checks": 3}
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
        path = self._find(name)
        if path is None:
            raise NotFoundError.of("recipe", name, self.names(), "'%verl_recipes' lists them all.")
        return self.load_file(path)

    def load_file(self, path: Path) -> Recipe:
        """Return the recipe in one file; it may extend recipes of this catalog. Errors as ``get``."""
        file = Path(path).expanduser().resolve()
        merged = self._merged(file, ())
        merged["name"] = file.stem
        try:
            return Recipe.model_validate(merged)
        except ValidationError as error:
            raise _refusal(file, error) from error

    def _find(self, name: str, besides: Iterable[Path] = ()) -> Path | None:
        for folder in reversed(self._folders):
            for path in _files(folder):
                if path.stem == name and path.resolve() not in besides:
                    return path
        return None

    def _merged(self, file: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
        """Read one file and lay it over what it extends.

        A recipe may extend one of its own name: that is the one it hides.
        """
        own = _absolute(_shaped(read_mapping(file), file), file.parent)
        name = own.pop("name", file.stem)
        if name != file.stem:
            raise InvalidInputError(
                f"{file}: name: is {name!r}, but the file is called {file.stem!r}.",
                "Make the two agree, or leave it out.",
            )
        parent = own.get("extends")
        if parent is None:
            return own
        if not isinstance(parent, str):
            raise InvalidInputError(f"{file}: extends: {parent!r} is no name of a recipe.")
        path = self._find(parent, (*seen, file))
        if path is None:
            if self._find(parent) is not None:
                raise InvalidInputError(
                    f"{file}: extends: {parent!r} extends this recipe in turn.", "Break the circle."
                )
            raise NotFoundError.of("recipe", parent, self.names(), f"{file} extends it.")
        return _lay_over(self._merged(path.resolve(), (*seen, file)), own)


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


def _lay_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge two raw recipes: parts and parameters by their fields, all else as a whole."""
    merged = below | above
    for part, levels in _MERGED_LEVELS.items():
        if part in below and part in above:
            merged[part] = _merge_levels(below[part], above[part], levels)
    return merged


def _merge_levels(lower: object, upper: object, levels: int) -> Any:
    if levels == 0 or not isinstance(lower, dict) or not isinstance(upper, dict):
        return upper
    below, above = cast("dict[str, Any]", lower), cast("dict[str, Any]", upper)
    both = {name: _merge_levels(below[name], above[name], levels - 1) for name in below.keys() & above.keys()}
    return below | above | both


def _absolute(raw: dict[str, Any], base: Path) -> dict[str, Any]:
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


def _refusal(file: Path, error: ValidationError) -> InvalidInputError:
    lines: list[str] = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            *above, last = field.split(".")
            part = _PARTS.get(above[0], Recipe) if above else Recipe
            near = nearest(last, part.model_fields)
            guess = f" The nearest: {', '.join(near)}." if near else ""
            lines.append(f"{field}: a recipe has no such field.{guess}")
        elif item["type"] == "missing":
            lines.append(f"{field}: is missing.")
        else:
            # The address of a webhook may hold a token, also where it is not well written.
            found = "" if field == "alerts.webhook" else f" (found {str(item['input'])[:60]!r})"
            lines.append(f"{field}: {item['msg'][:200]}{found}.")
    return InvalidInputError(f"{file}: " + " ".join(lines), f"A recipe's fields: {', '.join(Recipe.model_fields)}.")
