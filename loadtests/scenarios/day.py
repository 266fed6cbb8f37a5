"""Does the service hold through a working day, from quiet nights to a busy noon?

Open loop: a sinusoid from a tenth of the rate up to the rate and back, a day in a few minutes.
"""

from loadtests.arrivals import Arrivals, Wave
from loadtests.settings import Settings
from loadtests.stage import Stage

RATE, DURATION_S, NIGHT = 20.0, 240.0, 0.1


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    rate, duration_s = settings.rate or RATE, settings.duration_s or DURATION_S
    profile = Wave(NIGHT * rate, rate, duration_s)
    return [Stage("working day", duration_s, Arrivals(profile, settings.process, settings.seed))]
