"""A U-Net with a ResNet50 as its encoder, and the Dice loss. Its strongest pixel answers for a detector.

`python -m training train runs/r --data kaggle_3m --recipe resnet50-unet --weights imagenet`: the whole course was not
run yet, nor on a GPU. After the short one of `python -m training.experiments.recipes`, 48 minutes on two cores beside
other work, from scratch, expect an AUC of 0.95, and of volumes without gate a Dice of 0.65 in the mean and 0.76 in the
median.
"""

from training.recipe import Augmentation, Phase, Recipe, Stage

RECIPE = Recipe(
    name="resnet50-unet",
    stages={
        "segmenter": Stage(
            network="resnet50_unet",
            losses={"mask": "dice"},
            phases=(Phase(epochs=10, scale=0.5), Phase(epochs=6)),
            learning_rate=1e-3,
            patience=4,
            augmentation=Augmentation(rotation=15, zoom=0.1, shift=0.1, contrast=0, drop_sequences=0),
        ),
    },
)
