"""A ResNet50 that detects, and a ResUNet that learned from tumor slices only.

`python -m training train runs/r --data kaggle_3m --recipe resnet50-resunet --weights imagenet`: the whole course was
not run yet, nor on a GPU. After the short one of `python -m training.experiments.recipes`, 21 minutes on two cores,
from scratch, expect an AUC of 0.93, and of volumes without gate a Dice of 0.55 in the mean and 0.62 in the median.
"""

from training.recipe import Phase, Recipe, Stage

RECIPE = Recipe(
    name="resnet50-resunet",
    stages={
        "detector": Stage(
            network="resnet50_detector",
            losses={"tumor": "bce", "where": "focal_tversky + bce"},
            phases=(Phase(epochs=14),),
            learning_rate=1e-3,
            weight_decay=5e-2,
            warm_up=2.0,
        ),
        "segmenter": Stage(
            network="resunet_segmenter",
            losses={"mask": "focal_tversky"},
            phases=(Phase(epochs=12, scale=0.5), Phase(epochs=8)),
            others=0.0,
        ),
    },
)
