"""`locust -f loadtests/locustfile.py`: the same load by Locust's own command line, web UI, `--headless` and workers.

Without `--scenario` the users are as many as Locust is told, and ask again as soon as they were answered. With it, the
scenario says how many there are. The report is written when a test stops, whoever stops it.
"""

# isort: split
from loadtests import patched  # noqa: F401  before anything else

# isort: split
import math
import sys
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import STATE_RUNNING, MasterRunner, WorkerRunner

from gliogate import GliogateError
from loadtests import scenarios
from loadtests.callers import make_caller
from loadtests.conductor import Conductor
from loadtests.driver import Driver
from loadtests.environment import environment as describe
from loadtests.errors import LoadTestError
from loadtests.fleet import LocalFleet, MasterFleet, WorkerPart
from loadtests.live import LiveLine
from loadtests.options import OUTPUT
from loadtests.report import check_folder, write_report
from loadtests.run import EXIT_USAGE, Run
from loadtests.server_view import ServerView
from loadtests.session import READY_S
from loadtests.settings import Settings, add_arguments
from loadtests.slo import Slo
from loadtests.stage import Stage
from loadtests.users import SliceUser

__all__ = ["SliceUser"]

STOPPING_S = 30.0
"""How long the last answers and the report may take when a test is stopped."""

QUESTION = "What do as many users see as Locust was told?"


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_arguments(parser: Any) -> None:
    add_arguments(parser)
    parser.add_argument("--scenario", choices=scenarios.names(), help="who asks, and when (default: Locust's users)")
    parser.add_argument("--slo", help="objectives, as in 'p99<250ms,errors<0.1%%'; missed ones exit with 1")
    parser.add_argument("--report", default=str(OUTPUT), metavar="DIR", help="folder of the report (%(default)s)")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: Any) -> None:
    """Makes this process's part of the test; ends it with a line where that cannot be."""
    try:
        options: Any = environment.parsed_options
        settings = Settings.of(options)
        slo = Slo.parse(options.slo) if options.slo is not None else None
        stages = scenarios.stages(options.scenario, settings) if options.scenario else [Stage("users", math.inf)]
        check_folder(Path(options.report))
        caller = make_caller(settings)
        caller.wait_until_ready(READY_S)
        SliceUser.driver = Driver(caller, settings.source(), settings.timeout_s)
        for prevalence in settings.prevalence if not isinstance(environment.runner, MasterRunner) else ():
            SliceUser.driver.prepare(prevalence)
    except (LoadTestError, GliogateError, OSError) as error:
        print(f"loadtests: error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    if isinstance(environment.runner, WorkerRunner):
        WorkerPart(environment, SliceUser.driver).listen()
        return
    _Test(environment, settings, slo, stages, caller)


class _Test:
    """Conducts each test that Locust starts, and reports when it stops."""

    def __init__(
        self, environment: Environment, settings: Settings, slo: Slo | None, stages: list[Stage], caller: Any
    ) -> None:
        assert environment.runner is not None  # noqa: S101  Locust made it before `init`
        self._environment, self._runner = environment, environment.runner
        self._settings, self._slo, self._stages = settings, slo, stages
        fleet = MasterFleet(environment) if isinstance(self._runner, MasterRunner) else LocalFleet(SliceUser.driver)
        self._line = LiveLine(quiet=True)
        self._conductor = Conductor(
            self._runner, fleet, ServerView(settings), caller, late_ms=settings.late_ms, show=self._line.show
        )
        self._run = self._begin()
        self._conducting = gevent.Greenlet()
        environment.events.test_start.add_listener(self._start)  # type: ignore[no-untyped-call]
        environment.events.test_stopping.add_listener(self._stop)  # type: ignore[no-untyped-call]

    def _begin(self) -> Run:
        scenario = (self._environment.parsed_options and self._environment.parsed_options.scenario) or ""
        question = scenarios.question(scenario) if scenario else QUESTION
        return Run(scenario or "users", question, describe(), self._slo, settings=self._settings.to_json())

    def _start(self, **_: Any) -> None:
        self._conducting = gevent.spawn(self._conduct)

    def _conduct(self) -> None:
        while self._runner.state != STATE_RUNNING:
            gevent.sleep(0.05)
        for stage in self._stages:
            result = self._conductor.measure(stage)
            self._run.results.append(result)
            self._line.tell(result, self._run.broken(result))
            if self._runner.state != STATE_RUNNING:
                return
        # Its time is over: with the web UI the next test may follow, without it this was all.
        gevent.spawn(self._runner.stop if self._environment.web_ui else self._runner.quit)

    def _stop(self, **_: Any) -> None:
        self._conductor.stop()
        self._conducting.join(STOPPING_S)
        run, self._run = self._run, self._begin()  # Locust stops a test twice: when it is over, and when it quits.
        if run.results:
            options: Any = self._environment.parsed_options
            try:
                print(write_report(Path(options.report), run))
            except LoadTestError as error:
                print(f"loadtests: error: {error}", file=sys.stderr)
            self._environment.process_exit_code = run.exit_code
