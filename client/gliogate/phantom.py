"""Synthetic brain-MRI slices with known lesions, for whatever should need no patient: demo, tests, load.

A phantom is drawn, not simulated: tissue after tissue is painted on an egg-shaped head at a random axial level, from
the orbits to the vertex, then comes what a scanner adds (coil bias, partial volume, Rician noise). Bright things that
are no lesion belong to it: scalp fat, orbits, periventricular caps and small white-matter spots in FLAIR, vessels and
sinuses after contrast.

    >>> phantom = make_phantom(7, tumor=True)
    >>> phantom.name, phantom.image.shape, phantom.tumor
    ('phantom-0007', (256, 256, 3), True)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from gliogate.contract import CHANNELS, SLICE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    # 64 bits throughout: the last-bit differences between processors' float units then never reach a uint8.
    Plane = NDArray[np.float64]
    """One value a pixel, (SLICE_SIZE, SLICE_SIZE)."""

MAX_SERIES: Final = 1_000_000
"""The longest series; phantom i of series s is `make_phantom(s * MAX_SERIES + i, …)`, so no two series share one."""

LESION_AREA_PX: Final = (60, 4500)
"""Smallest and largest lesion, in pixels."""

_MAX_LESION_SHARE: Final = 0.3  # of the brain that the slice shows


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic slice and the truth about it.

    Attributes:
        name: `phantom-` and the number that it was made from.
        image: uint8 (256, 256, 3), channels as in `contract.CHANNELS`.
        mask: uint8 (256, 256), 1 where the lesion is (the FLAIR abnormality), else 0.
    """

    name: str
    image: "NDArray[np.uint8]"
    mask: "NDArray[np.uint8]"

    @property
    def tumor(self) -> bool:
        """Whether there is a lesion."""
        return bool(self.mask.any())


