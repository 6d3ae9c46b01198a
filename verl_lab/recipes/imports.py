"""The user's own modules that a run imports, found in the text of its files: none of them is run.

Training searches the folder that it was launched from, then ``PYTHONPATH``, then what is installed. What lies in the
first two is the user's own; the rest has to be installed wherever the run trains.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.domain.recipe import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec

    from verl_lab.recipes.plan import Plan

CALLBACKS = "callbacks"
_PACKAGE_PATH = "pkg://"  # verl's way to write a module where a path may stand: verl/utils/import_utils.py
# The same on every machine that a launch accepts, wherever a checkout of them lies here.
_EVERYWHERE = frozenset({"verl_lab", "verl"})
_MOST_BYTES = 4 * 2**20
_CAUGHT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}

_Import = tuple[str, list[str], bool]


@dataclass(frozen=True)
class Module:
    """A module of the user's own.

    Attributes
    ----------
    name
        As it is imported.
    inside
        Its file, below a folder that is searched for modules.
    path
        Its file here.
    """

    name: str
    inside: str
    path: Path
    content: bytes


@dataclass(frozen=True)
class Wanted:
    """An import: of which module, by which file, because of which setting, and whether it can do without."""

    name: str
    importer: str
    key: str
    is_optional: bool = False

    def problem(self, why: str, fix: str) -> Problem:
        """Return why it cannot be had."""
        return Problem(self.key, self.name, f"{self.importer} imports {self.name}, {why}.", fix)


@dataclass(frozen=True)
class UserCode:
    """The modules that a run imports.

    Attributes
    ----------
    modules
        The user's own, by name; of a package, all its Python files.
    others
        The first import of each of the rest, by the name of the module or of the package that it is in.
    problems
        What keeps the user's own from being used anywhere else than here.
    """

    modules: tuple[Module, ...] = ()
    others: Mapping[str, Wanted] = field(default_factory=dict[str, Wanted])
    problems: tuple[Problem, ...] = ()


def user_code(plan: Plan, launched_from: Path) -> UserCode:
    """Return the modules that a run imports, beginning with its callbacks and with the Python files that it names.

    Parameters
    ----------
    launched_from
        The folder in which training would be started here.
    """
    given = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    search = _Search([str(launched_from), *(os.path.abspath(folder) for folder in given)])  # noqa: PTH100  as Python
    for name in plan.recipe.callbacks:
        search.want(Wanted(name.rpartition(".")[0], f"the callback {name}", CALLBACKS))
    for key, value in plan.values.items():
        if not isinstance(value, str):
            continue
        if key.endswith(".external_lib") or value.startswith(_PACKAGE_PATH):
            name = value.removeprefix(_PACKAGE_PATH).replace("/", ".")
            search.want(Wanted(name, key, key))
        elif value.endswith(".py") and Path(value).is_file():
            search.read(Path(value), key)
    return search.found()


class _Search:
    """Follows imports from file to file."""

    def __init__(self, folders: Sequence[str]) -> None:
        importlib.invalidate_caches()  # a file may have been written a moment ago
        self._folders = list(folders)
        self._beside: list[str] = []
        self._seen: dict[str, bool] = {}
        self._modules: dict[str, Module] = {}
        self._others: dict[str, Wanted] = {}
        self._problems: dict[str, Problem] = {}
        self._size = 0

    def found(self) -> UserCode:
        """Return what was found."""
        modules = tuple(self._modules[inside] for inside in sorted(self._modules))
        return UserCode(modules, self._others, tuple(self._problems.values()))

    def want(self, wanted: Wanted) -> None:
        """Find a module, and note it where a part of the user's own has no such module."""
        if not self._find(wanted) and not wanted.is_optional:
            self._problems.setdefault(wanted.name, wanted.problem("which is not there", "Correct the name."))

    def read(
        self, path: Path, key: str, *, module: str = "", is_package: bool = False, is_optional: bool = False
    ) -> None:
        """Follow the imports of one file; of one that is named by its path, ``module`` is empty."""
        if not module:
            self._beside.append(str(path.parent))  # such a file may have its own folder searched
        package = module if is_package else module.rpartition(".")[0]
        try:
            found = list(_imports([ast.parse(path.read_bytes())], package))
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else error.args[0]
            self._problems.setdefault(str(path), Problem(key, str(path), f"{path} cannot be read as Python: {why}."))
            return
        for base, names, is_caught in found:
            self.want(Wanted(base, str(path), key, is_optional or is_caught))
            for name in names:  # a module, or anything else that the base has
                self._find(Wanted(f"{base}.{name}", str(path), key, is_optional=True))

    def _find(self, wanted: Wanted) -> bool:
        """Find a module with the packages that it is in; return whether it is there, as far as can be told."""
        name, *rest = wanted.name.split(".")
        spec = self._spec_of(name)
        if spec is None:
            known = self._others.get(name)
            if known is None or (known.is_optional and not wanted.is_optional):
                self._others[name] = wanted
            return True
        self._take(name, spec, wanted)
        for part in rest:
            name = f"{name}.{part}"
            places = spec.submodule_search_locations
            spec = None if places is None else PathFinder.find_spec(name, list(places))
            if spec is None:
                return False
            self._take(name, spec, wanted)
        return True

    def _spec_of(self, name: str) -> ModuleSpec | None:
        """Return where a module of the user's own lies; None for what has to be installed."""
        if name in _EVERYWHERE or name in sys.builtin_module_names:
            return None
        own = [*self._folders, *self._beside]
        spec = PathFinder.find_spec(name, [*self._folders, *sys.path, *self._beside])
        if spec is None:
            return None
        if spec.origin is None or not spec.has_location:  # a folder without __init__.py
            places = list(spec.submodule_search_locations or ())
            return spec if any(str(Path(place).parent) in own for place in places) else None
        place = Path(spec.origin).parent
        return spec if str(place.parent if spec.submodule_search_locations else place) in own else None

    def _take(self, name: str, spec: ModuleSpec, wanted: Wanted) -> None:
        """Add a module of the user's own, and follow what it imports."""
        if name in self._seen and (wanted.is_optional or not self._seen[name]):
            return
        self._seen[name] = wanted.is_optional
        if spec.origin is None or not spec.has_location:
            return
        path, is_package = Path(spec.origin), spec.submodule_search_locations is not None
        if path.suffix != ".py":
            why = f"which is compiled for this machine ({path}) and is not sent"
            self._problems.setdefault(name, wanted.problem(why, "Install it on the host."))
            return
        self._add(name, path, wanted, is_package=is_package)
        if is_package and "." not in name:
            # Its own code may import any of it in ways that its text does not show.
            for file in sorted(path.parent.rglob("*.py")):
                inside = file.relative_to(path.parent).with_suffix("").parts
                if not any(part.startswith(".") for part in inside):
                    whole = ".".join((name, *inside)).removesuffix(".__init__")
                    self._add(whole, file, wanted, is_package=file.name == "__init__.py")
        self.read(path, wanted.key, module=name, is_package=is_package, is_optional=wanted.is_optional)

    def _add(self, name: str, path: Path, wanted: Wanted, *, is_package: bool) -> None:
        inside = "/".join((*name.split("."), "__init__.py")) if is_package else f"{name.replace('.', '/')}.py"
        if inside in self._modules or self._size > _MOST_BYTES:
            return
        try:
            content = path.read_bytes()
        except OSError as error:
            self._problems.setdefault(name, wanted.problem(f"which cannot be read: {error.strerror}", "Mend that."))
            return
        self._size += len(content)
        if self._size > _MOST_BYTES:
            why = f"and with it more than {_MOST_BYTES >> 20} MiB of code would be sent"
            self._problems[""] = wanted.problem(why, "Install it on the host, or import less of it.")
        self._modules[inside] = Module(name, inside, path, content)


