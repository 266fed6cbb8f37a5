"""One network for both tasks, at half the slice's size inside, and a MobileNetV2 as a second detector.

`python -m training train runs/r --data kaggle_3m --recipe resunet-multitask --weights imagenet` takes 26 minutes on two
cores without a GPU; expect an AUC of 0.988, at the operating point a sensitivity of 0.97 and a specificity of 0.92, and
of volumes through the gate a Dice of 0.84 in the mean and 0.89 in the median: versions 6 and 7, cross-validated. Its
time on a GPU is not known yet.
"""

from training.recipe import Augmentation, Phase, Recipe, Stage

RECIPE = Recipe(
    name="resunet-multitask",
    stages={
        "multitask": Stage(
            network="resunet_multitask",
            losses={
                "tumor": "bce",
                "where": "focal_tversky(0.6) + bce",
                "mask": "focal_tversky(0.6) + bce",
            },
            loss_weights={"tumor": 0.5, "where": 0.5},
            phases=(Phase(epochs=10, window=192, scale=0.5), Phase(epochs=14, window=192)),
            learning_rate=2e-3,
            weight_decay=1e-2,
            average=0.995,
            augmentation=Augmentation(zoom=0.2, shear=0.1, noise=0.3, bias_field=0.3, drop_sequences=0.3),
        ),
        "detector": Stage(
            network="mobilenetv2_detector",
            losses={"tumor": "bce"},
            phases=(Phase(epochs=5),),
            learning_rate=3e-4,
        ),
    },
    sensitivity=0.975,
    mirrored=("mask",),
)