def make_phantom(seed: int, *, tumor: bool) -> Phantom:
    """Draw one phantom; the same arguments give the same bytes.

    The head, its contrasts and its noise depend on the seed alone: with and without tumor, it is the same scan but for
    the lesion.

    Args:
        seed: which phantom, 0 or more.
        tumor: whether it has a lesion, of one focus or two.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    anatomy, contrast, lesion, scanner = (Generator(PCG64(child)) for child in SeedSequence(seed).spawn(4))
    head = _draw_head(anatomy)
    signal = _paint(contrast, head)
    mask = np.zeros((SLICE_SIZE, SLICE_SIZE), np.uint8)
    if tumor:
        mask = _grow_lesion(lesion, head)
        _paint_lesion(lesion, signal, mask)
    return Phantom(name=f"phantom-{seed:04d}", image=_scan(scanner, signal, head), mask=mask)


def make_phantoms(count: int, *, prevalence: float = 0.35, seed: int = 0) -> "Iterator[Phantom]":
    """Draw a series of phantoms, one at a time, as they are asked for.

    Exactly `round(count * prevalence)` of them have a tumor, in an order shuffled by the seed. Phantom i is the same
    head whatever the count; whether it has a tumor is not.

    Args:
        count: how many, 0 to `MAX_SERIES`.
        prevalence: the share that has a tumor, in [0, 1].
        seed: which series, 0 or more. Different series share no phantom.

    Raises:
        ValueError: an argument is out of range (at once, not at the first phantom).
    """
    if not 0 <= count <= MAX_SERIES:
        raise ValueError(f"count must be in 0..{MAX_SERIES}, got {count}")
    if not 0 <= prevalence <= 1:
        raise ValueError(f"prevalence must be in [0, 1], got {prevalence}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    tumors = np.arange(count) < round(count * prevalence)
    Generator(PCG64(seed)).shuffle(tumors)
    return (make_phantom(seed * MAX_SERIES + index, tumor=bool(tumor)) for index, tumor in enumerate(tumors))


class _Head(NamedTuple):
    """Where each tissue is. All planes are of the window only: half a slice is air, and takes half the time."""

    level: float  # 0 at the orbits, 1 at the vertex
    window: tuple[slice, slice]  # the rows and columns that hold the head
    tissues: "dict[str, Plane]"  # coverage, 0 to 1; later ones lie over earlier ones
    parenchyma: "Plane"  # brain without its CSF: where a lesion can be
    cortex: "Plane"
    depth_px: "Plane"  # below the scalp's surface; negative outside the head
    midline_px: "Plane"  # distance from the midline; negative on one side


def _cover(inside_px: "Plane") -> "Plane":
    """Turn a signed distance to an edge, in pixels, into coverage with that edge antialiased."""
    cover = inside_px + 0.5
    return np.clip(cover, 0.0, 1.0, out=cover)


def _noise(rng: Generator, grain_px: float) -> "Plane":
    """Draw a smooth random field of about unit deviation whose features are about `grain_px` wide."""
    knots = int(np.ceil(SLICE_SIZE / grain_px)) + 1
    coarse = rng.standard_normal((knots, knots))
    return np.asarray(cv2.resize(coarse, (SLICE_SIZE, SLICE_SIZE), interpolation=cv2.INTER_CUBIC)) * 1.3


def _window(center: "NDArray[np.float64]", half_width: float, half_length: float, tilt: float) -> tuple[slice, slice]:
    """Frame a tilted head, with room for its unevenness."""
    cosine, sine, room = np.cos(tilt), np.abs(np.sin(tilt)), 9.0
    reach = (half_length * cosine + half_width * sine + room, half_width * cosine + half_length * sine + room)
    first, last = np.clip([center - reach, center + reach], 0, SLICE_SIZE).astype(int)
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def _draw_head(rng: Generator) -> _Head:
    level = rng.uniform(0.0, 1.0)
    face = float(np.clip((0.32 - level) / 0.27, 0.0, 1.0))  # how much of the slice is face and skull base
    vertex = float(np.clip((level - 0.5) / 0.5, 0.0, 1.0))
    shrink = np.sqrt(1.0 - 0.72 * vertex**2) * rng.uniform(0.9, 1.08)
    half_width, half_length = 70.0 * shrink * rng.uniform(0.93, 1.08), 90.0 * shrink * rng.uniform(0.94, 1.06)

    # Head coordinates in pixels, x to the side and y to the back, bent a little so that no two halves are alike.
    tilt = np.deg2rad(rng.normal(0.0, 5.0))
    center = SLICE_SIZE / 2 + rng.normal(0.0, 5.0, size=2)
    window = _window(center, half_width, half_length * (1.0 + 0.12 * face), tilt)
    rows, columns = np.mgrid[window]
    rows, columns = rows - center[0], columns - center[1]

    def noise(grain_px: float) -> "Plane":
        return _noise(rng, grain_px)[window]

    x = np.cos(tilt) * columns + np.sin(tilt) * rows + 1.5 * noise(55)
    y = np.cos(tilt) * rows - np.sin(tilt) * columns + 1.5 * noise(55)
    side = np.abs(x)

    def ellipse(center_x: float, center_y: float, radius_x: float, radius_y: float, lean: float = 0.0) -> "Plane":
        """Cover the ellipse and its mirror image across the midline; `lean` moves x with y."""
        dx, dy = (side - center_x - lean * (y - center_y)) / radius_x, (y - center_y) / radius_y
        return _cover((1.0 - dx * dx - dy * dy) * (min(radius_x, radius_y) / 2))

    egg = rng.uniform(0.04, 0.13) + 0.08 * face
    nose = 1.0 + 0.12 * face * np.exp(-((x / 13.0) ** 2)) * (y < 0)
    reach = np.sqrt((x / (half_width * (1.0 + egg * y / half_length))) ** 2 + (y / (half_length * nose)) ** 2)
    depth = (1.0 - reach) * np.sqrt(half_width * half_length)

    thicken = 1.0 + 1.1 * vertex**2
    fat = rng.uniform(3.0, 7.5) * thicken * (1.0 + 0.18 * noise(70))
    bone = fat + rng.uniform(4.0, 6.5) * thicken
    # The brain's front edge recedes towards the skull base, last where the temporal lobes reach forward.
    lobe = np.exp(-(((side / half_width - 0.5) / 0.24) ** 2))
    front = half_length * (-1.2 + face * (1.45 - 0.75 * lobe * (1.0 - 0.6 * face)))
    inner = np.minimum(depth - bone, y - front)
    skull_base = _cover(front - y) * _cover(depth - fat)
    brain = inner - rng.uniform(0.8, 2.5)

    # Sulci run where a noise field changes sign, and fade with depth; the cortex lines them and the surface.
    folds = np.abs(noise(rng.uniform(8.0, 11.0) * (1.0 - 0.35 * face)))
    gape = rng.uniform(0.06, 0.24)
    fading = np.clip(1.5 - brain / (rng.uniform(14.0, 24.0) * shrink), 0.0, 1.0)
    sulci = np.clip(1.4 - folds / gape, 0.0, 1.0) * fading
    cortex = np.maximum(np.clip(1.8 - folds / 0.5, 0.0, 1.0) * fading, _cover(4.0 - brain))
    parting = 0.35 if 0.3 < level < 0.62 else 0.0  # the hemispheres meet in the slice's middle at ventricle level
    fissure = _cover(rng.uniform(0.6, 1.5) - side) * _cover(np.abs(y) - parting * half_length) * (face < 0.4)
    csf = np.maximum(sulci, fissure)

    a, b = half_width, half_length
    size = rng.uniform(0.7, 1.35)  # of the ventricles
    ventricles, caps, choroid, nuclei = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    if 0.3 < level < 0.55:
        horns = np.maximum(
            ellipse(0.11 * a, -0.24 * b, 0.06 * a * size, 0.15 * b * size, lean=-0.35),
            ellipse(0.30 * a, 0.27 * b, 0.07 * a * size, 0.17 * b * size, lean=0.35),
        )
        ventricles = np.maximum(horns, ellipse(0.0, 0.0, 0.025 * a * size, 0.12 * b))
        choroid = ellipse(0.30 * a, 0.27 * b, 0.035 * a, 0.05 * b, lean=0.35)
        caps = np.maximum(ellipse(0.17 * a, -0.41 * b, 4.5, 5.5), ellipse(0.37 * a, 0.44 * b, 4.5, 6.5))
        nuclei = np.maximum(
            ellipse(0.34 * a, -0.10 * b, 0.09 * a, 0.15 * b, lean=0.3), ellipse(0.17 * a, 0.10 * b, 0.10 * a, 0.10 * b)
        )
    elif 0.55 <= level < 0.72:
        ventricles = ellipse(0.15 * a, -0.02 * b, 0.07 * a * size, 0.30 * b * size * (0.8 - level) / 0.25, lean=0.08)
        caps = np.maximum(ellipse(0.18 * a, -0.27 * b, 4.0, 5.0), ellipse(0.20 * a, 0.24 * b, 4.0, 5.5))
    elif face > 0.0:
        stem_y, stem = rng.uniform(0.08, 0.2) * b, rng.uniform(0.17, 0.24) * a
        cistern = ellipse(0.0, stem_y - 0.25 * stem, 1.35 * stem, 1.3 * stem)
        cistern *= np.clip(0.55 + 0.6 * noise(20), 0.0, 1.0) * (1.0 - ellipse(0.0, stem_y, 1.1 * stem, stem))
        ventricles = np.maximum(ellipse(0.0, stem_y + 1.4 * stem, 0.08 * a, 0.04 * b), cistern)
    caps *= rng.uniform(0.0, 1.0) ** 1.5 * (1.0 - ventricles)
    brain_cover = _cover(brain)

    spots = _dots(rng, rng.poisson(1.5), center, (0.55 * b, 0.55 * a), radius_px=(1.0, 2.4))[window]
    vessels = _cover(0.4 - 12.0 * np.abs(noise(22))) * np.clip(noise(20) - 0.6, 0.0, 1.0) * _cover(inner)
    vessels = np.maximum(
        vessels, _dots(rng, rng.poisson(2.5), center, (0.8 * b, 0.75 * a), radius_px=(0.8, 1.8))[window]
    )
    vessels = np.maximum(vessels, ellipse(0.0, b - 12.0 * thicken, 4.0, 6.0) * _cover(inner + 2.0))
    vessels = np.maximum(vessels, ellipse(0.0, -b + 11.0 * thicken, 2.0, 4.0) * (face == 0.0))

    clumps, holes = noise(14), noise(18)
    orbit = float(0.35 < face < 0.85)
    eye_y, eye_x, eye_px = -0.68 * b, 0.42 * a, rng.uniform(9.5, 12.0)
    tissues = {
        "fat": _cover(depth),
        "bone": _cover(depth - fat) * (1.0 - 0.5 * vertex**2 * rng.uniform()),
        "marrow": _cover(1.1 - np.abs(depth - (fat + bone) / 2)) * rng.uniform(0.1, 0.9),
        "csf": _cover(inner),
        "white": brain_cover,
        "gray": np.maximum(cortex, 0.75 * nuclei) * brain_cover,
        "spots": np.maximum(caps, spots) * brain_cover,
        "fluid": np.maximum(csf, ventricles) * brain_cover,
        "choroid": choroid * brain_cover,
        "vessels": vessels,
    }
    if face > 0.0:
        tissues |= {
            "muscle": skull_base,
            "face fat": np.clip((clumps - 0.5) * 3.0, 0.0, 1.0) * skull_base,
            "air": np.maximum(np.clip((holes - 0.7) * 4.0, 0.0, 1.0), ellipse(0.0, -0.72 * b, 7.0, 20.0) * orbit)
            * skull_base,
            "orbital fat": ellipse(eye_x, eye_y + 8.0, eye_px + 3.0, eye_px + 12.0, lean=-0.4) * orbit * skull_base,
            "vitreous": ellipse(eye_x, eye_y, eye_px, eye_px) * orbit * _cover(depth - 2.0),
            "lens": ellipse(eye_x, eye_y - 0.75 * eye_px, 3.5, 1.8) * orbit * _cover(depth - 2.0),
        }
    parenchyma = brain_cover * (1.0 - tissues["fluid"])
    return _Head(level, window, tissues, parenchyma, tissues["gray"], depth, x)


def _dots(
    rng: Generator,
    count: int,
    center: "NDArray[np.float64]",
    reach: tuple[float, float],
    *,
    radius_px: tuple[float, float],
) -> "Plane":
    """Cover small discs in the ellipse of the given center and reach, both (row, column)."""
    canvas = np.zeros((SLICE_SIZE, SLICE_SIZE), np.uint8)
    for _ in range(count):
        angle, distance = rng.uniform(0.0, 2.0 * np.pi), np.sqrt(rng.uniform())
        row, column = center + distance * np.array(reach) * (np.sin(angle), np.cos(angle))
        # Sixteenths of a pixel: the last argument says that four bits are a fraction.
        at = (int(16 * column), int(16 * row))
        cv2.circle(canvas, at, int(16 * rng.uniform(*radius_px)), (255,), cv2.FILLED, cv2.LINE_AA, 4)
    return canvas / 255.0


def _paint(rng: Generator, head: _Head) -> "Plane":
    """Give every tissue its signal, (channel, row, column); white matter is 1."""
    fat_in_flair = rng.uniform(0.5, 2.3)  # low where the sequence suppresses fat
    fluid = (rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.55), rng.uniform(0.25, 0.5))
    fat = (rng.uniform(1.6, 2.6), fat_in_flair, rng.uniform(1.6, 2.6))
    gray = rng.uniform(0.7, 0.92)
    signals = {
        "fat": fat,
        "bone": (0.15, 0.15, 0.15),
        "marrow": (1.3, 0.7 * fat_in_flair, 1.3),
        "csf": fluid,
        "white": (1.0, 1.0, 1.0),
        "gray": (gray, rng.uniform(1.02, 1.25), gray + 0.03),
        "spots": (0.9, rng.uniform(1.3, 1.7), 0.92),
        "fluid": fluid,
        "choroid": (0.6, 0.9, rng.uniform(1.2, 2.2)),
        "vessels": (0.85, 0.75, rng.uniform(1.3, 2.6)),
        "muscle": (0.7, 0.6, 0.9),
        "face fat": fat,
        "air": (0.05, 0.05, 0.05),
        "orbital fat": fat,
        "vitreous": (0.35, 0.25, 0.38),
        "lens": (0.9, 0.7, 0.9),
    }
    signal = np.zeros((len(CHANNELS), SLICE_SIZE, SLICE_SIZE))
    for tissue, cover in head.tissues.items():
        for plane, value in zip(signal[:, *head.window], signals[tissue], strict=True):
            plane += cover * (value - plane)
    return signal


def _grow_lesion(rng: Generator, head: _Head) -> "NDArray[np.uint8]":
    """Draw the mask: the brain's pixels that a smooth random field around one focus or two likes best."""
    brain = head.parenchyma > 0.5
    if not brain.any():  # At the vertex bone may leave none: the lesion is where it would be.
        brain = head.depth_px > head.depth_px.max() - 3.0
    smallest, largest = LESION_AREA_PX
    largest = max(1, min(largest, int(_MAX_LESION_SHARE * np.count_nonzero(brain))))
    area = int(smallest * (largest / smallest) ** rng.beta(1.8, 1.2))
    radius = np.sqrt(area / np.pi)

    deep = np.flatnonzero(brain & (head.cortex < 0.5))
    if not deep.size:  # Near the vertex all of it may be cortex.
        deep = np.flatnonzero(brain)
    rows, columns = np.indices(brain.shape, dtype=np.float64)
    row, column = np.unravel_index(rng.choice(deep), brain.shape)
    stretch, angle = rng.uniform(1.0, 1.6), rng.uniform(0.0, np.pi)
    along = (np.cos(angle) * (rows - row) + np.sin(angle) * (columns - column)) / (radius * stretch)
    across = (np.cos(angle) * (columns - column) - np.sin(angle) * (rows - row)) / (radius / stretch)
    liking = -np.sqrt(along**2 + across**2)
    if rng.uniform() < 0.15:
        row, column = np.unravel_index(rng.choice(deep), brain.shape)
        liking = np.maximum(liking, -np.hypot(rows - row, columns - column) / (radius * rng.uniform(0.5, 0.9)))
    liking -= 0.8 * (head.midline_px * head.midline_px[row, column] < 0.0)  # the falx is in the way
    liking += 0.22 * _noise(rng, max(1.1 * radius, 6.0))[head.window]
    liking -= rng.uniform(0.0, 0.4) * head.cortex  # infiltration follows the white matter, in fingers

    # Smoothed, so that a pixel of noise is no island; ranked, so that the area is the one that was drawn.
    liking = np.where(brain, cv2.GaussianBlur(liking, (0, 0), 0.8), -np.inf)
    mask = np.zeros((SLICE_SIZE, SLICE_SIZE), np.uint8)
    best = np.argsort(liking, axis=None, kind="stable")[-area:]
    mask[head.window][np.unravel_index(best, brain.shape)] = 1
    return mask


