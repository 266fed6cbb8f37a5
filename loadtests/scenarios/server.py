"""What do users see who come at random, whatever became of those before them? MLPerf's server.

Open loop at one rate. With `--find-max --slo …`: how many can come until they see worse than that?
"""

from loadtests.arrivals import Arrivals, Flat
from loadtests.settings import Settings
from loadtests.stage import Stage, warm_up_of

RATE, DURATION_S = 10.0, 30.0


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    rate, duration_s = settings.rate or RATE, settings.duration_s or DURATION_S
    arrivals = Arrivals(Flat(rate), settings.process, settings.seed)
    return [Stage(f"server at {rate:g}/s", duration_s, arrivals, warm_up_s=warm_up_of(duration_s))]
