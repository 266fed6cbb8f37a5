"""What do users see who come at random, whatever became of those before them? MLPerf's server.

Open loop at one rate. With `--find-max --slo …`: how many can come until they see worse than that?
"""

from loadtests.arrivals import Arrivals, Flat
from loadtests.settings import Settings
from loadtests.stage import Stage

RATE = 10.0


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    rate = settings.rate or RATE
    arrivals = Arrivals(Flat(rate), settings.process, settings.seed)
    return [Stage(f"server at {rate:g}/s", settings.duration_s or 30.0, arrivals, warm_up_s=1.0)]