def _paint_lesion(rng: Generator, signal: "Plane", mask: "NDArray[np.uint8]") -> None:
    """Change the signal where the lesion is: bright in FLAIR, mostly dark in T1, at times with an enhancing ring."""
    # OpenCV's distances are 32-bit and vary in the last bits; their squares are whole numbers, and so exact.
    squared = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64) ** 2
    depth = np.sqrt(np.rint(squared))
    core = depth / depth.max()
    soft = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), rng.uniform(0.5, 1.6))
    texture = 1.0 + 0.12 * _noise(rng, 7)
    pre, flair, post = signal
    darkening = soft * rng.uniform(0.0, 0.4) * texture
    pre *= 1.0 - darkening
    post *= 1.0 - darkening
    flair += soft * rng.uniform(0.35, 1.3) * texture * (0.75 + 0.25 * core)
    if rng.uniform() < 0.3 and depth.max() > 6.0:
        ring_at = rng.uniform(0.45, 0.7)
        thickness = rng.uniform(1.2, 2.4)
        patchy = np.clip(0.8 + 0.5 * _noise(rng, 15), 0.0, 1.2)
        post += _cover(thickness - np.abs(depth - ring_at * depth.max())) * patchy * rng.uniform(0.5, 1.2)
        necrosis = _cover(depth - ring_at * depth.max() - 1.0)
        for plane, share in ((pre, 0.3), (flair, rng.uniform(0.0, 0.5)), (post, 0.35)):
            plane *= 1.0 - share * necrosis


