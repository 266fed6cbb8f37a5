"""`locust -f loadtests/locustfile.py`: gliogate's client under Locust's own users, shapes, statistics and web UI.

    locust -f loadtests/locustfile.py --host localhost:8001
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 1m --tags gated
    locust -f loadtests/locustfile.py --headless -u 32 -r 32 -t 5m --shape Ramp --csv ramp

It is a closed loop: each user asks again when the last answer is there. `python -m loadtests` has the open loop.
"""

# isort: split
from loadtests import patched  # noqa: F401  before anything else

# isort: split
import logging
import os
import secrets
import sys
import time
from argparse import Namespace
from functools import lru_cache
from itertools import count
from typing import Any, ClassVar

import gevent
from locust import constant, events, tag, task
from locust.env import Environment
from locust.runners import MasterRunner

from gliogate import GliogateError
from gliogate.connection import DEFAULT_URL, URL_VARIABLE
from loadtests import shapes
from loadtests.callers import make_caller
from loadtests.calls import ALWAYS, BATCH, DETECTOR, GATED, Answer, Call, Caller
from loadtests.errors import SettingsError
from loadtests.payloads import Pool
from loadtests.run import EXIT_USAGE
from loadtests.settings import Settings, add_arguments
from loadtests.users import TellingUser


class SliceUser(TellingUser):
    """Somebody with slices to analyze, who makes the calls of scenario `mixed`."""

    wait_time = constant(0)
    host = os.environ.get(URL_VARIABLE, DEFAULT_URL)
    caller: ClassVar[Caller]
    pool: ClassVar[Pool]
    numbers: ClassVar = count(secrets.randbits(35))
    """Of the requests: whichever process sends them, no two hold the same slices."""

    def ask(self, call: Call) -> None:
        """Makes a call, and has Locust count it; not one that is cut off when users are stopped."""
        pictures = self.pool.take(next(self.numbers), call.slices)
        begun, answer, error = time.perf_counter(), Answer(0, 0, 0), None
        try:
            answer = self.caller.ask(call, pictures)
        except GliogateError as failure:
            error = failure
        self.tell(self.caller.protocol, call, time.perf_counter() - begun, answer, error)

    @tag("gated")
    @task(4)
    def gated(self) -> None:
        """Through the gate."""
        self.ask(GATED)

    @tag("detector")
    @task(2)
    def detector(self) -> None:
        """The detector's word only."""
        self.ask(DETECTOR)

    @tag("always")
    @task(1)
    def always(self) -> None:
        """An outline, whatever the detector says."""
        self.ask(ALWAYS)

    @tag("batch")
    @task(1)
    def batch(self) -> None:
        """Eight slices together."""
        self.ask(BATCH)


@lru_cache(maxsize=1)
def _equipment(settings: Settings) -> tuple[Caller, Pool]:
    return make_caller(settings), settings.source().at(settings.prevalence[0])


def _equip(environment: Environment) -> bool:
    """Makes what the users of this process ask with, by the options as they are now; logs why it cannot."""
    try:
        settings = Settings.of(Namespace(**vars(environment.parsed_options), url=environment.host or SliceUser.host))
        if len(settings.prevalence) > 1:
            raise SettingsError("--prevalence has several shares; python -m loadtests runs them one after the other")
        if not isinstance(environment.runner, MasterRunner):
            SliceUser.caller, SliceUser.pool = _equipment(settings)
    except SettingsError as error:
        logging.getLogger(__name__).error(str(error).replace("--url", "--host"))
        return False
    return True


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: Any) -> None:
    add_arguments(parser, ("protocol", "http_url", "ca", "timeout_s", "prevalence", "payloads", "pool", "seed"))
    shapes.add_option(parser)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: Any) -> None:
    logging.getLogger("gliogate").setLevel(logging.WARNING)  # Locust tells of each request that failed already.
    shapes.offer(environment)
    if not _equip(environment):
        sys.exit(EXIT_USAGE)
    gevent.sleep(0)  # Its timers would count from before all this.


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _renew(environment: Environment, **_: Any) -> None:
    """The options may have been changed in the web UI, and a worker has those of its master."""
    if not _equip(environment) and environment.runner:
        gevent.spawn(environment.runner.stop)
