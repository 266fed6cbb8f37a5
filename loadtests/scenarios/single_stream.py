"""How long does one slice take when nothing else is asked? MLPerf's single stream.

One user, who asks again as soon as the answer is there. Read p90, as MLPerf does.
"""

from loadtests.settings import Settings
from loadtests.stage import Stage


def stages(settings: Settings) -> list[Stage]:
    """One stage."""
    return [Stage("single stream", settings.duration_s or 30.0, users=1, warm_up_s=1.0)]
