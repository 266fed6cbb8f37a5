"""Which slices to look at first: the detector alone, in asyncio, as answers come: `python triage.py FOLDER`."""

import argparse
import asyncio
from pathlib import Path

from gliogate import AsyncClient, Detection, find_scans


async def triage(folder: Path) -> None:
    """Asks about every slice at once; the client keeps them on one connection."""
    slices = [scan.path for scan in find_scans([folder])]
    async with AsyncClient() as client:
        asked = (client.detect(path, timeout_s=30) for path in slices)
        found = list(zip(await asyncio.gather(*asked, return_exceptions=True), slices, strict=True))
    for error, path in found:
        if isinstance(error, BaseException):
            print(f"look at {path.name}: {error}")
    judged = [(each.tumor_probability, path) for each, path in found if isinstance(each, Detection)]
    for probability, path in sorted(judged, reverse=True):
        print(f"{probability:.3f} {path.name}")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
asyncio.run(triage(parser.parse_args().folder))
