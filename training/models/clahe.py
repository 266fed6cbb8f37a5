"""Contrast-limited adaptive histogram equalization as a layer, so that it travels with the weights.

Source: Zuiderveld 1994, Graphics Gems IV, VIII.5, as OpenCV's `createCLAHE` computes it.
"""

import keras
from keras import ops

from training.errors import RecipeError

LEVELS = 256
NIBBLE = 16


@keras.saving.register_keras_serializable("gliogate")
class CLAHE(keras.layers.Layer):
    """Equalizes each channel of each slice, tile by tile. uint8 (B, H, W, C) in, the same out.

    Gives what OpenCV gives, to the grey level where a tile's sides are powers of two, else within one. Counts are
    float32, which holds them exactly, since TensorFlow leaves the GPU to compute in int32.

    Args:
        clip_limit: the most pixels that a grey level may count, as a multiple, above 0, of the mean over all levels.
        tiles: along each side. Height and width must be divisible by it.
        kwargs: a layer's own.

    Raises:
        RecipeError: height or width is not divisible.
    """

    def __init__(self, clip_limit: float = 2.0, tiles: int = 8, **kwargs: object) -> None:
        super().__init__(autocast=False, **({"dtype": "float32"} | kwargs))
        self.clip_limit, self.tiles = clip_limit, tiles

    def build(self, shape: tuple[int | None, ...]) -> None:  # noqa: D102
        if any(side is not None and side % self.tiles for side in shape[1:3]):
            raise RecipeError(
                f"clahe: slices of {shape[1]} x {shape[2]} pixels, expected sides divisible by {self.tiles} tiles"
            )

    def call(self, slices):  # noqa: D102
        # Stacked, not transposed: TensorFlow would transpose before it casts, of which oneDNN complains in the log.
        planes = ops.stack(ops.unstack(ops.cast(slices, "float32"), axis=-1), axis=1)
        _, _, height, width = ops.shape(planes)
        tile = (height // self.tiles, width // self.tiles)
        equalized = self._interpolate(planes, self._tables(planes, tile), tile)
        return ops.cast(ops.round(ops.transpose(equalized, (0, 2, 3, 1))), "uint8")

    def _tables(self, planes, tile):
        """What each tile would make of each grey level: (B, C, tiles, tiles, 256), whole numbers."""
        count = ops.cast(tile[0] * tile[1], "float32")
        clip = ops.maximum(ops.floor(self.clip_limit * count / LEVELS), 1.0)
        histograms = self._histograms(planes, tile)
        clipped = ops.sum(ops.maximum(histograms - clip, 0.0), axis=-1, keepdims=True)
        # What was clipped goes to all levels alike, and what that leaves over to levels evenly spaced. The halves keep
        # quotients off whole numbers, of which a GPU's division may fall a bit short.
        share = ops.floor(clipped / LEVELS)
        rest = clipped - share * LEVELS
        step = ops.floor((LEVELS + 0.5) / ops.maximum(rest, 1.0))
        level = ops.arange(LEVELS, dtype="float32")
        spaced = ops.logical_and(ops.equal(level, step * ops.floor((level + 0.5) / step)), level < step * rest)
        histograms = ops.minimum(histograms, clip) + share + ops.cast(spaced, "float32")
        return ops.round(ops.cumsum(histograms, axis=-1) * ((LEVELS - 1) / count))

    def _histograms(self, planes, tile):
        """How often each tile has each grey level: (B, C, tiles, tiles, 256).

        A level is two digits to base 16. The product of the digits' one-hot matrices counts their pairs.
        """
        channels, tiles = planes.shape[1], self.tiles
        values = ops.reshape(planes, (-1, channels, tiles, tile[0], tiles, tile[1]))
        values = ops.transpose(values, (0, 1, 2, 4, 3, 5))
        values = ops.reshape(values, (-1, channels, tiles, tiles, 1, tile[0] * tile[1]))
        high = ops.floor(values / NIBBLE)
        low = values - NIBBLE * high
        digits = ops.arange(NIBBLE, dtype="float32")[:, None]
        high, low = (ops.cast(ops.equal(digit, digits), "float32") for digit in (high, low))
        pairs = ops.matmul(high, ops.swapaxes(low, -1, -2))
        return ops.reshape(pairs, (-1, channels, tiles, tiles, LEVELS))

    def _interpolate(self, planes, tables, tile):
        """Each pixel by the tables of the four tiles whose centers are around it."""
        tables = ops.concatenate([tables[:, :, :1], tables, tables[:, :, -1:]], axis=2)
        tables = ops.concatenate([tables[..., :1, :], tables, tables[..., -1:, :]], axis=3)
        above, below = tables[:, :, :-1], tables[:, :, 1:]
        corners = ops.stack([half for row in (above, below) for half in (row[:, :, :, :-1], row[:, :, :, 1:])], axis=-1)

        row, down = _position(self.tiles, tile[0])
        column, right = _position(self.tiles, tile[1])
        row, down = row[:, None], down[:, None]
        side, channels = self.tiles + 1, planes.shape[1]
        channel = ops.arange(channels, dtype="float32")[:, None, None]
        within = ((channel * side + row) * side + column) * LEVELS + planes
        number = ops.arange(ops.shape(planes)[0], dtype="int32")[:, None, None, None]
        index = number * (channels * side * side * LEVELS) + ops.cast(within, "int32")
        found = ops.take(ops.reshape(corners, (-1, 4)), index, axis=0)
        upper = found[..., 0] * (1.0 - right) + found[..., 1] * right
        lower = found[..., 2] * (1.0 - right) + found[..., 3] * right
        return upper * (1.0 - down) + lower * down

    def compute_output_spec(self, slices):  # noqa: D102
        return keras.KerasTensor(slices.shape, "uint8")

    def get_config(self) -> dict[str, object]:
        """The arguments that make this layer again."""
        return super().get_config() | {"clip_limit": self.clip_limit, "tiles": self.tiles}


def _position(tiles: int, pixels):
    """Where each pixel of a row lies between tile centers: how many are before it, and how far it is on to the next."""
    center = ops.arange(tiles * pixels, dtype="float32") * (1.0 / ops.cast(pixels, "float32")) - 0.5
    before = ops.floor(center)
    return before + 1.0, center - before
