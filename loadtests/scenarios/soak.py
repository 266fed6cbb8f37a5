"""Does anything grow, leak or wear out over hours at a steady rate?

Open loop, an hour unless `--duration` says more. Compare the first and the last part of the percentiles over time, and
this run with an earlier one by `--baseline`.
"""

from loadtests.arrivals import Arrivals, Flat
from loadtests.settings import Settings
from loadtests.stage import Stage

RATE, DURATION_S = 10.0, 3600.0


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    arrivals = Arrivals(Flat(settings.rate or RATE), settings.process, settings.seed)
    return [Stage("soak", settings.duration_s or DURATION_S, arrivals, warm_up_s=1.0)]
