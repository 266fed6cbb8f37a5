"""The trained networks of a run, and what they say of slices."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS, SLICE_SIZE
from training.errors import RecipeError
from training.levels import Levels
from training.models import NETWORKS
from training.models.exchange import with_known_sizes
from training.models.mirrored import Mirrored
from training.predict import predict
from training.recipe import Output, Recipe, Stage

if TYPE_CHECKING:
    from training.run import Run


@dataclass(frozen=True)
class Logits:
    """What the networks of a run say of N slices, before calibration.

    Attributes:
        tumor: shape (N,).
        mask: float16, shape (N, 256, 256), brought to scale by `Levels`.
    """

    tumor: NDArray[np.float32]
    mask: NDArray[np.float16]


def network_of(stage: Stage, *, size: int | None, initial: bool = True) -> keras.Model:
    """The network of a stage, with those of its outputs that the stage learns.

    Args:
        stage: which.
        size: height and width of the slices, None for any.
        initial: whether it gets the weights that it starts to learn from; without, it is there to be given others.

    Raises:
        RecipeError: there is no such network: an option makes no sense, weights cannot be had, or it answers something
            else than the stage learns.
    """
    options = stage.options if initial else {key: value for key, value in stage.options.items() if key != "weights"}
    try:
        network = NETWORKS[stage.network](size=size, **options)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        # Keras explains a layer at length; its first line says what is wrong with it.
        reason = str(error).strip().partition("\n")[0]
        raise RecipeError(f"options: {stage.network} cannot be built with {options}: {reason}") from error
    if unanswered := [output for output in stage.losses if output not in network.output]:
        raise RecipeError(f"losses: {stage.network} answers {', '.join(network.output)}, not {', '.join(unanswered)}")
    return keras.Model(network.input, {output: network.output[output] for output in stage.losses}, name=network.name)


def served_networks(run: "Run") -> tuple[keras.Model, keras.Model]:
    """A run's detector and segmenter; see `combined`.

    Raises:
        RunError: a stage was not trained to its end yet.
    """
    networks = untrained(run.recipe)
    for name, network in networks.items():
        network.load_weights(run.weights(name))
    return combined(run.recipe, {name: with_known_sizes(network) for name, network in networks.items()})


def untrained(recipe: Recipe) -> dict[str, keras.Model]:
    """A recipe's networks, by stage, for whole slices and without anything learned."""
    return {name: network_of(stage, size=SLICE_SIZE, initial=False) for name, stage in recipe.stages.items()}


def combined(recipe: Recipe, networks: Mapping[str, keras.Model]) -> tuple[keras.Model, keras.Model]:
    """The detector, giving its tumor logit (B, 1), and the segmenter, giving mask logits (B, 256, 256).

    Where several networks answer the same, the mean of their logits counts. Where none answers `tumor`, the segmenter's
    strongest pixel does.

    Args:
        recipe: says of what the slice's mirror image is asked about, too.
        networks: of its stages.
    """
    answering: dict[Output, list[keras.Model]] = defaultdict(list)
    for network in networks.values():
        for output, answer in network.output.items():
            answering[output].append(keras.Model(network.input, answer))
    served = {output: _mean(models) for output, models in answering.items()}
    for output in recipe.mirrored:
        image = _slice_input()
        served[output] = keras.Model(image, Mirrored(served[output], name=f"mirrored_{output}")(image))
    segmenter = served["mask"]
    if "tumor" not in served:
        map_of_logits = keras.layers.Reshape((SLICE_SIZE, SLICE_SIZE, 1))(segmenter.output)
        peak = keras.layers.GlobalMaxPooling2D(name="peak")(map_of_logits)
        served["tumor"] = keras.Model(segmenter.input, peak)
    return served["tumor"], segmenter


def _mean(models: list[keras.Model]) -> keras.Model:
    if len(models) == 1:
        return models[0]
    image = _slice_input()
    return keras.Model(image, keras.layers.Average(dtype="float32")([model(image) for model in models]))


def _slice_input() -> keras.KerasTensor:
    return keras.Input((SLICE_SIZE, SLICE_SIZE, len(CHANNELS)), dtype="uint8", name="image")


def logits_of(run: "Run", images: NDArray[np.uint8]) -> Logits:
    """What a run's networks say of slices (N, 256, 256, 3).

    Raises:
        RunError: a stage was not trained to its end yet.
    """
    detector, segmenter = served_networks(run)
    masks = Levels.of(segmenter)(predict(segmenter, images))
    return Logits(predict(detector, images)[:, 0], masks.astype(np.float16))
