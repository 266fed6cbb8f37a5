"""Layers that the networks share."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("gliogate")
class SliceStandardization(keras.layers.Layer):
    """Each channel of each slice to mean 0 and deviation 1, by its own statistics. uint8 in, float32 out.

    MR intensities have no unit: scanner and sequence set their scale, which this removes.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(autocast=False, **({"dtype": "float32"} | kwargs))

    def call(self, slices):  # noqa: D102
        planes = as_planes(slices)
        centered = planes - plane_mean(planes)
        variance = plane_mean(ops.square(centered))
        # One grey level: an empty channel stays 0 instead of becoming noise.
        return as_slices(centered * (1 / ops.sqrt(variance + 1.0)))


def normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    """Batch normalization whose averages keep up with a schedule of a thousand steps."""
    return keras.layers.BatchNormalization(momentum=0.98)(x)


def as_planes(slices):
    """(B, H, W, C) in, float32 (B, C, H, W) out: a number for each channel meets a whole plane at once.

    Beside three channels that lie pixel by pixel, ONNX Runtime takes it up anew for each pixel, at ten times the time.
    """
    return ops.transpose(ops.cast(slices, "float32"), (0, 3, 1, 2))


def as_slices(planes):
    """(B, C, H, W) in, (B, H, W, C) out."""
    return ops.transpose(planes, (0, 2, 3, 1))


def plane_mean(planes):
    """Mean over columns and rows of (B, C, H, W), one after the other: (B, C, 1, 1).

    ONNX Runtime adds up in the order of memory, in 32 bits: over 65,536 pixels at once that costs three digits, which
    moves a mask's probabilities by 0.05.
    """
    return ops.mean(ops.mean(planes, axis=3, keepdims=True), axis=2, keepdims=True)


def mirror_image(pictures):
    """(B, H, W) or (B, H, W, C), left and right swapped."""
    return pictures[:, :, ::-1]


@keras.saving.register_keras_serializable("gliogate")
class DropChannel(keras.layers.Layer):
    """(B, H, W, 1) in, float32 (B, H, W) out."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**({"dtype": "float32"} | kwargs))

    def call(self, maps):  # noqa: D102
        return maps[..., 0]


@keras.saving.register_keras_serializable("gliogate")
class DoubleSize(keras.layers.Layer):
    """(B, h, w, C) in, (B, 2h, 2w, C) out, each value four times.

    What `keras.layers.UpSampling2D` does, which repeats for any h and w; where they are known, ONNX has an operator.
    """

    def call(self, features):  # noqa: D102
        _, height, width, _ = features.shape
        return ops.image.resize(features, (2 * height, 2 * width), "nearest", data_format="channels_last")


@keras.saving.register_keras_serializable("gliogate")
class ResizeLike(keras.layers.Layer):
    """(B, h, w) and a picture (B, H, W, C) in, float32 (B, H, W) out: bilinear, the pixels' centers their places.

    By a matrix for each direction, since Keras resizes to a size that is known beforehand only.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**({"dtype": "float32"} | kwargs))

    def call(self, maps, picture):  # noqa: D102
        _, height, width, _ = ops.shape(picture)
        rows, columns = _shares(height, maps.shape[1]), _shares(width, maps.shape[2])
        return ops.matmul(ops.matmul(rows, maps), ops.transpose(columns))


def _shares(pixels, cells: int):
    """What share each of the cells in a line has in each of the pixels that they become: (pixels, cells)."""
    place = (ops.arange(pixels, dtype="float32") + 0.5) * (cells / ops.cast(pixels, "float32")) - 0.5
    place = ops.clip(place, 0, cells - 1)
    return ops.relu(1 - ops.abs(place[:, None] - ops.arange(cells, dtype="float32")))
