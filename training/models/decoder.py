"""The way up of a U-Net (Ronneberger et al. 2015, arXiv:1505.04597), for encoders that were made for other things."""

import keras


def decode(x: keras.KerasTensor, skips: list[keras.KerasTensor], widths: tuple[int, ...]) -> keras.KerasTensor:
    """Doubles the resolution at each step, and puts beside it what the encoder saw there.

    Args:
        x: the encoder's coarsest features, (B, h, w, C).
        skips: its features at 2, 4, 8, … times that resolution.
        widths: channels after each step.

    Returns:
        Features at the last skip's resolution.
    """
    for skip, width in zip(skips, widths, strict=True):
        x = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
        x = keras.layers.Concatenate()([x, skip])
        for _ in range(2):
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return x
