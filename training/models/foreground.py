"""Normalization by what shines: the same for a head, however much black is around it."""

import keras
from keras import ops

from training.models.layers import as_planes, as_slices, plane_mean


@keras.saving.register_keras_serializable("gliogate")
class ForegroundStandardization(keras.layers.Layer):
    """Each channel of each slice to mean 0 and deviation 1, pixels counting by intensity. uint8 in, float32 out.

    MR intensities have no unit: scanner and sequence set their scale, which this removes. Black pixels count for
    nothing, so a window of a slice is normalized as the whole of it is, and networks can be trained on windows.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(autocast=False, **({"dtype": "float32"} | kwargs))

    def call(self, slices):  # noqa: D102
        planes = as_planes(slices)
        # A hundredth of a grey level: an empty channel stays 0 instead of becoming 0/0.
        weight = plane_mean(planes) + 0.01
        centered = planes - plane_mean(ops.square(planes)) / weight
        variance = plane_mean(planes * ops.square(centered)) / weight
        return as_slices(centered * (1 / ops.sqrt(variance + 1.0)))
