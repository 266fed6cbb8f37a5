"""How many slices a second, when all are there beforehand and only the total counts? MLPerf's offline.

One user, whose single query holds all slices; 64 of them are under way at a time. Read slices/s.
"""

from loadtests.calls import Call, Mix
from loadtests.settings import Settings
from loadtests.stage import Stage

SLICES, IN_FLIGHT = 512, 64
LONGEST_S = 3600.0


def stages(settings: Settings) -> list[Stage]:
    """One stage, which ends with its only query."""
    query = Call(f"query of {SLICES}", slices=SLICES, in_flight=IN_FLIGHT)
    return [Stage("offline", settings.duration_s or LONGEST_S, users=1, calls=1, mix=Mix((query,)))]
