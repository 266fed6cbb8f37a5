"""Pictures of slices: red for what is true, green for what was predicted, as bright as they can be."""

import base64

import cv2
import numpy as np

from gliogate.phantom import make_phantom
from reports.pictures import panels


def test_panels_show_what_is_true_in_red_and_what_was_predicted_in_green():
    phantom = make_phantom(30, tumor=True)
    truth, predicted = phantom.mask, np.zeros((256, 256), np.uint8)
    predicted[20:40, 20:40] = 1
    shown = [decode(url) for url in panels(phantom.image, truth, predicted)]
    _, true_mask, with_true, predicted_mask, with_predicted = shown
    np.testing.assert_array_equal(true_mask[..., 0], truth * 255)
    np.testing.assert_array_equal(predicted_mask[..., 0], predicted * 255)
    blue, green, red = np.moveaxis(with_true[truth > 0].astype(int), -1, 0)
    assert red.mean() > green.mean() + 20 > blue.mean()
    blue, green, red = np.moveaxis(with_predicted[predicted > 0].astype(int), -1, 0)
    assert green.mean() > red.mean() + 20
    flair = phantom.image[..., 1] // 4
    dark = np.repeat(flair[..., None], 3, axis=2)
    scan = decode(panels(dark, truth, predicted).scan)[..., 0].astype(int)
    brightened = np.minimum(flair * (255 / np.percentile(flair, 99.8)), 255)
    assert np.abs(scan - brightened).mean() < 4, "as bright as it can be"


def decode(url):
    data = base64.b64decode(url.partition("base64,")[2])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
