"""How long does a burst of five times the rate hurt, and how soon is it forgotten?

Open loop in one stage: two fifths at the rate, a fifth at five times that, two fifths at the rate again. See the
percentiles over time.
"""

from loadtests.arrivals import Arrivals, Steps
from loadtests.settings import Settings
from loadtests.stage import Stage

RATE, DURATION_S, FACTOR = 8.0, 50.0, 5.0


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    rate, duration_s = settings.rate or RATE, settings.duration_s or DURATION_S
    profile = Steps(((0.4 * duration_s, rate), (0.2 * duration_s, FACTOR * rate), (0.4 * duration_s, rate)))
    return [Stage("spike", duration_s, Arrivals(profile, settings.process, settings.seed))]