def _scan(rng: Generator, signal: "Plane", head: _Head) -> "NDArray[np.uint8]":
    """Add what a scanner adds: coil bias, partial volume, gain and Rician noise."""
    vertex = np.clip((head.level - 0.75) / 0.25, 0.0, 1.0)
    blur = rng.uniform(0.6, 1.0) + vertex * rng.uniform(0.0, 1.2)  # thick slices cut the vertex at a slant
    coil = _noise(rng, 160)[head.window]
    near_coil = rng.uniform(0.0, 0.35) * np.exp(-np.maximum(head.depth_px, 0.0) / 18.0)
    imaginary = rng.standard_normal((SLICE_SIZE, SLICE_SIZE), np.float32)  # felt in the air alone, so one serves all
    image = np.empty((SLICE_SIZE, SLICE_SIZE, len(CHANNELS)), np.uint8)
    for channel, plane in enumerate(signal):
        gain = rng.uniform(45.0, 95.0)
        bias = 1.0 + np.clip(rng.uniform(0.0, 0.14) * coil, -0.35, 0.35) + near_coil
        plane[head.window] *= bias * gain
        clean = cv2.GaussianBlur(plane, (0, 0), blur)
        sigma = rng.uniform(0.3, 3.5)
        real = rng.standard_normal((SLICE_SIZE, SLICE_SIZE), np.float32)
        noisy = np.sqrt((clean + sigma * real) ** 2 + (sigma * imaginary) ** 2)
        image[..., channel] = np.clip(np.rint(noisy), 0.0, 255.0)
    # Where a sequence was never taken, the set that the networks know shows FLAIR in its place.
    missing = rng.choice((0, 1, 2), p=(0.06, 0.88, 0.06))
    image[..., missing] = image[..., CHANNELS.index("FLAIR")]
    return image
