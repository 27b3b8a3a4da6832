"""Recipes: the built-in ones can be used, one may change another, and mistakes are named."""

from pathlib import Path

import pytest

from bicompile.errors import UserError
from bicompile.training.recipe import load_recipe

BUILT_IN = ["default", "paper", "quick"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_recipes_train_the_whole_method(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.network.activation, recipe.network.binarizer) == ("dual", "learned")
    assert recipe.student.distillation_kind == "frequency"


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_width_weighs_half_as_much_as_the_one_before(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.network.widths == tuple(range(len(recipe.network.widths)))
    assert recipe.student.width_weights == tuple(0.5**width for width in recipe.network.widths)


def test_the_recipe_quick_has_few_epochs_and_copies_in_every_phase() -> None:
    plan = load_recipe("quick")
    for phase in (plan.teacher, plan.student, plan.narrowing, plan.settling):
        assert phase is not None
        assert phase.epochs <= 3
        assert phase.copies == 2


def test_the_recipe_paper_has_the_settings_that_were_released() -> None:
    recipe = load_recipe("paper")
    student = recipe.student
    assert (recipe.batch, len(recipe.network.labels)) == (96, 12)
    assert (student.optimizer, student.rate, student.weight_decay) == ("sgd", 5e-3, 1e-4)
    assert (student.epochs, student.warm_up, student.slow_rate) == (300, 0.0, 0.1)
    assert student.distillation == 0.01


def test_a_recipe_can_be_a_file(recipe_file: Path) -> None:
    assert load_recipe(str(recipe_file)).network.memory == 8


def test_a_recipe_with_a_base_says_what_is_different(tmp_path: Path) -> None:
    path = tmp_path / "single.toml"
    path.write_text(
        'base = "quick"\n[network]\nactivation = "single"\n[student]\ndistillation_kind = "none"'
    )
    changed, base = load_recipe(str(path)), load_recipe("quick")
    assert changed.network.activation == "single"
    assert changed.student.distillation_kind == "none"
    assert changed.network.widths == base.network.widths
    assert changed.student.epochs == base.student.epochs
    assert changed.teacher == base.teacher


@pytest.mark.parametrize("count", [12, 20, 30, 35])
def test_labels_are_counted(recipe_file: Path, count: int) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("labels = 12", f"labels = {count}"))
    assert len(load_recipe(str(recipe_file)).network.labels) == count


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="default, paper, quick"):
        load_recipe("nonsense")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 3", "", "it lacks seed"),
        ("seed = 3", "seed = 3\ncolour = 4", "colour is not a setting"),
        ("seed = 3", "seed = -3", "seed is -3"),
        ("seed = 3", "seed = 2026-01-01", "seed is '2026-01-01'"),
        ("seed = 3", "seed 3", "cannot be used"),
        (
            "seed = 3",
            'base = "fast"',
            "base is 'fast', but must be one of default",
        ),
        ("seed = 3", "base = [1]", r"base is \[1\]"),
        ("batch = 16", "batch = 1.5", "batch is 1.5"),
        ("batch = 16", "batch = true", "batch is True"),
        ("labels = 12", "labels = 13", "labels is 13, but must be one of 12, 20, 30, 35"),
        ("labels = 12", "labels = [1]", r"labels is \[1\]"),
        ("labels = 12", "", "it lacks labels"),
        ("labels = 12\n[network]", "labels = 12\nnetwork = 3\n[of]", "network is 3"),
        ("epochs = 2", "epochs = 0", "teacher.epochs is 0"),
        ("epochs = 2", 'epochs = "2"', "teacher.epochs is '2'"),
        ("rate = 1e-2", "rate = nan", "teacher.rate is nan"),
        ("rate = 1e-2", "rate = inf", "teacher.rate is inf"),
        ("warm_up = 0.1", "warm_up = 1.0", "teacher.warm_up is 1.0"),
        ('optimizer = "sgd"', 'optimizer = "adam"', "student.optimizer is 'adam'"),
        ("blocks = 2", "blocks = 1", "width w needs"),
        ("blocks = 2", "bricks = 2", "network.bricks is not a setting"),
        ("blocks = 2", "labels = 12", "network.labels is not a setting"),
        ("blocks = 2", 'blocks = 2\nactivation = "triple"', "activation"),
        ("widths = [0, 1]", "widths = [0, 1.5]", r"network.widths.1 is 1.5"),
        ("[1.0, 0.5]", "[1.0]", "width_weights has 1 numbers for 2 widths"),
        ("twins = [1]", "twins = [0]", r"twins is \[0\]"),
        ("twins = [1]", "twins = [2]", r"twins is \[2\]"),
        ("twins = [1]", "twins = [1, 1]", r"twins is \[1, 1\]"),
        ('one_bit = ["linear", "blocks.*.expand"]', "", "narrowing needs layers to narrow"),
        ('"linear"', '"line"', "one_bit names no binary layer with 'line'"),
        ("[teacher]", "[teachers]", "teacher"),
        ('"frequency"', '"haar"', "student.distillation_kind is 'haar'"),
        ("time_mask = 4", "time_mask = 32", "augmentation.time_mask must be below 32"),
        ("time_mask = 4", "", "it lacks augmentation.time_mask"),
    ],
)
def test_a_mistake_is_named(recipe_file: Path, old: str, new: str, said: str) -> None:
    text = recipe_file.read_text()
    assert old in text
    recipe_file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(str(recipe_file))
    assert str(recipe_file) in str(caught.value)
