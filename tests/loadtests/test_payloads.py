"""What is sent: no two requests alike, as many with tumor as was said, or a folder's own pictures."""

import cv2
import numpy as np
import pytest

from gliogate.phantom import make_phantoms
from loadtests.errors import SettingsError
from loadtests.payloads import Phantoms, Pictures

COUNT = 6


@pytest.mark.parametrize("prevalence", [0.0, 0.35, 1.0])
def test_phantoms_are_those_of_the_series_but_for_their_stamp(prevalence):
    pool = Phantoms(COUNT, seed=2).at(prevalence)
    for number, phantom in enumerate(make_phantoms(COUNT, prevalence=prevalence, seed=2)):
        [sent] = pool.take(number)
        np.testing.assert_array_equal(sent[1:], phantom.image[1:])
        np.testing.assert_array_equal(sent[0, 4:], phantom.image[0, 4:])


def test_no_two_requests_are_alike():
    pool = Phantoms(COUNT).at(0.35)
    sent = {pool.take(number)[0].tobytes() for number in range(10 * COUNT)}
    assert len(sent) == 10 * COUNT
    assert len({slice_.tobytes() for slice_ in pool.take(0, count=3 * COUNT)}) == 3 * COUNT


def test_no_two_slices_of_several_queries_are_alike():
    pool = Phantoms(COUNT).at(0.35)
    assert len({slice_.tobytes() for number in range(20) for slice_ in pool.take(number, count=8)}) == 160


def test_a_folder_is_sent_as_it_is(tmp_path):
    picture = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    pool = Pictures(tmp_path).at(None)
    for number in (0, 1, 7):
        np.testing.assert_array_equal(pool.take(number)[0], picture)


def test_broken_files_of_a_folder_are_all_named(tmp_path):
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((8, 8), np.uint8))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "empty.tif").write_bytes(b"")
    with pytest.raises(
        SettingsError, match=r"payloads: 2 of 3 pictures cannot be read: .*bad\.png: .*empty\.tif: is empty"
    ):
        Pictures(tmp_path).at(None)


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"--payloads: .*no scans in this folder"):
        Pictures(tmp_path).at(None)
    with pytest.raises(SettingsError, match=r"--payloads: .*nowhere: there is no such folder"):
        Pictures(tmp_path / "nowhere").at(None)
