"""The same as `resnet50-resunet` behind contrast-limited adaptive histogram equalization, on a split of 75 to 25."""

from training.recipe import Recipe
from training.recipes.resnet50_resunet import RECIPE as PLAIN

RECIPE = Recipe(
    name="clahe-resnet50-resunet",
    stages={name: stage.model_copy(update={"options": {"clahe": True}}) for name, stage in PLAIN.stages.items()},
    validation=0.25,
)
