"""The same as `resnet50-resunet` behind contrast-limited adaptive histogram equalization, on a split of 75 to 25.

`python -m training train runs/r --data kaggle_3m --recipe clahe-resnet50-resunet --weights imagenet`: the whole course
was not run yet, nor on a GPU. After the short one of `python -m training.experiments.recipes`, 47 minutes on two cores
beside other work, from scratch, expect an AUC of 0.97, and of volumes through the gate a Dice of 0.57 in the mean.
"""

from training.recipe import Recipe
from training.recipes.resnet50_resunet import RECIPE as PLAIN

RECIPE = Recipe(
    name="clahe-resnet50-resunet",
    stages={name: stage.model_copy(update={"options": {"clahe": True}}) for name, stage in PLAIN.stages.items()},
    validation=0.25,
)
