"""How long does one slice take when nothing else is asked? MLPerf's single stream.

One user, who asks again as soon as the answer is there. Read p90, as MLPerf does.
"""

from loadtests.settings import Settings
from loadtests.stage import Stage, warm_up_of

DURATION_S = 30.0


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    duration_s = settings.duration_s or DURATION_S
    return [Stage("single stream", duration_s, users=1, warm_up_s=warm_up_of(duration_s))]
