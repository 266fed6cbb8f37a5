"""A sequence that is missing has FLAIR in its place; the network is told so instead of being shown FLAIR twice."""

import keras
from keras import ops

from gliogate.contract import CHANNELS
from training.models.layers import as_planes, as_slices, plane_mean

FLAIR = CHANNELS.index("FLAIR")

COPY_BELOW = 0.06
"""Mean difference from FLAIR, as a share of FLAIR's mean, under which a channel is taken for a copy of it.

Of the 88 patients' slices, copies differ by 0.035 at most, and sequences of their own by 0.116 at least.
"""


@keras.saving.register_keras_serializable("gliogate")
class BlankCopies(keras.layers.Layer):
    """Sets the channels that (nearly) equal FLAIR to 0, slice by slice. uint8 in, float32 out.

    Sets of volumes fill a missing sequence with FLAIR, and a grey picture has it in every channel. As pre-contrast,
    FLAIR says that what is bright was bright before contrast, which is wrong about a tumor; 0 says nothing.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(autocast=False, **({"dtype": "float32"} | kwargs))

    def call(self, slices):  # noqa: D102
        planes = as_planes(slices)
        # Not by slicing, before which a converter puts everything back in the order of pixels.
        flair = ops.take(planes, [FLAIR], axis=1)
        differs = plane_mean(ops.abs(planes - flair)) >= COPY_BELOW * plane_mean(flair)
        itself = ops.reshape(ops.arange(len(CHANNELS)) == FLAIR, (1, -1, 1, 1))
        return as_slices(planes * ops.cast(ops.logical_or(differs, itself), "float32"))
