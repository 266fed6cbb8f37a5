"""The wire contract: names, types and shapes of what is served, and the verdict that answers come to.

This is the one place in Python that spells them. `tests/contract` holds it against every `config.pbtxt`, every ONNX
file and the README's table.
"""

from typing import Final, Literal, NamedTuple

SLICE_SIZE: Final = 256
"""Height and width, in pixels, of every slice and mask on the wire."""

CHANNELS: Final = ("pre-contrast", "FLAIR", "post-contrast")
"""Channel order of a slice. A grey picture stands in all three."""


QUEUE_SIZE: Final = 128
"""How many requests of one priority wait at a server for their turn; it refuses more."""


class Tensor(NamedTuple):
    """One named tensor of a served model; `shape` is without the batch dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Model(NamedTuple):
    """One served model."""

    name: str
    backend: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


IMAGE: Final = Tensor("image", "UINT8", (SLICE_SIZE, SLICE_SIZE, len(CHANNELS)))
TUMOR_PROBABILITY: Final = Tensor("tumor_probability", "FP32", (1,))
MASK_PROBABILITY: Final = Tensor("mask_probability", "FP32", (SLICE_SIZE, SLICE_SIZE))
TUMOR_MASK: Final = Tensor("tumor_mask", "UINT8", (SLICE_SIZE, SLICE_SIZE))
SEGMENTED: Final = Tensor("segmented", "BOOL", (1,))
THRESHOLDS: Final = Tensor("thresholds", "FP32", (2,))
CERTAINTY: Final = Tensor("certainty", "FP32", (1,))
"""How well a strict outline agrees with a lax one, 0 to 1: how many pixels are tumor with a probability of 0.7 or more,
for each that is with 0.1 or more. 0 where nothing is outlined. It goes with the Dice; see the model card."""
RELIABILITY: Final = Tensor("reliability", "FP32", (5,))
"""What the version's masks are worth: the certainty below which one is to be looked at; between which multiples of a
head's outlined volume nine of ten true ones lie where the mask is certain, low and high; and the same where it is not.
All 0 where that was not measured."""

LARGEST: Final = {RELIABILITY.name: 1000.0}
"""The largest value of a tensor whose values are not from 0 to 1."""

DETECTOR: Final = Model("tumor_detector", "onnxruntime", (IMAGE,), (TUMOR_PROBABILITY,))
SEGMENTER: Final = Model("tumor_segmenter", "onnxruntime", (IMAGE,), (MASK_PROBABILITY,))
ENSEMBLE: Final = Model(
    "brain_tumor",
    "python",
    (IMAGE,),
    (TUMOR_PROBABILITY, TUMOR_MASK, MASK_PROBABILITY, SEGMENTED, THRESHOLDS, CERTAINTY, RELIABILITY),
)
SLICES: Final = -1
"""In a shape: as many as the head has slices."""

SLICE_SPACING_MM: Final = Tensor("slice_spacing_mm", "FP32", (1,))

VOLUME: Final = Model(
    "brain_volume",
    "python",
    (IMAGE._replace(shape=(SLICES, *IMAGE.shape)), SLICE_SPACING_MM),
    tuple(output._replace(shape=(SLICES, *output.shape)) for output in ENSEMBLE.outputs),
)
"""Judges the slices of one head together. It has no batch dimension; `slice_spacing_mm` may be left out."""

MODELS: Final = (DETECTOR, SEGMENTER, ENSEMBLE, VOLUME)
NEEDED: Final = (DETECTOR, SEGMENTER, ENSEMBLE)
"""Without these nothing can be asked; a server of a version before 11 has no others."""

MOST_SLICES: Final = 256
"""How many slices a request of `VOLUME` has at most."""

CONTEXT_BEFORE: Final = "context_before"
CONTEXT_AFTER: Final = "context_after"
"""Request parameters of `VOLUME`, beside those of `PARAMETERS`: how many slices, at either end, are not to be answered
and are there for the sake of their neighbours."""

CONTEXT_MM: Final = 15.0
"""How far along a head a slice's neighbours reach at most; what is sent in parts needs no more context."""

ASSUMED_SPACING_MM: Final = 5.0
"""What `VOLUME` takes for the distance between slices where nobody says it."""

THICKEST_MM: Final = 100.0
"""The largest distance between slices that `VOLUME` takes; none weighs anything for another long before."""

DETECTION_THRESHOLD: Final = "detection_threshold"
MASK_THRESHOLD: Final = "mask_threshold"
GATE: Final = "gate"
PARAMETERS: Final = (DETECTION_THRESHOLD, MASK_THRESHOLD, GATE)
"""Request parameters of the ensemble. Thresholds are in [0, 1]; one that is not given is the operating point's."""

GateMode = Literal["auto", "always", "never"]
GATE_MODES: Final[tuple[GateMode, ...]] = ("auto", "always", "never")
"""`auto` segments the slices whose probability reaches the detection threshold, `always` and `never` what they say."""

Verdict = Literal["tumor", "suspicious", "no tumor", "undecided"]
"""What gliogate says of a slice or a volume, see `verdict_of`."""


def verdict_of(*, detected: bool | None, outlined: bool) -> Verdict:
    """What the detector and the segmenter come to, in words.

    The detector may have seen what the segmenter cannot outline, or may be wrong: such a slice is neither called tumor
    nor clear, but `suspicious`, and a person is to look at it.

    Args:
        detected: whether the tumor probability reaches the detection threshold, which opens the gate; None where nobody
            named a threshold.
        outlined: whether the mask has any pixel.

    Returns:
        `tumor`: detected and outlined; `suspicious`: detected, and nothing is outlined; `no tumor`: the probability is
        below the threshold, whatever a gate that was told `always` has outlined; `undecided`: nobody named a threshold.
    """
    if detected is None:
        return "undecided"
    if not detected:
        return "no tumor"
    return "tumor" if outlined else "suspicious"
