"""How long does a query of eight slices take when nothing else is asked? MLPerf's multi stream.

One user, whose queries hold eight slices, all under way together. Read p99 of a whole query, as MLPerf does.
"""

from loadtests.calls import Call, Mix
from loadtests.settings import Settings
from loadtests.stage import Stage, warm_up_of

SLICES, DURATION_S = 8, 30.0


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    query = Call("query of 8", slices=SLICES, in_flight=SLICES)
    duration_s = settings.duration_s or DURATION_S
    return [Stage("multi stream", duration_s, users=1, mix=Mix((query,)), warm_up_s=warm_up_of(duration_s))]
