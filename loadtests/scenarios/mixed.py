"""What do users of one kind see when those of other kinds are there too?

Open loop: half the calls go through the gate, a quarter asks the detector only, an eighth has every slice outlined, and
an eighth sends eight slices together. Each kind has its own line in the report.
"""

from loadtests.arrivals import Arrivals, Flat
from loadtests.calls import ALWAYS, BATCH, DETECTOR, GATED, Mix
from loadtests.settings import Settings
from loadtests.stage import Stage, warm_up_of

RATE, DURATION_S = 8.0, 30.0
MIX = Mix((GATED, DETECTOR, ALWAYS, BATCH), (4, 2, 1, 1))


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    arrivals = Arrivals(Flat(settings.rate or RATE), settings.process, settings.seed)
    duration_s = settings.duration_s or DURATION_S
    return [Stage("mixed", duration_s, arrivals, mix=MIX, warm_up_s=warm_up_of(duration_s))]
