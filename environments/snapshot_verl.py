"""Take a snapshot of verl's configuration (``make snapshot``): its YAML files, and what its source says of them.

verl-lab composes and checks a configuration from the snapshot alone, so that it can do so on a
machine without verl or torch. verl is read, never imported. A snapshot is a folder:

``config/``
    ``verl/trainer/config`` as it is, without the files that verl generates from the others.
``declarations.json``
    ``classes``: the fields of verl's configuration dataclasses, each with the kinds of value it takes,
    its choices, or the class it holds. ``choices``: by key, the names that verl's code knows.
``LICENSE``
    verl's.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET = Path(__file__).parents[1] / "verl_lab" / "recipes" / "snapshots"
GENERATED = "_generated_"

CLASS_FOLDERS = ("workers/config", "trainer/config", "utils/profiler")
CONTAINERS = {"list": "list", "List": "list", "tuple": "list", "Tuple": "list", "dict": "dict", "Dict": "dict"}
SCALARS = frozenset({"bool", "int", "float", "str"})
# verl raises NotImplementedError for "full"; bypass_mode is for verl itself to set.
UNUSABLE = frozenset({"full", "full+", "bypass_mode"})


def source(package: Path, file: str) -> ast.Module:
    """Parse one of verl's files."""
    return ast.parse((package / file).read_bytes())


def named(tree: ast.AST, name: str) -> ast.AST:
    """Return the class or function of that name, wherever it is in the tree."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node
    raise SystemExit(f"verl has no {name} any more: look where its choices are now, and change this script.")


def texts(node: ast.AST) -> set[str]:
    """Return the texts in a collection; of a dictionary its keys, or the first part of each."""
    inside: list[ast.AST] = [node]
    if isinstance(node, ast.Dict):
        inside = [key.elts[0] if isinstance(key, ast.Tuple) else key for key in node.keys if key]
    return {
        n.value for one in inside for n in ast.walk(one) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }


def enum(file: str, name: str) -> Callable[[Path], set[str]]:
    """Read the values of an enumeration."""

    def read(package: Path) -> set[str]:
        body = getattr(named(source(package, file), name), "body", list[ast.stmt]())
        return {value for node in body if isinstance(node, ast.Assign) for value in texts(node.value)}

    return read


def assigned(file: str, *names: str) -> Callable[[Path], set[str]]:
    """Read the collections that a module, class or function gives these names."""

    def read(package: Path) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(source(package, file)):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            is_named = any(isinstance(one, ast.Name) and one.id in names for one in targets)
            if is_named and isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
                found |= texts(node.value)
        return found

    return read


def registered(files: str, decorator: str) -> Callable[[Path], set[str]]:
    """Read the names under which a decorator registers functions or classes."""

    def read(package: Path) -> set[str]:
        found: set[str] = set()
        for file in sorted(package.glob(files)):
            for node in ast.walk(ast.parse(file.read_bytes())):
                for call in getattr(node, "decorator_list", []):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == decorator and call.args:
                        found |= texts(call.args[0])
        return found

    return read


def asserted(file: str, name: str, field: str) -> Callable[[Path], set[str]]:
    """Read what a configuration class wants of one of its fields."""

    def read(package: Path) -> set[str]:
        found = named(source(package, file), name)
        return set(dict(demanded(found))[field]) if isinstance(found, ast.ClassDef) else set()

    return read


def compared(file: str, function: str, what: str) -> Callable[[Path], set[str]]:
    """Read the constants that a function compares an expression with, by ``==`` or ``in``."""

    def read(package: Path) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(named(source(package, file), function)):
            if isinstance(node, ast.Compare) and ast.unparse(node.left) == what:
                found |= texts(node.comparators[0])
        return found

    return read


def looked_up(file: str, where: str) -> Callable[[Path], set[str]]:
    """Read the constants that a module looks for in a collection: ``"model" in self.contents``."""

    def read(package: Path) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(source(package, file)):
            if isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == where:
                found |= texts(node.left)
        return found

    return read


def with_plus(read: Callable[[Path], set[str]]) -> Callable[[Path], set[str]]:
    """Add each name with a plus: verl's straight-through form of a KL estimate."""
    return lambda package: {form for name in read(package) for form in (name, f"{name}+")}


