"""What to train and how: every choice that shapes a run, as data that a run folder keeps."""

import json
from collections.abc import Sequence
from inspect import signature
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from training.errors import RecipeError

Output = Literal["tumor", "where", "mask"]
"""What a network may answer, as logits: tumor (B, 1), a coarse map of it (B, h, w), its mask (B, H, W)."""


class _Choices(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Phase(_Choices):
    """Consecutive epochs that show slices at one size.

    Attributes:
        epochs: how many.
        window: side of the square part of a slice that is shown, in the slice's pixels; 256 is all of it.
        scale: at which it is shown; at 0.5 an epoch is four times as fast.
    """

    epochs: int = Field(gt=0)
    window: int = Field(default=256, gt=0, le=256)
    scale: float = Field(default=1.0, gt=0, le=1)

    @property
    def size(self) -> int:
        """Height and width that the network sees, in pixels."""
        return round(self.window * self.scale)

    @model_validator(mode="after")
    def _fits_the_networks(self) -> "Phase":
        if self.size % 32:
            raise ValueError(
                f"window x scale is {self.size} pixels; the networks halve it five times: 32 must divide it"
            )
        return self


class Augmentation(_Choices):
    """How much slices are changed at random; each range is symmetric about no change, and 0 is none.

    Attributes:
        flip: whether left and right are swapped, in half of the slices.
        rotation: in degrees.
        zoom: as a share: 0.15 is from 0.85 to 1.15.
        shift: as a share of the side.
        shear: as a share of the side.
        contrast: strength of gamma and gain per channel, 1 being gamma from 3/4 to 4/3 and gain from 0.7 to 1.2.
        noise: share of the slices that get noise or blur, each in half of them.
        bias_field: share of the slices whose brightness varies across them, as it does with a surface coil.
        drop_sequences: share of the slices in which FLAIR takes the place of one or both of the others.
    """

    flip: bool = True
    rotation: float = Field(default=20, ge=0, le=180)
    zoom: float = Field(default=0.15, ge=0, lt=1)
    shift: float = Field(default=0.08, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0, lt=1)
    contrast: float = Field(default=1.0, ge=0, le=1)
    noise: float = Field(default=0.0, ge=0, le=1)
    bias_field: float = Field(default=0.0, ge=0, le=1)
    drop_sequences: float = Field(default=0.15, ge=0, le=1)


class Stage(_Choices):
    """One network, and how it is trained.

    Attributes:
        network: a name in `training.models.NETWORKS`.
        options: its keyword arguments.
        losses: what each of its outputs minimizes, as a sum of names in `training.losses`: `"focal_tversky + bce"`.
        loss_weights: of each output's loss; 1 where it is not named.
        phases: the course, epoch by epoch.
        batch_size: slices a step.
        learning_rate: peak of AdamW's, after the warm-up.
        weight_decay: AdamW's.
        warm_up: epochs over which the learning rate rises from 0, before it falls to 0 along a cosine.
        average: momentum of the exponential moving average of the weights, which is what a run keeps; 0 is none.
        patience: epochs without a better validation figure after which training stops; None trains to the end.
        others: slices without tumor that an epoch shows for each with tumor, drawn anew; 0 shows tumor slices only.
        phantoms: synthetic slices, as a share of the real ones in an epoch.
        evenness: how evenly an epoch draws patients: 0 shows each tumor slice once, 1 as many of each patient, between
            them a slice of a patient who has n with tumor is shown in proportion to n to the power -evenness.
        augmentation: random changes.
    """

    network: str
    options: dict[str, Any] = {}
    losses: dict[Output, str]
    loss_weights: dict[Output, float] = {}
    phases: tuple[Phase, ...]
    batch_size: int = Field(default=16, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warm_up: float = Field(default=1.0, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    patience: int | None = Field(default=None, gt=0)
    others: float = Field(default=1.0, ge=0)
    phantoms: float = Field(default=0.1, ge=0, le=1)
    evenness: float = Field(default=0.0, ge=0, le=1)
    augmentation: Augmentation = Augmentation()

    @field_validator("losses")
    @classmethod
    def _can_be_read(cls, losses: dict[Output, str]) -> dict[Output, str]:
        # Imported here, so that a recipe is read without waiting for Keras where there is nothing to check.
        from training.losses import loss_of

        for formula in losses.values():
            loss_of(formula)
        return losses

    @field_validator("network")
    @classmethod
    def _is_known(cls, network: str) -> str:
        from training.models import NETWORKS

        if network not in NETWORKS:
            raise ValueError(f"no network {network!r}; there are {', '.join(NETWORKS)}")
        return network

    @field_validator("options")
    @classmethod
    def _are_its_own(cls, options: dict[str, Any], others: ValidationInfo) -> dict[str, Any]:
        from training.models import NETWORKS

        network = others.data.get("network")
        if network is None:  # It is not known, which is said already.
            return options
        # The size of its slices is not for a recipe to say: it is trained at several, and served at one.
        known = [name for name in signature(NETWORKS[network]).parameters if name != "size"]
        if unknown := sorted(set(options) - set(known)):
            raise ValueError(f"no option {', '.join(unknown)} of {network}; there are {', '.join(known)}")
        return options

    @property
    def epochs(self) -> int:
        """How many epochs there are in all phases."""
        return sum(phase.epochs for phase in self.phases)

    def with_epochs(self, epochs: int) -> "Stage":
        """The same course in another number of epochs, its phases in the same proportion."""
        shown = [phase for phase in self.phases for _ in range(phase.epochs)]
        chosen = [shown[(2 * epoch + 1) * len(shown) // (2 * epochs)] for epoch in range(epochs)]
        phases = tuple(
            phase.model_copy(update={"epochs": chosen.count(phase)}) for phase in self.phases if phase in chosen
        )
        return self.model_copy(update={"phases": phases})


class Recipe(_Choices):
    """A detector, a segmenter or both, and how they come about.

    Attributes:
        name: of the recipe.
        stages: the networks by the name that their files get, in the order of training. What answers `tumor` becomes
            the detector, what answers `mask` the segmenter; one network may be both. Where several answer the same,
            the mean of their logits counts.
        validation: share of the patients that is held out.
        sensitivity: share of tumor slices that the operating point lets through at least, on validation patients.
        mirrored: of `tumor` and `mask` those for which a slice's mirror image is asked about, too, at twice the cost.
        precision: in what the networks compute while they are trained; the weights are float32 either way. `auto` is
            the fastest that suits the machine: `mixed_bfloat16`, or `float32` on a processor that has no such numbers.
    """

    name: str
    stages: dict[str, Stage] = Field(min_length=1)
    validation: float = Field(default=0.2, gt=0, lt=1)
    sensitivity: float = Field(default=0.98, gt=0, lt=1)
    mirrored: tuple[Literal["tumor", "mask"], ...] = ()
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"

    @model_validator(mode="after")
    def _learns_what_it_mirrors(self) -> "Recipe":
        learned = {output for stage in self.stages.values() for output in stage.losses}
        if unlearned := [output for output in self.mirrored if output not in learned]:
            raise ValueError(f"mirrored: no stage learns `{unlearned[0]}`")
        return self

    def with_epochs(self, epochs: int) -> "Recipe":
        """Every stage in this number of epochs."""
        return self.model_copy(update={"stages": {name: s.with_epochs(epochs) for name, s in self.stages.items()}})

    def with_weights(self, weights: str) -> "Recipe":
        """The recipe with these initial weights in every network that can start from some.

        Args:
            weights: `imagenet`, which Keras downloads, or a file.

        Raises:
            RecipeError: none of the networks can.
        """
        if not self.pretrainable:
            raise RecipeError(f"recipe {self.name}: no network of it starts from other weights than its own")
        return self.with_changes([f"stages.{name}.options.weights={weights}" for name in self.pretrainable])

    @property
    def pretrainable(self) -> list[str]:
        """The stages whose networks can start from weights of others."""
        from training.models import NETWORKS

        return [name for name, s in self.stages.items() if "weights" in signature(NETWORKS[s.network]).parameters]

    def with_changes(self, changes: Sequence[str]) -> "Recipe":
        """The recipe with some keys changed.

        Args:
            changes: each `key=value`, the key's parts joined by dots: `segmenter.losses.mask=dice`. Values are JSON
                where they can be read as such, else text.

        Raises:
            RecipeError: a key does not exist, or a value makes no sense.
        """
        content = self.model_dump(mode="json")
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals:
                raise RecipeError(f"{change!r}: expected KEY=VALUE")
            _set(content, key, _value(text))
        return Recipe.from_json(content)

    @classmethod
    def from_json(cls, content: dict[str, Any], *, source: str = "recipe") -> "Recipe":
        """Makes a recipe of what a JSON file holds.

        Raises:
            RecipeError: a key is missing or does not exist, or a value makes no sense; all of them are named.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            found = [
                f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg'].removeprefix('Value error, ')}"
                for e in error.errors()
            ]
            raise RecipeError(f"{source}: {'; '.join(found)}") from None


FREE = (["options"], ["losses"], ["loss_weights"])
"""Parts of a recipe whose keys are not there until they are given."""


def _set(content: Any, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for index, part in enumerate([*path, last]):
        if isinstance(content, list) and part.isdecimal() and int(part) < len(content):
            part = int(part)
        elif not isinstance(content, dict) or not (part in content or path[-1:] in FREE):
            known = ", ".join(content) if isinstance(content, dict) else "none"
            raise RecipeError(f"recipe: no key {key!r}: after {'.'.join(path[:index]) or 'the start'} come {known}")
        if index == len(path):
            content[part] = value
        else:
            content = content[part]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
