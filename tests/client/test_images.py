"""How pictures of every kind become slices, masks go back onto their grid, and what is no picture is named."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from gliogate import ImageError, images
from gliogate.images import EXTENSIONS, SliceGeometry, load_picture, read_pixels
from gliogate.picture_size import picture_size

RGB = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
"""Red, green, blue = pre-contrast, FLAIR, post-contrast."""


def write(path: Path, pixels: np.ndarray) -> Path:
    """Writes pixels, RGB where they are color, in the format of the path's extension."""
    if path.suffix.lower() == ".npy":
        with path.open("wb") as file:  # np.save would append .npy to .NPY
            np.save(file, pixels)
    else:
        bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        path.write_bytes(cv2.imencode(path.suffix, bgr)[1].tobytes())
    return path


@pytest.mark.parametrize("extension", [*EXTENSIONS, ".TIF", ".NPY"])
def test_a_file_of_every_kind_has_its_channels_in_order(tmp_path, extension):
    flat = np.full((40, 30, 3), (200, 100, 50), np.uint8)

    picture = load_picture(write(tmp_path / f"größe_1{extension}", flat))

    assert picture.shape == flat.shape
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - flat).max() <= (3 if "jp" in extension else 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_color_files_of_any_depth_have_their_channels_in_order(tmp_path, dtype):
    ramps = np.stack([np.tile(np.linspace(0, 200, 256), (40, 1)) ** power for power in (1, 0.75, 0.5)], axis=2)
    path = tmp_path / "deep.tif"
    uncompressed = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    cv2.imwrite(str(path), ramps.astype(dtype)[..., ::-1], uncompressed)

    assert np.array_equal(load_picture(path), load_picture(ramps.astype(dtype)))


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 1)])
def test_grey_stands_in_all_three_channels(shape):
    grey = RGB[..., 0].reshape(shape)

    picture = load_picture(grey)

    assert picture.shape == (40, 30, 3)
    assert all(np.array_equal(picture[..., channel], RGB[..., 0]) for channel in range(3))


def test_a_path_may_be_text(tmp_path):
    assert np.array_equal(load_picture(str(write(tmp_path / "a.png", RGB))), RGB)


