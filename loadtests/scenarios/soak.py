"""Does anything grow, leak or wear out over hours at a steady rate?

Open loop, an hour unless `--duration` says more. Compare the first and the last part of the percentiles over time, and
this run with an earlier one by `--baseline`.
"""

from loadtests.arrivals import Arrivals, Flat
from loadtests.settings import Settings
from loadtests.stage import Stage, warm_up_of

RATE, DURATION_S = 10.0, 3600.0


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    arrivals = Arrivals(Flat(settings.rate or RATE), settings.process, settings.seed)
    duration_s = settings.duration_s or DURATION_S
    return [Stage("soak", duration_s, arrivals, warm_up_s=warm_up_of(duration_s))]
