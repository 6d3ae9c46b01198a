"""Nothing reaches a shell as text, builds what a file asks for, or takes any host's key: read from the syntax tree."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "verl_lab"
SOURCES = [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "environments").rglob("*.py"))]
GUEST = PACKAGE / "verl_plugin"

# Whatever their arguments are.
NEVER = {
    *("eval", "exec", "os.popen", "os.system", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"),
    *("asyncio.create_subprocess_shell", "yaml.full_load", "yaml.full_load_all", "yaml.load_all", "yaml.unsafe_load"),
    *("yaml.unsafe_load_all", "paramiko.AutoAddPolicy", "paramiko.WarningPolicy"),
    *("paramiko.client.AutoAddPolicy", "paramiko.client.WarningPolicy"),
}
# They build whatever a file asks for; verl's own checkpoints are read by verl, in its own processes.
BUILDERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
BUILDING = {"torch.load", "pandas.read_pickle"}
COMMANDS = {
    f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")
} | {"asyncio.create_subprocess_exec", "os.posix_spawn"}  # fmt: skip
SHELLS = {"sh", "bash", "dash", "zsh", "ksh"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def meanings(tree: ast.AST) -> dict[str, str]:
    """Return what the names that a module imports stand for, wherever in it they are imported."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def full_name(node: ast.AST, meant: dict[str, str]) -> str:
    first, dot, rest = ast.unparse(node).partition(".")
    return f"{meant.get(first, first)}{dot}{rest}"


def is_text(node: ast.AST | None) -> bool:
    """Whether an expression makes a string, whatever it is put together from."""
    if isinstance(node, ast.BinOp):
        return is_text(node.left) or is_text(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("format", "join") and is_text(node.func.value)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))


def gives_a_shell_text(node: ast.AST) -> bool:
    """Whether an argument list hands a shell a script that is put together here."""
    if not isinstance(node, (ast.List, ast.Tuple)) or len(node.elts) < 3:
        return False
    first, *others = node.elts
    is_shell = isinstance(first, ast.Constant) and str(first.value).rpartition("/")[2] in SHELLS
    script = next((b for a, b in pairwise(others) if ast.unparse(a) in ("'-c'", "'-lc'")), None)
    return is_shell and script is not None and not isinstance(script, ast.Constant)


def is_unsafe_call(node: ast.Call, name: str, loaders: set[str]) -> bool:
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    texts = {keyword: ast.unparse(value) for keyword, value in keywords.items()}
    if name == "yaml.load":
        return texts.get("Loader", ast.unparse(node.args[1]) if len(node.args) > 1 else "") not in loaders
    command = node.args[0] if node.args else keywords.get("args")
    is_command_line = name in COMMANDS and is_text(command)
    return (
        name in NEVER
        or is_command_line
        or texts.get("shell", "False") != "False"
        or texts.get("allow_pickle", "False") != "False"
        or (name.startswith("os.exec") and is_text(node.args[-1] if node.args else None))
    )


def unsafe(tree: ast.AST, *, guest: bool = False) -> Iterator[str]:
    """Say what in a module gives text to a shell, builds what a file asks for, or takes any host's key."""
    meant = meanings(tree)
    loaders = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    loaders |= {node.name for node in classes if {full_name(base, meant) for base in node.bases} & loaders}
    for node in ast.walk(tree):
        bad = gives_a_shell_text(node)
        if isinstance(node, ast.Call):
            name = full_name(node.func, meant)
            bad |= is_unsafe_call(node, name, loaders) or (name in BUILDING and not guest)
        elif isinstance(node, (ast.Attribute, ast.Name)):
            bad |= full_name(node, meant).rpartition(".")[2] in ("AutoAddPolicy", "WarningPolicy")
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and not guest:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            bad |= bool({one.partition(".")[0] for one in names} & BUILDERS)
        if bad:
            yield f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_goes_through_a_shell_or_an_unsafe_loader(path: Path) -> None:
    assert list(unsafe(ast.parse(path.read_text()), guest=GUEST in path.parents)) == []


@pytest.mark.parametrize(
    "bad",
    [
        "subprocess.run(x, shell=True)",
        "subprocess.Popen(x, shell=flag)",
        "import subprocess as sp\nsp.run(x, shell=1)",
        "os.system(x)",
        "from os import system\nsystem(x)",
        "from os import popen as p\np(x)",
        "subprocess.getoutput(x)",
        "asyncio.create_subprocess_shell(x)",
        "subprocess.run('ls -l')",
        "subprocess.run(f'ls {x}')",
        "subprocess.check_output('ls ' + x)",
        "subprocess.check_call('ls %s' % x)",
        "subprocess.Popen(' '.join(x))",
        "subprocess.run('ls {}'.format(x))",
        "subprocess.run(args='ls')",
        "from subprocess import run\nrun(f'ls {x}')",
        "argv = ['sh', '-c', x]",
        "host.run(('/bin/bash', '-lc', f'ls {x}'), timeout_s=1)",
        "client.set_missing_host_key_policy(paramiko.AutoAddPolicy())",
        "client.set_missing_host_key_policy(paramiko.AutoAddPolicy)",
        "from paramiko.client import AutoAddPolicy as P\nP()",
        "policy = paramiko.WarningPolicy",
        "yaml.load(x)",
        "yaml.load(x, yaml.Loader)",
        "yaml.load(x, Loader=yaml.FullLoader)",
        "class Ours(yaml.Loader): ...\nyaml.load(x, Loader=Ours)",
        "from yaml import load\nload(x)",
        "yaml.unsafe_load(x)",
        "import pickle",
        "from pickle import loads",
        "def f():\n    import joblib",
        "import torch\ntorch.load(x)",
        "from torch import load\nload(x)",
        "np.load(x, allow_pickle=True)",
        "eval(x)",
        "exec(x)",
    ],
)
def test_what_is_unsafe_is_recognised(bad: str) -> None:
    assert list(unsafe(ast.parse(bad)))


@pytest.mark.parametrize(
    "good",
    [
        "subprocess.run(['ls', x], shell=False)",
        "subprocess.run([sys.executable, '-c', CODE])",
        "host.run(['sh', '-c', 'exec \"$0\" \"$@\"', x], timeout_s=1)",
        "yaml.load(x, Loader=yaml.CSafeLoader)",
        "yaml.load(x, yaml.SafeLoader)",
        "class Ours(yaml.SafeLoader): ...\nyaml.load(x, Loader=Ours)",
        "json.load(x)",
        "model.eval()",
        "client.set_missing_host_key_policy(paramiko.RejectPolicy())",
        "np.load(x, allow_pickle=False)",
    ],
)
def test_what_is_safe_is_let_through(good: str) -> None:
    assert list(unsafe(ast.parse(good))) == []


def test_the_guest_may_read_checkpoints_and_nobody_else() -> None:
    tree = ast.parse("import torch, pickle\ntorch.load(x)")
    assert len(list(unsafe(tree))) == 2
    assert list(unsafe(tree, guest=True)) == []


def test_a_command_line_for_another_machine_is_written_in_one_place() -> None:
    """A server runs a line of text in the user's shell: one module quotes for it, the others hand over lists."""
    places = {path for path in SOURCES if ".exec_command(" in path.read_text()}
    assert len(places) <= 1, places


def test_whether_a_path_lies_in_a_folder_is_judged_in_one_place() -> None:
    """What runs on other machines has the standard library alone, and judges nothing that comes from outside."""
    places = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("is_relative_to", "commonpath", "commonprefix")
    }
    assert places <= {"verl_lab/inputs.py", "verl_lab/datasets/far_program.py"}
