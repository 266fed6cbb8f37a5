"""For small machines: a MobileNetV2 that detects, and a U-Net on another that stays as ImageNet left it."""

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