def test_uint8_is_taken_as_it_is():
    assert np.array_equal(load_picture(RGB), RGB)
    assert load_picture(RGB // 4).max() == 63


def test_the_caller_may_reuse_the_array():
    buffer = RGB.copy()
    picture = load_picture(buffer)
    buffer[:] = 0

    assert np.array_equal(picture, RGB)


@pytest.mark.parametrize("dtype", ["int8", "uint16", ">i2", "int32", "uint64", "float16", "float32", "float64"])
def test_wider_types_are_stretched_from_the_minimum_to_the_top_percentile(dtype):
    ramp = np.linspace(-50, 50, 10_000).reshape(100, 100) + (50 if "u" in dtype else 0)

    picture = load_picture(ramp.astype(dtype))[..., 0]

    assert picture[0, 0] == 0
    assert picture[-1, -1] == 255
    assert abs(int(picture[50, 0]) - 128) <= 2


def test_each_channel_is_stretched_by_itself_and_a_few_hot_pixels_do_not_darken_it():
    channels = np.stack([np.tile(np.arange(100.0), (100, 1)) * scale for scale in (1, 10, 0)], axis=2)
    channels[0, 0, 0] = 1e6

    picture = load_picture(channels)

    assert picture[5, :, 0].tolist() == picture[5, :, 1].tolist()
    assert picture[5, 99, 0] == 255
    assert not picture[..., 2].any()  # A constant channel is black.


def test_a_single_bright_pixel_still_shows():
    sparse = np.zeros((100, 100), np.uint16)
    sparse[3, 4] = 9

    assert load_picture(sparse)[3, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((0, 5), np.uint8), r"shape \(0, 5\): no pixels"),
        (np.zeros(7, np.uint8), r"shape \(7,\), expected \(H, W\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\), expected"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\), expected"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\), expected"),
        (np.zeros((4, 4), bool), "type bool, expected integers or floats"),
        (np.zeros((4, 4), complex), "type complex128"),
        (np.full((4, 4), "a"), "type <U1"),
        (np.full((4, 4), None), "type object"),
        ([[1, 2], [3, 4]], "a path or a NumPy array, not list"),
        (b"bytes", "not bytes"),
    ],
)
def test_an_array_that_is_no_picture(array, told):
    with pytest.raises(ImageError, match=told):
        load_picture(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_values_that_are_no_numbers_are_counted_and_located(value):
    array = np.zeros((5, 6, 3), np.float32)
    array[2, 3, 1] = array[4, 5, 0] = value

    with pytest.raises(
        ImageError, match=r"2 values that are NaN, infinite or beyond 1e\+30, the first at row 2, column 3, channel 1"
    ):
        load_picture(array)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_named_and_nothing_else_is_printed(tmp_path, capfd, extension, share):
    path = write(tmp_path / f"cut{extension}", RGB)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(ImageError, match=f"cut{extension}: "):
        load_picture(path)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_file_of_something_else(tmp_path, capfd, extension):
    path = tmp_path / f"letter{extension}"
    path.write_text("Dear Doctor,\nthe scan is attached.\n" * 100)

    with pytest.raises(ImageError, match=f"letter{extension}: "):
        load_picture(path)

    assert capfd.readouterr() == ("", "")


def test_files_that_are_not_there_or_cannot_be_pictures(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.txt").write_text("…")

    with pytest.raises(ImageError, match=r"gone\.png: No such file"):
        load_picture(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"folder\.png: is a folder"):
        load_picture(tmp_path / "folder.png")
    with pytest.raises(ImageError, match=r"notes\.txt: cannot read \.txt, only \.bmp, "):
        load_picture(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("name", "told"),
    [("x" * 300 + ".tif", "File name too long"), ("a\0.tif", "no path that"), ("\ud800.png", "no path that")],
)
@pytest.mark.parametrize("suffix", ["", ".npy"])
def test_paths_that_no_file_can_have(name, told, suffix):
    with pytest.raises(ImageError, match=told):
        load_picture(name + suffix)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_a_picture_as_an_array_is():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)

    assert np.array_equal(load_picture(np.asmatrix(grey)), load_picture(grey))


def test_a_pickle_in_an_npy_file_is_not_run(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive", RGB)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")

    with pytest.raises(ImageError, match=r"evil\.npy: is no whole \.npy file"):
        load_picture(tmp_path / "evil.npy")
    with pytest.raises(ImageError, match=r"archive\.npy: is an \.npz archive"):
        load_picture(tmp_path / "archive.npy")


def test_a_bad_array_in_a_file_is_named_by_the_file(tmp_path):
    with pytest.raises(ImageError, match=r"four\.npy: has shape \(1, 2, 3, 4\)"):
        load_picture(write(tmp_path / "four.npy", np.zeros((1, 2, 3, 4))))


def test_an_opaque_alpha_channel_is_dropped_and_any_other_fourth_channel_refused(tmp_path):
    opaque = np.dstack([RGB[..., ::-1], np.full(RGB.shape[:2], 255, np.uint8)])
    cv2.imwrite(str(tmp_path / "opaque.png"), opaque)
    opaque[:10, :, 3] = 0
    cv2.imwrite(str(tmp_path / "holes.tif"), opaque)

    assert np.array_equal(load_picture(tmp_path / "opaque.png"), RGB)
    with pytest.raises(ImageError, match=r"holes\.tif: has a fourth channel"):
        load_picture(tmp_path / "holes.tif")


@pytest.fixture
def decoded(monkeypatch):
    """What OpenCV was asked to decode: nothing, where the header is enough to refuse a file."""
    asked = []
    for decoder in ("imdecode", "imdecodemulti"):
        monkeypatch.setattr(cv2, decoder, lambda *arguments: asked.append(arguments))
    return asked


def test_a_tiff_of_many_pages_is_refused(tmp_path, decoded):
    cv2.imwritemulti(str(tmp_path / "volume.tif"), [RGB, RGB, RGB])

    with pytest.raises(ImageError, match=r"volume\.tif: has 3 pages: .* analyze_many"):
        load_picture(tmp_path / "volume.tif")

    assert not decoded


def test_numbers_too_large_to_reckon_with_are_told(tmp_path):
    with pytest.raises(ImageError, match=r"big\.npy: has 2 values that are NaN, infinite or beyond 1e\+30"):
        load_picture(write(tmp_path / "big.npy", np.array([[1e308, -1e308], [0, 1]])))


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_file_that_declares_too_many_pixels_is_not_decoded(tmp_path, monkeypatch, decoded, extension):
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 30 - 1)

    with pytest.raises(ImageError, match=rf"bomb\{extension}: has 40 x 30 pixels, expected at most 1199"):
        load_picture(write(tmp_path / f"bomb{extension}", RGB))

    assert not decoded


