"""How well masks overlap, counted by Keras while a network is trained. Both take masks and logits (B, H, W)."""

import keras


@keras.saving.register_keras_serializable("gliogate")
class Jaccard(keras.metrics.BinaryIoU):
    """Intersection over union of all pixels since the epoch's start. Source: Jaccard 1901."""

    def __init__(self, name: str = "jaccard", **_: object) -> None:
        # Of logits: a probability of one half is a logit of 0.
        super().__init__(target_class_ids=[1], threshold=0.0, name=name)


@keras.saving.register_keras_serializable("gliogate")
class Dice(Jaccard):
    """Dice coefficient of all pixels since the epoch's start. Source: Dice 1945."""

    def __init__(self, name: str = "dice", **_: object) -> None:
        super().__init__(name=name)

    def result(self):  # noqa: D102
        jaccard = super().result()
        return 2 * jaccard / (1 + jaccard)
