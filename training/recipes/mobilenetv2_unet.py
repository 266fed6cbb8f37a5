"""For small machines: a MobileNetV2 that detects, and a U-Net on another that stays as ImageNet left it.

`python -m training train runs/r --data kaggle_3m --recipe mobilenetv2-unet --weights imagenet`: the whole course was
not run yet, nor on a GPU. After the short one of `python -m training.experiments.recipes`, 50 minutes on two cores
beside other work, expect an AUC of 0.99, and of volumes without gate a Dice of 0.76 in the mean and 0.82 in the median.
"""

from training.recipe import Phase, Recipe, Stage

RECIPE = Recipe(
    name="mobilenetv2-unet",
    stages={
        "detector": Stage(
            network="mobilenetv2_detector",
            losses={"tumor": "bce"},
            phases=(Phase(epochs=8),),
            learning_rate=3e-4,
        ),
        "segmenter": Stage(
            network="mobilenetv2_unet",
            losses={"mask": "bce"},
            phases=(Phase(epochs=12),),
            learning_rate=1e-3,
        ),
    },
)
