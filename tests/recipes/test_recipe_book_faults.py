"""The book of recipes under bad input: names, links, texts, damage, and many writers at once."""

from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import FormatError, InvalidInputError, NotFoundError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.recipes.book import RecipeBook


def test_many_writers_at_once_lose_no_change(book: RecipeBook, tmp_path: Path) -> None:
    book.save_text("shared", "algorithm: sft\nparameters: {trainer.save_freq: 0}\n")
    program = (
        "import sys\nfrom pathlib import Path\nfrom verl_lab.recipes.book import RecipeBook\n"
        "from verl_lab.errors import InvalidInputError\nroot = Path(sys.argv[1])\n"
        "book = RecipeBook(user=root / 'user', project=root / 'project', versions=root / 'versions')\n"
        "done = 0\n"
        "while done < 10:\n"
        "    read = book.get('shared')\n"
        "    count = read.parameters['trainer.save_freq'] + 1\n"
        "    try:\n"
        "        book.save(read.model_copy(update={'parameters': {'trainer.save_freq': count}}))\n"
        "        done += 1\n"
        "    except InvalidInputError:\n"
        "        pass\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert book.get("shared").parameters["trainer.save_freq"] == 30
    assert len(book.versions("shared")) == 31


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc/x", ".hidden", "", "a\nb", "a\0b", "x" * 65, "-x", "a b", "..", "é", "x\n"]
)
def test_a_name_that_is_none_is_refused_everywhere(book: RecipeBook, tmp_path: Path, name: str) -> None:
    book.save_text("fine", "algorithm: sft\n")
    before = sorted(tmp_path.rglob("*"))
    for write in (
        lambda: book.save_text(name, "algorithm: sft\n"),
        lambda: book.fork("fine", name),
        lambda: book.rename("fine", name),
        lambda: book.import_(book.source("fine").path, name or "/"),
    ):
        with pytest.raises(InvalidInputError, match="is no name"):
            write()
    with pytest.raises(NotFoundError):
        book.get(name)
    with pytest.raises(NotFoundError):
        book.delete(name)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_lead_nowhere(book: RecipeBook, tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("algorithm: sft\n")
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "linked.yaml").symlink_to(outside)
    (tmp_path / "user" / "dangling.yaml").symlink_to(tmp_path / "made.yaml")
    with pytest.raises(InvalidInputError, match="link to a file outside"):
        book.get("linked")
    assert "link" in next(entry.problem or "" for entry in book.list() if entry.name == "linked")
    for name in ("linked", "dangling"):
        with pytest.raises(InvalidInputError, match="link"):
            book.save_text(name, "algorithm: grpo\n")
    with pytest.raises(InvalidInputError, match="link"):
        book.delete("linked")
    (tmp_path / "project").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "project" / "recipes").symlink_to(tmp_path / "away")
    with pytest.raises(InvalidInputError, match="link"):
        book.save_text("x", "algorithm: sft\n", to="project")
    assert outside.read_text() == "algorithm: sft\n"
    assert not (tmp_path / "made.yaml").exists()
    assert not list((tmp_path / "away").iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch pwned']",
        "algorithm: sft\nnotes: &a x\ndescription: *a",
        "algorithm: sft\nparameters: {model: {_target_: os.system}}",
        "algorithm: [",
        "algorithm: sft\nnotes: '\ud800'",
        "algorithm: sft\n#" + "x" * 70_000,
        "algorithm: sft\nextends: nothing",
        "",
    ],
)
def test_text_that_is_no_recipe_is_refused_and_nothing_is_written(book: RecipeBook, tmp_path: Path, text: str) -> None:
    with pytest.raises((FormatError, InvalidInputError, NotFoundError)):
        book.save_text("x", text)
    assert "x" not in book.names()
    assert not list(tmp_path.rglob("*.yaml"))


def test_files_are_private_where_they_are_kept_and_as_usual_where_they_are_used(
    book: RecipeBook, tmp_path: Path
) -> None:
    book.save_text("x", "algorithm: sft\nalerts: {webhook: 'https://x.test/token'}\n")
    kept = [path for path in (tmp_path / "versions").iterdir() if path.suffix == ".yaml"]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in kept} == {0}
    file = book.source("x").path
    file.chmod(0o640)
    book.save(book.get("x").model_copy(update={"notes": "y"}))
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_damaged_version_is_told_and_a_torn_line_costs_only_itself(book: RecipeBook, tmp_path: Path) -> None:
    book.save_text("a", "algorithm: sft\n")
    with (tmp_path / "versions" / "changes.jsonl").open("ab") as file:
        file.write(b'{"action": "sav')
    book.save_text("b", "algorithm: sft\nnotes: b\n")
    assert book.undo().name == "b"
    version = book.versions("a")[0].version
    (tmp_path / "versions" / f"{version}.yaml").write_text("algorithm: grpo\n")
    with pytest.raises(StoreError, match="another text"):
        book.source("a", version)
