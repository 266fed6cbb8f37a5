"""How many slices a second, when all are there beforehand and only the total counts? MLPerf's offline.

512 slices, of which 64 are under way at a time until all are answered. Read slices/s.
"""

from loadtests.settings import Settings
from loadtests.stage import Stage

SLICES, IN_FLIGHT = 512, 64
LONGEST_S = 3600.0


def stages(settings: Settings) -> list[Stage]:
    """One stage, which ends with the last slice: each is a request of its own, so one that fails is one that fails."""
    return [Stage("offline", settings.duration_s or LONGEST_S, users=IN_FLIGHT, calls=SLICES)]
