"""Connected parts of a 3-D mask, and how wide they are."""

from collections.abc import Sequence
from itertools import pairwise, product

import cv2
import numpy as np
from numpy.typing import NDArray


def label_components(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], int]:
    """Numbers the connected parts of a mask; voxels that touch by a face, an edge or a corner are connected.

    Args:
        mask: (N, H, W), anything but 0 is inside.

    Returns:
        int32 (N, H, W), 0 outside and 1, 2, … inside, the largest part first; and how many parts there are.
    """
    labels = np.zeros(mask.shape, np.int32)
    # Parts of slices are numbered through, and those of neighbouring slices that touch then have one parent.
    count = 0
    for plane, target in zip(mask, labels, strict=True):
        found, part = cv2.connectedComponents((plane != 0).astype(np.uint8), connectivity=8)
        np.copyto(target, part + count, where=part > 0)
        count += found - 1
    if not count:
        return labels, 0
    parent = np.arange(count + 1)

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = int(parent[label])
        return label

    for below, above in pairwise(labels):
        if below.any() and above.any():
            for one, other in _touching(below, above):
                parent[root(one)] = root(other)
    roots = np.array([root(label) for label in range(count + 1)])
    # Most of a head is no tumor: only what is inside is looked at again.
    numbers = labels.ravel()
    inside = np.flatnonzero(numbers)
    sizes = np.bincount(roots[numbers[inside]], minlength=count + 1)
    ranked = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    number = np.zeros(count + 1, np.int32)
    number[ranked] = np.arange(1, len(ranked) + 1)
    numbers[inside] = number[roots[numbers[inside]]]
    return labels, len(ranked)


def _touching(below: NDArray[np.int32], above: NDArray[np.int32]) -> set[tuple[int, int]]:
    """The pairs of labels of two slices that lie above each other, or diagonally so."""
    rows, columns = np.nonzero(below)
    ours = below[rows, columns]
    padded = np.pad(above, 1)
    pairs: set[tuple[int, int]] = set()
    for row, column in product(range(3), range(3)):
        theirs = padded[rows + row, columns + column]
        both = theirs > 0
        # A pair as one number, of which there are as many as voxels, and few that differ.
        found = np.unique(ours[both].astype(np.int64) << 32 | theirs[both])
        pairs.update((int(pair) >> 32, int(pair) & 0xFFFFFFFF) for pair in found)
    return pairs


def split_components(labels: NDArray[np.int32], count: int) -> list[NDArray[np.int64]]:
    """The voxels (slice, row, column) of each component, (voxels, 3), in the order of their slices."""
    inside = np.flatnonzero(labels)
    numbers = labels.ravel()[inside]
    order = np.argsort(numbers, kind="stable")
    places = np.stack(np.unravel_index(inside[order], labels.shape), axis=1)
    return np.split(places, np.cumsum(np.bincount(numbers, minlength=count + 1)[1:count]))


def feret_diameter(pixels: NDArray[np.int64], spacing: Sequence[float]) -> float:
    """The largest distance between two points of the outline of pixels.

    The outline runs through the middles of the pixels' outer edges: n pixels in a row are n pixels long.

    Args:
        pixels: (n, 2), row and column of each; one at least.
        spacing: between rows and between columns, in mm.

    Returns:
        mm.
    """
    centers = cv2.convexHull(pixels.astype(np.int32))[:, 0].astype(np.float64)
    edges = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
    points = (centers[:, np.newaxis] + edges).reshape(-1, 2) * spacing
    return float(np.linalg.norm(points[:, np.newaxis] - points, axis=2).max())
