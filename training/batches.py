"""Feeds a network: which slices an epoch shows, augmented, at which size."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.augment import augment
from training.data import Dataset

Target = Literal["tumor", "mask"]

Masks = NDArray[np.float32]
Batch = tuple[NDArray[np.uint8], Masks | dict[str, Masks]]
"""Images (B, S, S, 3) with masks (B, S, S); for a detector `where`, those masks, and `tumor`, whether any, (B, 1)."""


@dataclass(frozen=True)
class Sampling:
    """What an epoch shows.

    Attributes:
        batch_size: slices a batch.
        size: height and width, in pixels, at which they are shown.
        phantoms: synthetic slices, as a share of the real ones.
    """

    batch_size: int
    size: int
    phantoms: float


class EpochBatches:
    """One epoch: every tumor slice once, as many of the others drawn anew, and some phantoms, shuffled and augmented.

    The order and the augmentation depend on `seed` and `epoch` alone, so a run that was interrupted goes on as if it
    had not been.
    """

    def __init__(
        self, real: Dataset, synthetic: Dataset, sampling: Sampling, *, target: Target, epoch: int, seed: int
    ) -> None:
        rng = np.random.default_rng((seed, epoch))
        tumor, other = np.flatnonzero(real.tumor), np.flatnonzero(~real.tumor)
        chosen = np.concatenate([tumor, rng.choice(other, min(len(tumor), len(other)), replace=False)])
        extra = rng.choice(len(synthetic), min(len(synthetic), round(sampling.phantoms * len(chosen))), replace=False)
        rows = [(real, row) for row in chosen] + [(synthetic, row) for row in extra]
        self.rows = [rows[i] for i in rng.permutation(len(rows))]
        self.sampling, self.target, self.key = sampling, target, (seed, epoch)

    def __len__(self) -> int:
        return len(self.rows) // self.sampling.batch_size

    def __getitem__(self, index: int) -> Batch:
        """The batch at this place of the epoch."""
        rng = np.random.default_rng((*self.key, index))
        start = index * self.sampling.batch_size
        pairs = [
            self._resize(*augment(source.images[row], source.masks[row], rng))
            for source, row in self.rows[start : start + self.sampling.batch_size]
        ]
        images = np.stack([image for image, _ in pairs])
        masks = np.stack([mask for _, mask in pairs]).astype(np.float32)
        if self.target == "mask":
            return images, masks
        return images, {"tumor": masks.any(axis=(1, 2), keepdims=True)[:, 0].astype(np.float32), "where": masks}

    def _resize(self, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        size = (self.sampling.size, self.sampling.size)
        if image.shape[:2] == size:
            return image, mask
        return (
            cv2.resize(image, size, interpolation=cv2.INTER_AREA),
            cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST),
        )  # type: ignore[return-value]
