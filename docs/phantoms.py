"""Makes `docs/phantoms.jpg`, the README's picture: `python docs/phantoms.py`."""

from pathlib import Path

import cv2
import numpy as np

from gliogate import Client
from gliogate.demo import PHANTOMS, PREVALENCE
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.overlays import KNOWN, paint_mask
from gliogate.phantom import make_phantoms

COLUMNS = 6
MARGIN = 24
"""Black pixels that are cut off each side of a scan."""


def main() -> None:
    """Serves, analyzes and paints the scans of the demo."""
    phantoms = list(make_phantoms(PHANTOMS, prevalence=PREVALENCE))
    with EmbeddedServer(find_model_repository(None)) as server, Client(server.url) as client:
        analyses = list(client.analyze_many(phantom.image for phantom in phantoms))
    pictures = [
        paint_mask(analysis.overlay(), phantom.mask, color=KNOWN, fill=0)[MARGIN:-MARGIN, MARGIN:-MARGIN]
        for analysis, phantom in zip(analyses, phantoms, strict=True)
    ]
    rows = [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
    cv2.imwrite(str(Path(__file__).with_suffix(".jpg")), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    main()
