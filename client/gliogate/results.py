"""What an analysis found."""

import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS, Verdict, verdict_of
from gliogate.overlays import PREDICTED, Color, paint_mask


class BoundingBox(NamedTuple):
    """The smallest upright rectangle around a mask, in pixels of the picture; `x`, `y` is its top left pixel."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Detection:
    """What the detector said of one picture.

    Attributes:
        tumor_probability: the calibrated probability that the slice shows tumor, 0 to 1.
        detected: whether the probability reaches the detection threshold.
        latency_s: seconds from sending the request to its answer.
        request_id: the id that the server logs for the request.
    """

    tumor_probability: float
    detected: bool
    latency_s: float
    request_id: str

    @property
    def verdict(self) -> Verdict:
        """`suspicious` or `no tumor`: what nobody has tried to outline is not called tumor."""
        return verdict_of(detected=self.detected, outlined=False)

    @property
    def tumor(self) -> bool:
        """Deprecated, and gone in the next release: `detected`."""
        warnings.warn("Detection.tumor goes in the next release: use Detection.detected", DeprecationWarning, 2)
        return self.detected


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the server found in one picture; every mask and position is on the picture's own grid.

    Attributes:
        tumor_probability: the detector's calibrated probability that the slice shows tumor, 0 to 1.
        detected: whether the probability reaches the detection threshold. None where nobody named one: the gate was
            told `always` or `never`, and no `detection_threshold` came with it.
        segmented: the gate opened and the segmenter looked.
        mask: uint8 (H, W), 1 where tumor is; all 0 where the gate stayed shut.
        mask_probability: float32 (H, W), where it was asked for; None otherwise.
        picture: uint8 (H, W, 3), what was analyzed, as `gliogate.images.load_picture` made it.
        latency_s: seconds from sending the request to its answer.
        request_id: the id that the server logs for the request.
        certainty: how well a strict outline agrees with a lax one, 0 to 1; it goes with the Dice. None where the mask
            is empty, or a server of a version before 11 was asked.
        reliability: what masks of the served version are worth; None where the server does not know.
        among_neighbours: whether the slice was judged among its neighbours in a head, and not by itself.
    """

    tumor_probability: float
    detected: bool | None
    segmented: bool
    mask: NDArray[np.uint8] = field(repr=False)
    mask_probability: NDArray[np.float32] | None = field(repr=False)
    picture: NDArray[np.uint8] = field(repr=False)
    latency_s: float
    request_id: str
    certainty: float | None = None
    reliability: "Reliability | None" = None
    among_neighbours: bool = False

    @property
    def verdict(self) -> Verdict:
        """`tumor`: detected and outlined; `suspicious`: detected, and the mask is empty; `no tumor`: not detected.

        `undecided` where `detected` is None.
        """
        return verdict_of(detected=self.detected, outlined=bool(self.mask.any()))

    @property
    def tumor(self) -> bool | None:
        """Whether the verdict is `tumor`; None where it is `undecided`."""
        return None if self.detected is None else self.verdict == "tumor"

    @property
    def needs_look(self) -> bool | None:
        """Whether somebody should look at this slice: it is suspicious, or its mask not certain.

        The limit of certainty is the served version's. None where the server does not know.
        """
        if self.verdict == "suspicious":
            return True
        if self.reliability is None or (self.certainty is None and self.mask.any()):
            return None
        return self.reliability.needs_look(self.certainty)

    @property
    def area_px(self) -> int:
        """Pixels of the picture that the mask covers."""
        return int(np.count_nonzero(self.mask))

    @property
    def bounding_box(self) -> BoundingBox | None:
        """The smallest rectangle around the mask; None where the mask is empty."""
        return BoundingBox(*cv2.boundingRect(self.mask)) if self.mask.any() else None

    def overlay(
        self, *, color: Color = PREDICTED, fill: float = 0.2, channel: int | None = CHANNELS.index("FLAIR")
    ) -> NDArray[np.uint8]:
        """Paints the mask onto the picture.

        Args:
            color: red, green and blue of the outline and the fill, 0 to 255.
            fill: opacity of the fill, 0 (outline only) to 1.
            channel: the channel to show in grey under the mask, FLAIR unless told otherwise; None for all three as
                red, green and blue.

        Returns:
            uint8 (H, W, 3), RGB.
        """
        shown = self.picture if channel is None else np.repeat(self.picture[..., channel, np.newaxis], 3, axis=2)
        return paint_mask(shown, self.mask, color=color, fill=fill)


@dataclass(frozen=True)
class Reliability:
    """What masks of a version are worth, measured on patients that its networks did not learn from.

    Attributes:
        limit: the certainty below which a mask is to be looked at.
        certain: between which multiples of a head's outlined volume nine of ten true ones lie, where it is certain.
        uncertain: the same below the limit.
    """

    limit: float
    certain: tuple[float, float]
    uncertain: tuple[float, float]

    def needs_look(self, certainty: float | None) -> bool:
        """Whether somebody should look at a mask of this certainty; None is an empty one's."""
        return certainty is not None and certainty < self.limit

    def volume_interval(self, volume: float, certainty: float) -> tuple[float, float]:
        """Where nine of ten true volumes lie, in the unit of the outlined one."""
        low, high = self.uncertain if self.needs_look(certainty) else self.certain
        return low * volume, high * volume


@dataclass(frozen=True)
class ModelInfo:
    """One model as the server has it.

    Attributes:
        name: of the model.
        versions: those that are served; a request gets the highest.
        max_batch_size: slices that one request may hold; 0 of a model whose request is one head.
        max_queue_size: requests that may wait before others are refused; 0 is any number.
    """

    name: str
    versions: tuple[str, ...]
    max_batch_size: int
    max_queue_size: int


@dataclass(frozen=True)
class OperatingPoint:
    """What a server goes by where a request says nothing else.

    Attributes:
        detection_threshold: the tumor probability, 0 to 1, from which a slice is segmented.
        mask_threshold: the probability, 0 to 1, from which a pixel is tumor.
    """

    detection_threshold: float
    mask_threshold: float


@dataclass(frozen=True)
class ServerInfo:
    """What a server says of itself.

    Attributes:
        version: Triton's.
        models: gliogate's, in the order detector, segmenter, gate, and the gate of whole heads where the server has it.
        operating_point: of the gate's newest version.
    """

    version: str
    models: tuple[ModelInfo, ...]
    operating_point: OperatingPoint
