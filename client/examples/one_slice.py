"""One slice: is there tumor, and where? `python one_slice.py slice.tif`; the server is that of GLIOGATE_URL."""

import sys

import cv2

from gliogate import Client

with Client() as client:
    analysis = client.analyze(sys.argv[1])

print(f"{analysis.verdict}, probability {analysis.tumor_probability:.3f}")
if analysis.segmented:
    print(f"{analysis.area_px} pixels in {analysis.bounding_box}")
    cv2.imwrite("overlay.png", analysis.overlay()[..., ::-1])