def tiff(order: str, *tags: tuple[int, int], big: bool = False, following: int = 0) -> bytes:
    """The header of a TIFF and its first page."""
    letters = {"<": b"II", ">": b"MM"}[order]
    if big:
        start = letters + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, len(tags))
        entries = (struct.pack(f"{order}HHQQ", tag, 16, 1, value) for tag, value in tags)
        return start + b"".join(entries) + struct.pack(f"{order}Q", following)
    start = letters + struct.pack(f"{order}HIH", 42, 8, len(tags))
    entries = (struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    return start + b"".join(entries) + struct.pack(f"{order}I", following)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_the_size_of_a_tiff_is_that_of_its_tiles_where_they_are_larger(order, big):
    assert picture_size(tiff(order, (256, 30), (257, 40), big=big)) == (40, 30, 1, False)
    assert picture_size(tiff(order, (256, 30), (257, 40), (322, 30_000), (323, 9), big=big)) == (40, 30_000, 1, False)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_lowest_value_is_white_is_not_inverted(tmp_path, dtype):
    picture = np.arange(64 * 64).reshape(64, 64) % 251
    stored = np.iinfo(dtype).max - picture.astype(dtype)
    tags = ((256, 64), (257, 64), (258, stored.itemsize * 8), (259, 1), (262, 0), (273, 8 + 2 + 12 * 9 + 4))
    tags += ((277, 1), (278, 64), (279, stored.nbytes))
    (tmp_path / "head.tif").write_bytes(tiff("<", *tags) + stored.tobytes())

    assert np.array_equal(read_pixels(tmp_path / "head.tif"), picture)


def test_a_jpeg_is_turned_as_its_camera_says(tmp_path):
    picture = np.zeros((64, 128), np.uint8)
    picture[:, :64] = 200
    # Orientation 6: to be turned by a quarter, clockwise.
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 6, 0)
    plain = write(tmp_path / "head.jpg", picture).read_bytes()
    (tmp_path / "head.jpg").write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])

    pixels = read_pixels(tmp_path / "head.jpg")

    assert pixels.shape == (128, 64)
    assert pixels[:60].mean() > 190
    assert pixels[68:].mean() < 10


def test_a_tiff_that_leads_back_to_itself_or_out_of_itself_ends():
    assert picture_size(tiff("<", (256, 30), (257, 40), following=8)) == (40, 30, 1, False)
    assert picture_size(tiff("<", (256, 30), (257, 40), following=2**32 - 1)) is None
    assert picture_size(tiff("<", (256, 30), (257, 40), following=2**64 - 1, big=True)) is None


def test_a_bmp_whose_rows_run_down_has_a_size(tmp_path):
    data = bytearray(write(tmp_path / "a.bmp", RGB).read_bytes())
    data[22:26] = struct.pack("<i", -40)

    assert picture_size(bytes(data)) == (40, 30, 1, False)


@pytest.mark.parametrize("step", ["imdecode", "merge"])
@pytest.mark.parametrize("error", [cv2.error("Insufficient memory"), MemoryError("Unable to allocate")])
def test_too_little_memory_is_told(tmp_path, monkeypatch, step, error):
    path = write(tmp_path / "a.png", RGB)

    def fail(*_):
        raise error

    monkeypatch.setattr(cv2, step, fail)

    with pytest.raises(ImageError, match=r"a\.png: .*(Insufficient memory|Unable to allocate)"):
        load_picture(path)


def test_a_slice_is_left_as_it_is_in_both_directions():
    picture = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    mask = (picture[..., 0] > 127).astype(np.uint8)
    geometry = SliceGeometry(256, 256)

    assert geometry.to_slice(picture) is picture
    mask.flags.writeable = False  # As what comes from the wire is.
    back = geometry.mask_to_picture(mask)
    assert np.array_equal(back, mask)
    assert back.flags.writeable


@pytest.mark.parametrize("size", [(512, 512), (100, 60), (64, 400), (1, 1), (1, 999), (257, 255), (2000, 1500)])
def test_a_mask_comes_back_where_it_was(size):
    height, width = size
    disk = np.zeros(size, np.uint8)
    center, radius = (width // 2, height // 2), min(size) // 3
    cv2.circle(disk, center, radius, 1, -1)
    geometry = SliceGeometry(height, width)

    on_slice = geometry.to_slice(np.repeat(disk[..., np.newaxis] * 255, 3, axis=2))[..., 0]
    back = geometry.mask_to_picture((on_slice > 127).astype(np.uint8))

    assert on_slice.shape == (256, 256)
    assert back.shape == size
    assert back.dtype == np.uint8
    if radius > 10:
        assert 2 * np.count_nonzero(back & disk) / (back.sum() + disk.sum()) > 0.97


def test_a_picture_keeps_its_proportions_and_is_centered_on_black():
    on_slice = SliceGeometry(100, 50).to_slice(np.full((100, 50, 3), 200, np.uint8))

    rows, columns = np.nonzero(on_slice[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 255, 64, 191)
    assert on_slice[:, 64:192].min() == 200


def test_a_fine_pattern_does_not_alias_when_it_is_shrunk():
    checkers = np.indices((1024, 1024)).sum(axis=0) % 2 * np.uint8(255)

    on_slice = SliceGeometry(1024, 1024).to_slice(np.repeat(checkers[..., np.newaxis], 3, axis=2).astype(np.uint8))

    assert set(np.unique(on_slice)) <= {127, 128}
