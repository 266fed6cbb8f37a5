"""What can this server do, in two minutes? A little of everything: `make loadtest`."""

from dataclasses import replace

from loadtests.scenarios import mixed, ramp, server, single_stream, spike
from loadtests.settings import Settings
from loadtests.stage import Stage

RATES = (4.0, 8.0, 16.0)


def stages(settings: Settings) -> list[Stage]:
    """A stage or a few of several scenarios."""
    return [
        *single_stream.stages(replace(settings, duration_s=10.0)),
        *(stage for stage in ramp.stages(replace(settings, duration_s=30.0, users=16)) if stage.users in (4, 16)),
        *(stage for rate in RATES for stage in server.stages(replace(settings, duration_s=14.0, rate=rate))),
        *mixed.stages(replace(settings, duration_s=16.0, rate=6.0)),
        *spike.stages(replace(settings, duration_s=24.0, rate=4.0)),
    ]
