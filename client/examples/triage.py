"""Which slices to look at first: the detector alone, in asyncio, as answers come. `python triage.py FOLDER`."""

import asyncio
import sys
from pathlib import Path

from gliogate import AsyncClient


async def main() -> None:
    """Asks about every slice at once; the client keeps them on one connection."""
    slices = sorted(Path(sys.argv[1]).glob("*.png"))
    async with AsyncClient() as client:
        found = await asyncio.gather(*(client.detect(path, timeout_s=30) for path in slices))
    ranked = sorted(zip(found, slices, strict=True), key=lambda pair: -pair[0].tumor_probability)
    for detection, path in ranked:
        print(f"{detection.tumor_probability:.3f} {path.name}")


asyncio.run(main())
