"""One network for both tasks on a MobileNetV2 that is trained along: as good as the flagship on one fold, and cheaper.

`python -m training train runs/r --data kaggle_3m --recipe mobilenetv2-multitask --weights imagenet` took 113
minutes on two cores of an AMD EPYC (Zen 1), beside much other work; it was not timed on a GPU. On the first fold's 18
patients expect an AUC of 0.996, and of volumes a Dice of 0.84 in the mean and 0.89 in the median; it was
not cross-validated, which is why it is not what is shipped.
"""

from training.recipe import Augmentation, Phase, Recipe, Stage

RECIPE = Recipe(
    name="mobilenetv2-multitask",
    stages={
        "multitask": Stage(
            network="mobilenetv2_multitask",
            losses={
                "tumor": "bce",
                "where": "focal_tversky(0.6) + bce",
                "mask": "focal_tversky(0.6) + bce",
            },
            loss_weights={"tumor": 0.5, "where": 0.5},
            phases=(Phase(epochs=4, window=192, scale=0.5), Phase(epochs=8, window=192)),
            learning_rate=5e-4,
            weight_decay=1e-2,
            average=0.99,
            augmentation=Augmentation(zoom=0.2, shear=0.1, noise=0.3, bias_field=0.3, drop_sequences=0.3),
        ),
    },
    sensitivity=0.975,
    mirrored=("mask",),
)
