"""Makes `docs/phantoms.png`, the README's picture: `python docs/phantoms.py`."""

from pathlib import Path

import cv2
import numpy as np

from gliogate import Client
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.overlays import KNOWN, paint_mask
from gliogate.phantom import make_phantoms

COLUMNS, COUNT, SEED = 6, 6, 4


def main() -> None:
    """Serves, analyzes and paints."""
    phantoms = list(make_phantoms(COUNT, prevalence=0.7, seed=SEED))
    with EmbeddedServer(find_model_repository(None)) as server, Client(server.url) as client:
        analyses = list(client.analyze_many(phantom.image for phantom in phantoms))
    pictures = [
        paint_mask(analysis.overlay(), phantom.mask, color=KNOWN, fill=0)
        for analysis, phantom in zip(analyses, phantoms, strict=True)
    ]
    rows = [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, COUNT, COLUMNS)]
    cv2.imwrite(str(Path(__file__).with_suffix(".png")), np.vstack(rows)[..., ::-1])


if __name__ == "__main__":
    main()
