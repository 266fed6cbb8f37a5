"""How do latency and batches change with the rate, from a quarter of it to half as much again?

Open loop, one stage for each rate. The report's first plot, latency against rate, is made of these.
"""

from loadtests.arrivals import Arrivals, Flat
from loadtests.settings import Settings
from loadtests.stage import Stage, warm_up_of

RATE, STAGE_S = 20.0, 15.0
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def stages(settings: Settings) -> list[Stage]:
    """A stage for every rate."""
    rates = [factor * (settings.rate or RATE) for factor in FACTORS]
    each_s = settings.duration_s / len(rates) if settings.duration_s else STAGE_S
    return [
        Stage(
            f"{rate:g}/s",
            each_s,
            Arrivals(Flat(rate), settings.process, settings.seed + number),
            warm_up_s=warm_up_of(each_s),
        )
        for number, rate in enumerate(rates)
    ]
