"""Recipes: the built-in ones can be used, and mistakes are named."""

from pathlib import Path

import pytest

from bicompile.errors import UserError
from bicompile.training.recipe import load_recipe


@pytest.mark.parametrize("name", ["default", "quick"])
def test_the_built_in_recipes_train_widths_0_to_2(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.network.widths == (0, 1, 2)
    assert recipe.network.binary
    assert recipe.student.width_weights == (1.0, 0.5, 0.25)


def test_a_recipe_can_be_a_file(recipe_file: Path) -> None:
    assert load_recipe(str(recipe_file)).network.memory == 8


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="default, quick"):
        load_recipe("nonsense")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 3", "", "lacks seed"),
        ("seed = 3", "seed = 3\ncolour = 4", "has unknown colour"),
        ("batch = 16", "batch = -16", "batch is -16"),
        ("batch = 16", "batch = 1.5", "batch is 1.5"),
        ("epochs = 2", "epochs = 0", "epochs is 0"),
        ("blocks = 2", "blocks = 1", "widths|width w"),
        ("blocks = 2", "bricks = 2", "bricks"),
        ("[1.0, 0.5]", "[1.0]", "1 numbers for 2 widths"),
        ("[teacher]", "[teachers]", "teacher"),
        ("seed = 3", "seed 3", "cannot be used"),
    ],
)
def test_a_mistake_is_named(recipe_file: Path, old: str, new: str, said: str) -> None:
    recipe_file.write_text(recipe_file.read_text().replace(old, new))
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(str(recipe_file))
    assert str(recipe_file) in str(caught.value)