_ALGORITHMS = "trainer/ppo/core_algos.py"
_CONVERSATIONS = "utils/dataset/multiturn_sft_dataset.py"
_KL = compared(_ALGORITHMS, "kl_penalty_forward", "kl_penalty")
_PRECISION = assigned("utils/torch_dtypes.py", "HALF_LIST", "FLOAT_LIST", "BFLOAT_LIST")

# By key, or by the end of it after "*". In front of a colon: the one tree of settings that it holds for.
CHOICES: dict[str, Callable[[Path], set[str]]] = {
    "algorithm.adv_estimator": enum(_ALGORITHMS, "AdvantageEstimator"),
    "algorithm.kl_penalty": with_plus(_KL),
    "algorithm.kl_ctrl.type": compared(_ALGORITHMS, "get_kl_controller", "kl_ctrl.type"),
    "algorithm.rollout_correction.rollout_is": assigned("trainer/ppo/rollout_corr_helper.py", "valid_is_levels"),
    "actor_rollout_ref.actor.policy_loss.loss_mode": registered(_ALGORITHMS, "register_policy_loss"),
    "actor_rollout_ref.actor.kl_loss_type": with_plus(_KL),
    "actor_rollout_ref.rollout.name": assigned("workers/rollout/base.py", "_ROLLOUT_REGISTRY"),
    "critic.loss_agg_mode": compared(_ALGORITHMS, "agg_loss", "loss_agg_mode"),
    "ppo_trainer:data.truncation": compared("utils/torch_functional.py", "postprocess_data", "truncation"),
    "sft_trainer_engine:data.truncation": compared(_CONVERSATIONS, "__init__", "self.truncation"),
    "sft_trainer_engine:data.pad_mode": compared(_CONVERSATIONS, "__init__", "self.pad_mode"),
    "reward.reward_manager.name": registered("experimental/reward_loop/reward_manager/*.py", "register"),
    "trainer.logger": assigned("utils/tracking.py", "supported_backend"),
    "trainer.resume_mode": compared(
        "trainer/ppo/v1/trainer_base.py", "_load_checkpoint", "self.config.trainer.resume_mode"
    ),
    "*.checkpoint.save_contents": looked_up("utils/checkpoint/checkpoint_manager.py", "self.checkpoint_save_contents"),
    "*.checkpoint.load_contents": looked_up("utils/checkpoint/checkpoint_manager.py", "self.checkpoint_load_contents"),
    "trainer.v1.sampler.max_off_policy_strategy": compared(
        "trainer/ppo/v1/replay_buffer.py", "ReplayBuffer", "self.max_off_policy_strategy"
    ),
    "*.strategy": asserted("workers/config/engine.py", "FSDPEngineConfig", "strategy"),
    "*.model_dtype": _PRECISION,
    "*.param_dtype": _PRECISION,
    "*.reduce_dtype": _PRECISION,
    "*.buffer_dtype": _PRECISION,
}


def kinds(annotation: ast.expr) -> set[str] | None:  # noqa: PLR0911  one return a form of annotation
    """Return which kinds of value an annotation admits; None where anything goes."""
    if isinstance(annotation, ast.Name):
        return {annotation.id} if annotation.id in SCALARS else container(annotation.id)
    if isinstance(annotation, ast.Constant):
        if annotation.value is None:
            return {"null"}
        return kinds(ast.parse(annotation.value, mode="eval").body) if isinstance(annotation.value, str) else None
    if isinstance(annotation, ast.BinOp):
        return union([annotation.left, annotation.right])
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        name, inner = annotation.value.id, annotation.slice
        parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if name == "Optional":
            return union([*parts, ast.Constant(None)])
        if name == "Union":
            return union(parts)
        if name == "Literal":
            return {type(part.value).__name__ for part in parts if isinstance(part, ast.Constant)}
        return container(name)
    return None


def container(name: str) -> set[str] | None:
    """Return the kind of a generic type, if it is one we know."""
    return {CONTAINERS[name]} if name in CONTAINERS else None


def union(parts: list[ast.expr]) -> set[str] | None:
    """Return what any of several annotations admits."""
    found: set[str] = set()
    for part in parts:
        one = kinds(part)
        if one is None:
            return None
        found |= one
    return found


def literals(annotation: ast.expr) -> list[str]:
    """Return the choices of a ``Literal`` of texts; empty for any other annotation."""
    is_literal = isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal"
    return sorted(texts(annotation)) if is_literal else []


