"""A folder of slices, sixteen at a time; a broken file costs only itself: `python folder.py FOLDER`."""

import argparse
from pathlib import Path

from gliogate import Client, GliogateError, find_scans

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)

slices = [scan.path for scan in find_scans([parser.parse_args().folder])]
with Client() as client:
    for path, result in zip(slices, client.analyze_many(slices, on_error="return"), strict=True):
        if isinstance(result, GliogateError):
            print(f"{path.name}: {result}")
        else:
            print(f"{path.name}: {result.verdict}, {result.area_px} pixels")
