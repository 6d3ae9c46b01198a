"""The book of recipes: three places, versions, two writers, and changes that can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.recipe import Recipe
from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError
from verl_lab.recipes.book import RecipeBook
from verl_lab.recipes.catalog import builtin_folder

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

MINE = """\
# Mine, from the paper.
extends: grpo-cpu
model: ./model  # beside this file
parameters:
  # Often enough.
  trainer: {save_freq: 3}
"""


def user_file(book: RecipeBook, name: str, text: str) -> Path:
    file = book.file_for(name, "user")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def users(root: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (root / "user").glob("*")}


def with_parameters(recipe: Recipe, **values: object) -> Recipe:
    changed = {name.replace("__", "."): value for name, value in values.items()}
    return recipe.model_copy(update={"parameters": recipe.parameters | changed})


def test_saving_keeps_comments_and_gives_a_new_version(book: RecipeBook) -> None:
    file = user_file(book, "mine", MINE)
    recipe = book.get("mine")
    saved = book.save(with_parameters(recipe, trainer__save_freq=9))
    assert file.read_text() == MINE.replace("save_freq: 3", "save_freq: 9")
    assert saved == book.get("mine") == with_parameters(recipe, trainer__save_freq=9)
    assert [version.action for version in book.versions("mine")] == ["saved", "found"]
    assert saved.origin is not None
    assert book.versions("mine")[0].version == saved.origin.version
    assert book.save(saved) == saved
    assert len(book.versions("mine")) == 2, "what changes nothing makes no version"


def test_old_versions_can_be_read_by_the_beginning_of_their_hash_and_put_back(book: RecipeBook) -> None:
    user_file(book, "mine", MINE)
    first = book.get("mine")
    for freq in (4, 5):
        book.save(with_parameters(book.get("mine"), trainer__save_freq=freq))
    newest, second, oldest = book.versions("mine")
    assert (newest.parent, second.parent) == (second.version, oldest.version)
    old = book.get("mine", oldest.version[:12])
    assert old == first
    assert book.source("mine", oldest.version).text == MINE
    assert book.save(old) == first
    with pytest.raises(NotFoundError, match="no version 'ffffffff'"):
        book.get("mine", "ffffffff")
    with pytest.raises(InvalidInputError, match="several versions"):
        book.get("mine", "")


def test_an_old_version_is_whole_though_what_it_extends_has_changed(book: RecipeBook) -> None:
    user_file(book, "base", "algorithm: sft\nparameters: {trainer.save_freq: 1}\n")
    book.save_text("child", "extends: base\n")
    version = book.versions("child")[0].version
    book.save(with_parameters(book.get("base"), trainer__save_freq=2))
    assert book.get("child").parameters["trainer.save_freq"] == 2
    assert book.get("child", version).parameters["trainer.save_freq"] == 1


def test_the_second_of_two_writers_is_told_and_nothing_is_lost(book: RecipeBook) -> None:
    file = user_file(book, "mine", MINE)
    one, other = book.get("mine"), book.get("mine")
    saved = book.save(with_parameters(one, trainer__save_freq=4))
    with pytest.raises(InvalidInputError, match="was changed by something else") as caught:
        book.save(with_parameters(other, trainer__save_freq=5))
    assert other.origin is not None
    assert saved.origin is not None
    assert other.origin.version[:12] in str(caught.value)
    assert saved.origin.version[:12] in str(caught.value)
    assert book.get("mine") == saved
    file.write_text(MINE + "notes: by hand\n")
    with pytest.raises(InvalidInputError, match="was changed by something else"):
        book.save(with_parameters(saved, trainer__save_freq=6))
    assert "by hand" in book.source("mine", book.versions("mine")[0].version).text
    file.unlink()
    with pytest.raises(InvalidInputError, match="is gone"):
        book.save(with_parameters(saved, trainer__save_freq=6))
    user_file(book, "mine", MINE)
    with pytest.raises(InvalidInputError, match="was changed by something else"):
        book.save_text("mine", "algorithm: sft", version=saved.origin.version[:12])


def test_a_recipe_made_in_python_replaces_none_unless_its_version_is_named(book: RecipeBook) -> None:
    made = Recipe(name="made", algorithm="sft", parameters={"trainer.total_epochs": 3, "optim.betas": (0.9, 0.95)})
    assert book.save(made).parameters == {"trainer.total_epochs": 3, "optim.betas": [0.9, 0.95]}
    with pytest.raises(InvalidInputError, match="There is a recipe 'made' already"):
        book.save(made.model_copy(update={"notes": "x"}))
    version = book.versions("made")[0].version
    assert book.save(made.model_copy(update={"notes": "x"}), version=version).notes == "x"


def test_a_built_in_recipe_stays_and_its_copy_comes_first(book: RecipeBook) -> None:
    before = (builtin_folder() / "grpo-cpu.yaml").read_text()
    saved = book.save(with_parameters(book.get("grpo-cpu"), trainer__save_freq=7))
    assert (builtin_folder() / "grpo-cpu.yaml").read_text() == before
    assert book.source("grpo-cpu").place == "user"
    assert "# A KL loss keeps" in book.source("grpo-cpu").text
    assert (saved.extends, saved.parameters["trainer.save_freq"]) == ("grpo", 7)
    book.delete("grpo-cpu")
    assert book.source("grpo-cpu").place == "built-in"
    for refused in (lambda: book.delete("grpo"), lambda: book.rename("grpo", "other")):
        with pytest.raises(InvalidInputError, match="built in"):
            refused()


def test_the_project_comes_before_the_user_and_may_be_written(book: RecipeBook, tmp_path: Path) -> None:
    book.save_text("mine", "algorithm: sft\nnotes: user's\n")
    book.save_text("mine", "extends: mine\nnotes: project's\n", to="project")
    assert book.get("mine").notes == "project's"
    assert book.source("mine").path == tmp_path / "project" / "recipes" / "mine.yaml"
    assert [entry.place for entry in book.list() if entry.name == "mine"] == ["project"]
    book.save(book.get("mine").model_copy(update={"notes": "still the project's"}))
    assert "still" in book.source("mine").text
    book.delete("mine")
    assert book.get("mine").notes == "user's"
    with pytest.raises(InvalidInputError, match="'nowhere' is no place"):
        book.save_text("mine", "algorithm: sft", to="nowhere")


def test_forking_and_renaming_keep_the_text_and_the_history(book: RecipeBook) -> None:
    file = user_file(book, "mine", "name: mine\n" + MINE)
    fork = book.fork("mine", "other")
    assert book.source("other").text == "name: other\n" + MINE
    assert fork.model == str(file.parent / "model")
    renamed = book.rename("mine", "ours")
    assert not file.exists()
    assert renamed == fork.model_copy(update={"name": "ours"})
    assert [(v.action, v.name) for v in book.versions("ours")] == [("renamed", "ours"), ("found", "mine")]
    assert book.get("ours", book.versions("ours")[-1].version).name == "ours"
    for taken in (lambda: book.fork("ours", "other"), lambda: book.rename("ours", "grpo")):
        with pytest.raises(InvalidInputError, match="already"):
            taken()
    fork = book.fork("grpo", "mine")
    assert "# mark: a critical finding" in book.source("mine").text
    assert fork.parameters == book.get("grpo").parameters


def test_every_change_can_be_taken_back_one_after_the_other(book: RecipeBook, tmp_path: Path) -> None:
    states: list[dict[str, str]] = []

    steps: list[Callable[[], object]] = [
        lambda: book.save_text("a", "algorithm: sft # one\n"),
        lambda: book.save(book.get("a").model_copy(update={"notes": "two"})),
        lambda: book.fork("a", "b"),
        lambda: book.rename("b", "c"),
        lambda: book.delete("a"),
        lambda: book.save_text("a", "algorithm: grpo\n"),
        lambda: book.rename("a", "b"),
    ]
    for step in steps:
        states.append(users(tmp_path))
        step()
    for state in reversed(states):
        book.undo()
        assert users(tmp_path) == state
    with pytest.raises(NotFoundError, match="no change"):
        book.undo()


def test_undo_of_one_recipe_leaves_the_others_and_what_others_changed(book: RecipeBook) -> None:
    book.save_text("a", "algorithm: sft\n")
    book.save_text("b", "algorithm: sft\n")
    assert book.undo("a").name == "a"
    assert "b" in book.names()
    book.source("b").path.write_text("algorithm: grpo\n")
    with pytest.raises(InvalidInputError, match="was changed by something else"):
        book.undo()
    assert book.get("b").algorithm == "grpo"


def test_what_others_extend_is_not_taken_away(book: RecipeBook) -> None:
    book.save_text("base", "algorithm: sft\n")
    book.save_text("child", "extends: base\n")
    for refused in (lambda: book.delete("base"), lambda: book.rename("base", "x"), lambda: book.undo("base")):
        with pytest.raises(InvalidInputError, match="extended by child"):
            refused()
    book.save_text("base", "algorithm: grpo\n", to="project")
    assert book.delete("base").action == "deleted"


def test_deleted_recipes_keep_their_versions(book: RecipeBook) -> None:
    user_file(book, "mine", MINE)
    recipe = book.get("mine")
    book.delete("mine")
    assert "mine" not in book.names()
    assert book.get("mine", book.versions("mine")[0].version) == recipe
    with pytest.raises(NotFoundError, match="no recipe 'mine'"):
        book.get("mine")
    with pytest.raises(NotFoundError, match="no recipe 'never'"):
        book.versions("never")


def test_a_broken_recipe_is_listed_with_its_place_and_can_be_mended(book: RecipeBook) -> None:
    user_file(book, "broken", "algorithm: sft\nparameters: {a: [}\n")
    entry = next(entry for entry in book.list() if entry.name == "broken")
    assert entry.recipe is None
    assert "broken.yaml, line 2, column" in (entry.problem or "")
    assert all(other.problem is None for other in book.list() if other.name != "broken")
    assert [found.name for found in book.search("broken")] == ["broken"]
    assert book.save_text("broken", "algorithm: sft\n").algorithm == "sft"
    assert book.source("broken", book.versions("broken")[-1].version).text.endswith("[}\n")


def test_search_looks_into_names_texts_and_settings(book: RecipeBook) -> None:
    user_file(book, "mine", MINE + "notes: Sorting letters.\nalerts: {webhook: 'https://x.test/secret'}\n")
    assert [entry.name for entry in book.search("sorting SAVE_FREQ=3")] == ["mine"]
    assert book.search("secret") == []
    assert {"sft", "sft-cpu"} <= {entry.name for entry in book.search("supervised")}


def test_export_and_import_move_a_recipe_whole(book: RecipeBook, tmp_path: Path) -> None:
    user_file(book, "mine", MINE + "alerts: {command: [notify], webhook: 'https://x.test/secret'}\n")
    recipe = book.get("mine")
    (tmp_path / "elsewhere").mkdir()
    out = book.export("mine", tmp_path / "elsewhere")
    assert out == tmp_path / "elsewhere" / "mine.yaml"
    assert "secret" not in out.read_text()
    assert "# Often enough." in out.read_text()
    other = RecipeBook(user=tmp_path / "u2", project=tmp_path / "p2", versions=tmp_path / "v2")
    taken = other.import_(out, "theirs")
    assert taken.model_dump(exclude={"name", "extends", "alerts"}) == recipe.model_dump(
        exclude={"name", "extends", "alerts"}
    )
    assert taken.alerts.command == ("notify",)
    for again in (lambda: book.export("mine", out), lambda: other.import_(out, "theirs")):
        with pytest.raises(InvalidInputError, match="already"):
            again()
    with pytest.raises(InvalidInputError, match="folder does not exist"):
        book.export("mine", tmp_path / "no" / "x.yaml")
    with pytest.raises(NotFoundError):
        other.import_(tmp_path / "nothing.yaml")
    relative = tmp_path / "elsewhere" / "rel.yaml"
    relative.write_text("algorithm: sft\ndata: {train: x.parquet}\n")
    assert other.import_(relative).data.train == str(tmp_path / "elsewhere" / "x.parquet")


def test_a_launch_keeps_the_text_and_the_whole(book: RecipeBook) -> None:
    user_file(book, "mine", MINE)
    recipe = book.get("mine")
    kept = book.keep(recipe)
    assert book.keep(recipe) == kept
    assert [version.action for version in book.versions("mine")] == ["launched"]
    assert book.source("mine", kept.source).text == MINE
    assert book.get("mine", kept.recipe) == recipe
    changed = with_parameters(recipe, trainer__save_freq=8)
    other = book.keep(changed)
    assert other.recipe == other.source != kept.recipe, "it is no longer what the file says"
    assert book.get("mine", other.recipe).parameters == changed.parameters


def test_any_sequence_of_changes_can_be_undone_to_the_start(
    book: RecipeBook, tmp_path: Path, dice: random.Random, rounds: Callable[[int], int]
) -> None:
    states: list[dict[str, str]] = []
    for _ in range(rounds(150)):
        before, name, new = users(tmp_path), dice.choice("abc"), dice.choice("abc")
        step = dice.randrange(5)
        try:
            if step == 0:
                book.save_text(name, f"algorithm: sft\nnotes: n{dice.randrange(1000)}\n")
            elif step == 1:
                book.save(with_parameters(book.get(name), trainer__save_freq=dice.randrange(1000)))
            elif step == 2:
                book.fork(name, new)
            elif step == 3:
                book.rename(name, new)
            else:
                book.delete(name)
        except VerlLabError:
            assert users(tmp_path) == before
            continue
        if users(tmp_path) != before:
            states.append(before)
    assert states
    for state in reversed(states):
        book.undo()
        assert users(tmp_path) == state