def demanded(found: ast.ClassDef) -> Iterator[tuple[str, list[str]]]:
    """Yield the fields that ``__post_init__`` wants to be one of some texts, with these.

    Both of verl's forms are read: ``assert self.field in [...]``, and ``if self.field not in ...: raise``. A
    condition around them is passed over unless it asks for the same field not to be None.
    """
    for function in found.body:
        if not (isinstance(function, ast.FunctionDef) and function.name == "__post_init__"):
            continue
        known = {
            target.id: texts(node.value)
            for node in function.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in function.body:
            test = node.test if isinstance(node, (ast.Assert, ast.If)) else None
            wanted = ast.In if isinstance(node, ast.Assert) else ast.NotIn
            if isinstance(node, ast.If) and not any(isinstance(inner, ast.Raise) for inner in node.body):
                continue
            if isinstance(test, ast.Compare) and isinstance(test.ops[0], wanted):
                field, where = ast.unparse(test.left), test.comparators[0]
                choices = known.get(where.id, set()) if isinstance(where, ast.Name) else texts(where)
                if field.startswith("self.") and choices:
                    yield field.removeprefix("self."), sorted(choices)


def classes(package: Path) -> dict[str, Any]:
    """Return verl's configuration dataclasses: bases, and the public fields declared in each."""
    nodes: dict[str, ast.ClassDef] = {}
    for folder in CLASS_FOLDERS:
        for file in sorted((package / folder).glob("*.py")):
            tree = ast.parse(file.read_bytes())
            nodes.update({node.name: node for node in tree.body if isinstance(node, ast.ClassDef)})
    return {name: described(node, nodes) for name, node in sorted(nodes.items())}


def described(found: ast.ClassDef, known: dict[str, ast.ClassDef]) -> dict[str, Any]:
    """Return one class as the snapshot keeps it."""
    fields: dict[str, dict[str, Any]] = {}
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
            allowed = kinds(node.annotation)
            holds = next((n.id for n in ast.walk(node.annotation) if isinstance(n, ast.Name) and n.id in known), None)
            field = {
                "kinds": sorted(allowed) if allowed else None,
                "choices": literals(node.annotation),
                "class": holds,
            }
            fields[node.target.id] = {name: value for name, value in field.items() if value}
    bases = [base.id for base in found.bases if isinstance(base, ast.Name) and base.id in known]
    return {"bases": bases, "fields": fields, "demands": dict(demanded(found))}


def choices(package: Path) -> dict[str, list[str]]:
    """Return the names that verl's code knows, by key."""
    found = {key: sorted(read(package) - UNUSABLE) for key, read in CHOICES.items()}
    if empty := [key for key, names in found.items() if not names]:
        raise SystemExit(f"No choices found for {', '.join(empty)}: look where they are now, and change this script.")
    return found


def snapshot(package: Path, version: str, license_file: Path, target: Path) -> None:
    """Write the snapshot of one verl into ``target``, which must not exist."""
    files = [file for file in (package / "trainer" / "config").rglob("*.yaml") if not file.name.startswith(GENERATED)]
    for file in files:
        copy = target / "config" / file.relative_to(package / "trainer" / "config")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    shutil.copyfile(license_file, target / "LICENSE")
    record = {"verl": version, "choices": choices(package), "classes": classes(package)}
    (target / "declarations.json").write_text(json.dumps(record, indent=1) + "\n")


def installed() -> tuple[Path, str, Path]:
    """Return the installed verl: its folder, version and licence."""
    found = importlib.util.find_spec("verl")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("verl is not installed in this environment.")
    licence = next(file for file in metadata.files("verl") or [] if file.name == "LICENSE")
    return Path(found.submodule_search_locations[0]), metadata.version("verl"), Path(str(licence.locate()))


def main() -> int:
    """Replace the snapshot of the installed verl."""
    parser = argparse.ArgumentParser(description="Take a snapshot of the installed verl's configuration.")
    parser.add_argument(
        "--target", type=Path, default=TARGET, help="the folder of all snapshots (default: the package's)"
    )
    package, version, license_file = installed()
    target: Path = parser.parse_args().target / f"verl-{version}"
    shutil.rmtree(target, ignore_errors=True)
    snapshot(package, version, license_file, target)
    print(f"{target}: {sum(1 for _ in target.rglob('*.yaml'))} files of verl {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
