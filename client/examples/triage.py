"""Which slices to look at first: the detector alone, in asyncio, as answers come. `python triage.py FOLDER`."""

import asyncio
import sys
from pathlib import Path

from gliogate import AsyncClient, Detection


async def main() -> None:
    """Asks about every slice at once; the client keeps them on one connection."""
    slices = sorted(Path(sys.argv[1]).glob("*.png"))
    async with AsyncClient() as client:
        asked = (client.detect(path, timeout_s=30) for path in slices)
        found = list(zip(await asyncio.gather(*asked, return_exceptions=True), slices, strict=True))
    for error, path in found:
        if isinstance(error, BaseException):
            print(f"look at {path.name}: {error}")
    judged = [(each.tumor_probability, path) for each, path in found if isinstance(each, Detection)]
    for probability, path in sorted(judged, reverse=True):
        print(f"{probability:.3f} {path.name}")


asyncio.run(main())
