"""Recipes: small TOML files that say everything about a training run but its data."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import to_json

from bicompile.errors import UserError
from bicompile.model.config import LABELS, NetworkConfig
from bicompile.training.distillation import Distillation

NOT_OF_RECIPES = ("binary", "labels", "mels", "frames", "settled")  # what a run settles by itself


class _Table(BaseModel):
    """A TOML table: every key must be there, no other may, and types are taken literally."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Augmentation(_Table):
    """Changes drawn anew in every epoch, on features; 0 switches one off. See `masks`."""

    time_shift: NonNegativeInt
    """Frames by which a clip moves at most, either way."""
    time_mask: NonNegativeInt
    """Frames that are hidden at most."""
    mel_mask: NonNegativeInt
    """Mel bands that are hidden at most."""


class PhaseRecipe(_Table):
    """How one network is trained."""

    epochs: PositiveInt
    copies: PositiveInt
    """Versions of every training clip in the feature cache; all but the first are augmented."""
    optimizer: Literal["adamw", "sgd"]
    """`sgd` has momentum 0.9; both as in torch."""
    rate: PositiveFloat
    """Peak of the learning rate."""
    warm_up: float = Field(ge=0, lt=1)
    """Share of the steps in which the rate rises; half a cosine follows."""
    weight_decay: NonNegativeFloat


class TeacherRecipe(PhaseRecipe):
    """How every float twin is trained; that of the smallest width teaches the student."""

    twins: tuple[int, ...]
    """Further widths of which a float twin is trained, for comparison with the student."""


class StudentRecipe(PhaseRecipe):
    """How the binary network is trained, from the teacher."""

    thresholds: Literal["zero", "means"]
    """Where thresholds and first shifts start: close to 0, or see `start`."""
    slow_rate: PositiveFloat
    """Share of the rate that thresholds and alphas get."""
    width_weights: tuple[PositiveFloat, ...]
    """Weight of each width's loss, in the order of the network's widths."""
    distillation_kind: Distillation
    """What is compared with the teacher beside the labels."""
    distillation: PositiveFloat
    """Weight of that comparison beside the cross entropy."""


class Recipe(_Table):
    """A training run."""

    seed: NonNegativeInt
    batch: PositiveInt
    labels: int
    """How many classes: one of the label sets of Speech Commands."""
    network: NetworkConfig
    augmentation: Augmentation
    teacher: TeacherRecipe
    student: StudentRecipe
    narrowing: PhaseRecipe | None = None
    """How the student goes on once the layers of `network.one_bit` see one bit; without it they
    do from the start."""
    settling: PhaseRecipe | None = None
    """How the student goes on once its norms are fixed, see `bicompile.model.settle`."""

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        widths, twins = self.network.widths, self.teacher.twins
        if len(self.student.width_weights) != len(widths):
            raise ValueError(
                f"student.width_weights has {len(self.student.width_weights)} numbers "
                f"for {len(widths)} widths"
            )
        if self.narrowing is not None and not self.network.one_bit:
            raise ValueError("narrowing needs layers to narrow, named by network.one_bit")
        further = set(widths) - {min(widths)}
        if not set(twins) <= further or len(set(twins)) < len(twins):
            raise ValueError(
                f"teacher.twins is {list(twins)}, but may name each of the widths "
                f"{sorted(further)} once: the teacher is the twin of width {min(widths)}"
            )
        for name, most in (
            ("time_shift", self.network.frames),
            ("time_mask", self.network.frames),
            ("mel_mask", self.network.mels),
        ):
            if getattr(self.augmentation, name) >= most:
                raise ValueError(f"augmentation.{name} must be below {most}, all there is")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return self.model_dump(mode="json")


def load_recipe(name: str) -> Recipe:
    """Read a recipe by the name of a built-in one, or the path of a TOML file.

    A recipe may name a built-in one as its `base`; it then says only what is different. Raises
    UserError when there is none, or a setting is unknown, missing or impossible.
    """
    if "/" not in name and _builtin(name).is_file():
        text, where = _builtin(name).read_text(), f"recipe {name}"
    elif Path(name).is_file():
        text, where = Path(name).read_text(), name
    else:
        raise UserError(
            f"there is no recipe {name}; give one of {', '.join(_known())}, "
            "or the path of a TOML file"
        )
    try:
        values = _with_base(tomllib.loads(text))
        values["network"] = _network(values)
        # As JSON: the one strict mode in which an array is a tuple.
        return Recipe.model_validate_json(to_json(values))
    except ValueError as error:  # ValidationError and TOMLDecodeError among them
        what = _first_mistake(error) if isinstance(error, ValidationError) else error
        raise UserError(
            f"{where} cannot be used: {what}; the built-in recipe default shows every setting"
        ) from error


def _builtin(name: str) -> Path:
    return Path(str(resources.files("bicompile.training") / "recipes" / f"{name}.toml"))


def _known() -> list[str]:
    return sorted(path.stem for path in _builtin("").parent.glob("*.toml"))


def _with_base(values: dict[str, Any]) -> dict[str, Any]:
    base = values.pop("base", None)
    if base is None:
        return values
    if base not in _known():
        raise ValueError(f"base is {base!r}, but must be one of {', '.join(_known())}")
    return _override(_with_base(tomllib.loads(_builtin(base).read_text())), values)


def _override(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Replace values, in tables key by key."""
    both = {**values, **changes}
    for name in values.keys() & changes.keys():
        if isinstance(values[name], dict) and isinstance(changes[name], dict):
            both[name] = _override(values[name], changes[name])
    return both


def _network(values: dict[str, Any]) -> Any:
    """The table [network], with the labels that the recipe counts."""
    network, count = values.get("network", {}), values.get("labels")
    if not isinstance(network, dict):
        return network
    for name in NOT_OF_RECIPES:
        if name in network:
            raise ValueError(f"network.{name} is not a setting")
    if count is None:
        return network
    if count not in list(LABELS):  # a count may be of any type
        raise ValueError(f"labels is {count!r}, but must be one of {', '.join(map(str, LABELS))}")
    return {**network, "labels": LABELS[count]}


def _first_mistake(error: ValidationError) -> str:
    """What is wrong, in the words of a recipe."""
    mistake = error.errors()[0]
    where = ".".join(map(str, mistake["loc"]))
    if mistake["type"] == "missing":
        return f"it lacks {where}"
    if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where} is not a setting"
    if mistake["type"] == "value_error":
        return str(mistake["ctx"]["error"])
    said = mistake["msg"]
    return f"{where} is {mistake['input']!r}: {said[0].lower()}{said[1:]}"
