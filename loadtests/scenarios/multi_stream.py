"""How long does a query of eight slices take when nothing else is asked? MLPerf's multi stream.

One user, whose queries hold eight slices, all under way together. Read p99 of a whole query, as MLPerf does.
"""

from loadtests.calls import Call, Mix
from loadtests.settings import Settings
from loadtests.stage import Stage

SLICES = 8


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    query = Call("query of 8", slices=SLICES, in_flight=SLICES)
    return [Stage("multi stream", settings.duration_s or 30.0, users=1, mix=Mix((query,)), warm_up_s=1.0)]