def _imports(nodes: Iterable[ast.AST], package: str, *, is_caught: bool = False) -> Iterator[_Import]:
    """Give each module that is imported, with what of it, and whether a failure is caught."""
    for node in nodes:
        inner: Iterable[ast.AST] = ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], is_caught
        elif isinstance(node, ast.ImportFrom):
            if base := _base(node, package):
                yield base, [alias.name for alias in node.names if alias.name != "*"], is_caught
        elif isinstance(node, ast.Try) and any(_names_caught(handler.type) for handler in node.handlers):
            yield from _imports(node.body, package, is_caught=True)
            inner = (*node.handlers, *node.orelse, *node.finalbody)
        elif isinstance(node, ast.With) and any(_suppresses(item.context_expr) for item in node.items):
            yield from _imports(node.body, package, is_caught=True)
            inner = ()
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            inner = node.orelse
        elif isinstance(node, ast.Call) and (name := _imported_by_call(node)):
            yield name, [], is_caught
        yield from _imports(inner, package, is_caught=is_caught)


def _base(node: ast.ImportFrom, package: str) -> str:
    """Return the module that ``from … import`` names, as an absolute name; empty where there is none."""
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])]) if above else ""


def _names_caught(kind: ast.expr | None) -> bool:
    """Whether an ``except`` catches that a module is missing."""
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(one is None or (isinstance(one, ast.Name) and one.id in _CAUGHT) for one in kinds)


def _suppresses(manager: ast.expr) -> bool:
    return isinstance(manager, ast.Call) and any(_names_caught(one) for one in manager.args)


def _imported_by_call(node: ast.Call) -> str | None:
    """Return the module that ``import_module("…")`` or ``__import__("…")`` names."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = node.args[0] if len(node.args) == 1 else None
    if called not in ("import_module", "__import__") or not isinstance(first, ast.Constant):
        return None
    return first.value if isinstance(first.value, str) and not first.value.startswith(".") else None
