"""Recipes: small TOML files that say everything about a training run but its data."""

import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from bicompile.errors import UserError
from bicompile.model.config import NetworkConfig


@dataclass(frozen=True)
class TeacherRecipe:
    """How the float twin is trained."""

    epochs: int
    rate: float
    """Peak of the learning rate."""


@dataclass(frozen=True)
class StudentRecipe:
    """How the binary network is trained, from the float twin."""

    epochs: int
    rate: float
    """Peak of the learning rate."""
    slow_rate: float
    """Share of the rate that thresholds and alphas get."""
    width_weights: tuple[float, ...]
    """Weight of each width's loss, in the order of the network's widths."""
    distillation: float
    """Weight of the distillation beside the cross entropy; 0 switches it off."""


@dataclass(frozen=True)
class Recipe:
    """A training run."""

    seed: int
    batch: int
    copies: int
    """Versions of every training clip in the feature cache; all but the first are augmented."""
    network: NetworkConfig
    teacher: TeacherRecipe
    student: StudentRecipe

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def load_recipe(name: str) -> Recipe:
    """Read a recipe by the name of a built-in one, or the path of a TOML file.

    Raises UserError when there is none, or it has unknown, missing or impossible settings.
    """
    folder = resources.files("bicompile.training") / "recipes"
    builtin = folder / f"{name}.toml"
    if "/" not in name and builtin.is_file():
        text, where = builtin.read_text(), f"recipe {name}"
    elif Path(name).is_file():
        text, where = Path(name).read_text(), name
    else:
        known = sorted(
            entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")
        )
        raise UserError(
            f"there is no recipe {name}; give one of {', '.join(known)}, or the path of a TOML file"
        )
    try:
        return _parse(tomllib.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{where} cannot be used: {error}; recipes/default.toml shows what it may say"
        ) from error


def _parse(values: dict[str, Any]) -> Recipe:
    _check_keys(Recipe, values, "the recipe")
    network, teacher, student = values["network"], values["teacher"], values["student"]
    _check_keys(TeacherRecipe, teacher, "[teacher]")
    _check_keys(StudentRecipe, student, "[student]")
    for name, value in {**values, **teacher, **student}.items():
        if isinstance(value, int | float) and value < (
            0 if name in ("seed", "distillation") else 1e-9
        ):
            raise ValueError(f"{name} is {value}, it must be positive")
    for table, name in (
        (values, "batch"),
        (values, "copies"),
        (teacher, "epochs"),
        (student, "epochs"),
    ):
        if not isinstance(table[name], int):
            raise ValueError(f"{name} is {table[name]}, it must be a whole number")
    config = NetworkConfig.from_json({**NetworkConfig().to_json(), **network})
    weights = tuple(student["width_weights"])
    if len(weights) != len(config.widths):
        raise ValueError(
            f"width_weights has {len(weights)} numbers for {len(config.widths)} widths"
        )
    return Recipe(
        seed=values["seed"],
        batch=values["batch"],
        copies=values["copies"],
        network=config,
        teacher=TeacherRecipe(**teacher),
        student=StudentRecipe(**{**student, "width_weights": weights}),
    )


def _check_keys(cls: type, values: Any, where: str) -> None:
    if not isinstance(values, dict):
        raise TypeError(f"{where} must be a table")
    known = {field.name for field in fields(cls)}
    for what, names in (("lacks", known - set(values)), ("has unknown", set(values) - known)):
        if names:
            raise ValueError(f"{where} {what} {', '.join(sorted(names))}")
