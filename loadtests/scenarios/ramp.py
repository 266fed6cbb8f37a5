"""How does throughput grow with users who wait for their answers, and where does it stop growing?

Closed loop: 1, 2, 4 … users, each of whom asks again as soon as the answer is there.
"""

from loadtests.settings import Settings
from loadtests.stage import Stage, warm_up_of

USERS, STAGE_S = 32, 10.0


def stages(settings: Settings) -> list[Stage]:
    """A stage for every doubling, up to `--users`."""
    most = settings.users or USERS
    counts = sorted({*(2**power for power in range(most.bit_length())), most})
    counts = [count for count in counts if count <= most]
    each_s = settings.duration_s / len(counts) if settings.duration_s else STAGE_S
    warm_up_s = warm_up_of(each_s)
    return [Stage(f"{count} user{'s' * (count > 1)}", each_s, users=count, warm_up_s=warm_up_s) for count in counts]
