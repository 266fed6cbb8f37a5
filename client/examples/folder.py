"""A folder of slices, sixteen at a time; a broken file costs only itself. `python folder.py FOLDER`."""

import sys
from pathlib import Path

from gliogate import Client, GliogateError

slices = sorted(Path(sys.argv[1]).glob("*.png"))
with Client() as client:
    for path, result in zip(slices, client.analyze_many(slices, on_error="return"), strict=True):
        if isinstance(result, GliogateError):
            print(f"{path.name}: {result}")
        else:
            print(f"{path.name}: {result.verdict}, {result.area_px} pixels")
