"""One slice: is there tumor, and where? `python one_slice.py slice.tif`; the server is that of GLIOGATE_URL."""

import argparse

import cv2

from gliogate import Client

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("picture")

picture = parser.parse_args().picture
with Client() as client:
    analysis = client.analyze(picture)

print(f"{analysis.verdict}, probability {analysis.tumor_probability:.3f}")
if analysis.tumor:
    print(f"{analysis.area_px} pixels in {analysis.bounding_box}")
    cv2.imwrite("overlay.png", analysis.overlay()[..., ::-1])
