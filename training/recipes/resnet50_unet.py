"""A U-Net with a ResNet50 as its encoder, and the Dice loss. Its strongest pixel answers for a detector."""

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
