"""Feeds a network: which slices an epoch shows, augmented, at which size."""

import keras
import numpy as np
from numpy.typing import NDArray

from training.augment import augment
from training.data import Dataset
from training.models import WHERE_STRIDE
from training.recipe import Phase, Stage

Batch = tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]
"""Images (B, S, S, 3), and what each output should be: `tumor` (B, 1), `where` (B, S/8, S/8), `mask` (B, S, S)."""


class EpochBatches(keras.utils.PyDataset):
    """Epoch after epoch: every tumor slice once, of the others so many drawn anew, and some phantoms, all augmented.

    Order and augmentation depend on the seed and the epoch alone, so a training that was interrupted goes on as if it
    had not been.

    Args:
        real: slices to learn from.
        synthetic: phantoms, of which each epoch takes some.
        stage: how many of which, and how they are changed.
        phase: at which size they are shown.
        epoch: the first epoch's number, from 0.
        seed: of order and augmentation.
        workers: threads that prepare batches while the network is at others; OpenCV lets them run side by side.
    """

    def __init__(
        self,
        real: Dataset,
        synthetic: Dataset,
        stage: Stage,
        phase: Phase,
        *,
        epoch: int = 0,
        seed: int = 0,
        workers: int = 2,
    ) -> None:
        super().__init__(workers=workers, max_queue_size=4 * workers)
        self.real, self.synthetic, self.stage, self.phase = real, synthetic, stage, phase
        self.seed = seed
        self._begin(epoch)

    def __len__(self) -> int:
        return max(1, len(self.rows) // self.stage.batch_size)

    def __getitem__(self, index: int) -> Batch:
        """The batch at this place of the epoch."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        start = index * self.stage.batch_size
        pairs = [
            augment(source.images[row], source.masks[row], self.phase, self.stage.augmentation, rng)
            for source, row in self.rows[start : start + self.stage.batch_size]
        ]
        images = np.stack([image for image, _ in pairs])
        masks = np.stack([mask for _, mask in pairs]).astype(np.float32)
        targets = {
            "tumor": masks.any(axis=(1, 2))[:, None].astype(np.float32),
            "where": _share_in_cells(masks, WHERE_STRIDE),
            "mask": masks,
        }
        return images, {output: targets[output] for output in self.stage.losses}

    def on_epoch_end(self) -> None:
        """Called by Keras: the next epoch's slices and order."""
        self._begin(self.epoch + 1)

    def _begin(self, epoch: int) -> None:
        rng = np.random.default_rng((self.seed, epoch))
        tumor, other = np.flatnonzero(self.real.tumor), np.flatnonzero(~self.real.tumor)
        drawn = rng.choice(other, min(len(other), round(self.stage.others * len(tumor))), replace=False)
        if self.stage.evenness:
            tumor = _evenly(tumor, self.real.patients[tumor], self.stage.evenness, rng)
        chosen = np.concatenate([tumor, drawn])
        count = min(len(self.synthetic), round(self.stage.phantoms * len(chosen)))
        extra = rng.choice(len(self.synthetic), count, replace=False)
        if not self.stage.others:
            extra = extra[self.synthetic.tumor[extra]]
        rows = [(self.real, row) for row in chosen] + [(self.synthetic, row) for row in extra]
        self.rows = [rows[i] for i in rng.permutation(len(rows))]
        self.epoch = epoch


def _share_in_cells(masks: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Share of tumor in each cell of `stride` pixels a side. (B, S, S) in, (B, S/stride, S/stride) out."""
    batch, size = masks.shape[:2]
    cells = masks.reshape(batch, size // stride, stride, size // stride, stride)
    return cells.mean(axis=(2, 4))


def _evenly(
    rows: NDArray[np.intp], patients: NDArray[np.str_], evenness: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """As many rows, of patients with many fewer and of patients with few more than once: systematic sampling."""
    _, patient, counts = np.unique(patients, return_inverse=True, return_counts=True)
    weights = np.cumsum(counts[patient] ** -evenness)
    places = (np.arange(len(rows)) + rng.random()) / len(rows) * weights[-1]
    return rows[np.searchsorted(weights, places)]
