"""What to train and how: every number that shapes a run, and nothing else."""

from dataclasses import dataclass, replace
from typing import Literal

import keras

from training.losses import FocalTversky
from training.models import resnet50_detector, resunet_segmenter

Stage = Literal["detector", "segmenter"]
STAGES: tuple[Stage, ...] = ("detector", "segmenter")


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        sizes: height and width, in pixels, at which slices are shown in each epoch; small first is four times as fast.
        batch_size: slices a step.
        learning_rate: peak of AdamW's, after the warm-up.
        weight_decay: AdamW's.
        warm_up: epochs over which the learning rate rises from 0, before it falls to 0 along a cosine.
        phantoms: synthetic slices, as a share of the real ones in an epoch.
    """

    sizes: tuple[int, ...]
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warm_up: float = 1.0
    phantoms: float = 0.1

    @property
    def epochs(self) -> int:
        """How many epochs there are."""
        return len(self.sizes)

    def with_epochs(self, epochs: int) -> "Recipe":
        """The same course in another number of epochs, its sizes in the same proportion."""
        sizes = tuple(self.sizes[epoch * self.epochs // epochs] for epoch in range(epochs))
        return replace(self, sizes=sizes)


RECIPES: dict[Stage, Recipe] = {
    "detector": Recipe(sizes=(256,) * 14, learning_rate=1e-3, weight_decay=5e-2, warm_up=2.0),
    "segmenter": Recipe(sizes=(128,) * 12 + (256,) * 5),
}


def build(stage: Stage, recipe: Recipe, *, steps_per_epoch: int, weights: str | None = None) -> keras.Model:
    """The network of a stage, compiled.

    Args:
        stage: which.
        recipe: its numbers.
        steps_per_epoch: batches an epoch; the learning rate's schedule counts them.
        weights: the detector's backbone: `imagenet` or None.
    """
    warm_up = round(recipe.warm_up * steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, recipe.epochs * steps_per_epoch - warm_up),
        warmup_target=recipe.learning_rate,
        warmup_steps=warm_up,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if stage == "segmenter":
        model = resunet_segmenter()
        model.compile(optimizer, loss=FocalTversky())
        return model
    model = resnet50_detector(weights=weights)
    model.compile(
        optimizer,
        loss={"tumor": keras.losses.BinaryCrossentropy(from_logits=True), "where": FocalTversky()},
        metrics={"tumor": keras.metrics.AUC(from_logits=True, name="auc")},
    )
    return model
