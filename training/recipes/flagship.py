"""One network for both tasks on a MobileNetV2 that is trained along from ImageNet's weights: what is shipped.

`python -m training crossvalidate runs/folds --data kaggle_3m --weights imagenet` takes 11 minutes a fold on two cores
of an AMD EPYC (AVX-512, BF16), with what docs/training.md says of its precision there; it was not timed on a GPU.
Expect of slices an AUC of 0.989, and of heads 0.994, at the operating point a sensitivity of 0.97 and a specificity of
0.95, and of their volumes through the gate a Dice of 0.85 in the mean and 0.89 in the median.
"""

from training.recipe import Augmentation, Phase, Recipe, Stage

RECIPE = Recipe(
    name="flagship",
    stages={
        "multitask": Stage(
            network="mobilenetv2_multitask",
            losses={
                "tumor": "bce",
                "where": "focal_tversky(0.6) + bce",
                "mask": "focal_tversky(0.5) + bce",
            },
            loss_weights={"tumor": 0.5, "where": 0.5},
            phases=(Phase(epochs=4, window=192, scale=0.5), Phase(epochs=10, window=192)),
            learning_rate=5e-4,
            weight_decay=1e-2,
            average=0.99,
            phantoms=0.2,
            evenness=0.5,
            augmentation=Augmentation(zoom=0.2, shear=0.1, noise=0.3, bias_field=0.3, drop_sequences=0.3),
        ),
    },
    sensitivity=0.975,
)
