"""What `training.experiments.costs` tells of a slice: arithmetic and milliseconds of a recipe's networks."""

import pytest

from training.experiments.costs import TABLE, measured
from training.recipe import Phase, Recipe, Stage

# It converts four networks, and times them.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def costs():
    thin = {"filters": [4, 8, 8], "depths": [1, 1, 1]}
    both = Stage(
        network="resunet_multitask", options=thin, losses={"tumor": "bce", "mask": "bce"}, phases=(Phase(epochs=1),)
    )
    once = Recipe(name="once", stages={"both": both})
    return measured([once, once.model_copy(update={"name": "mirrored", "mirrored": ("mask",)})])


def test_a_mirrored_segmenter_costs_twice_as_much(costs):
    once, mirrored = costs["once"], costs["mirrored"]

    assert mirrored.parameters == once.parameters > 1000
    assert mirrored.detector.multiply_adds == once.detector.multiply_adds > 1e6
    assert mirrored.segmenter.multiply_adds == 2 * once.segmenter.multiply_adds


def test_every_column_has_a_figure(costs):
    for recipe in costs.values():
        assert all(float(column(recipe).split()[0]) >= 0 for column in TABLE.values())
        assert recipe.detector.ms > 0
        assert recipe.gated_ms == pytest.approx(recipe.detector.ms + 0.35 * recipe.segmenter.ms)
