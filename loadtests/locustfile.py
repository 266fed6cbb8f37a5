"""`locust -f loadtests/locustfile.py`: the same load by Locust's own command line, web UI, `--headless` and workers.

Without `--scenario` the users are as many as Locust is told, and ask again as soon as they were answered. With it, the
scenario says how many there are. The report is written when a test stops, whoever stops it.
"""

# isort: split
from loadtests import patched  # noqa: F401  before anything else

# isort: split
import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import RLock
from locust import events
from locust.env import Environment
from locust.runners import STATE_RUNNING, MasterRunner, WorkerRunner

from gliogate import GliogateError
from loadtests import scenarios
from loadtests.callers import make_caller
from loadtests.calls import Caller
from loadtests.conductor import Conductor
from loadtests.driver import Driver
from loadtests.errors import FleetError, LoadTestError, SettingsError
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
from reports.environment import environment

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
    """Makes this process's part of the tests; ends it with a line where that cannot be."""
    try:
        if isinstance(environment.runner, WorkerRunner):
            _Worker(environment)
        else:
            _Tests(environment)
    except _ERRORS as error:
        print(f"loadtests: error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


_ERRORS = (LoadTestError, GliogateError, OSError)


@dataclass
class _Equipment:
    """What the options ask for, made anew for each test: in the web UI they may be changed in between."""

    environment: Environment
    settings: Settings = field(default_factory=Settings)
    caller: Caller | None = None

    def renew(self) -> None:
        """Reads the options; makes the driver of this process, unless it is as they want it."""
        settings = Settings.of(self.options)
        if self.caller and settings == self.settings:
            return
        caller = make_caller(settings)
        caller.wait_until_ready(READY_S)
        SliceUser.driver = Driver(caller, settings.source(), settings.timeout_s)
        for prevalence in settings.prevalence if not isinstance(self.environment.runner, MasterRunner) else ():
            SliceUser.driver.prepare(prevalence)
        if self.caller:
            self.caller.close()
        self.settings, self.caller = settings, caller

    @property
    def options(self) -> Any:
        """As the command line, or the web UI after it, has them."""
        return self.environment.parsed_options

    @property
    def slo(self) -> Slo | None:
        """What the stages have to keep to."""
        return Slo.parse(self.options.slo) if self.options.slo else None

    @property
    def stages(self) -> list[Stage]:
        """Those of the scenario, or one without an end, for as many users as Locust has."""
        if self.options.scenario:
            return scenarios.stages(self.options.scenario, self.settings)
        if len(self.settings.prevalence) > 1:
            raise SettingsError("--prevalence has several shares, which needs a --scenario: its stages end")
        return [Stage("users", math.inf, prevalence=self.settings.prevalence[0], seed=self.settings.seed)]


class _Worker:
    """Sends what the master orders, by the master's options, which Locust hands over to its workers."""

    def __init__(self, environment: Environment) -> None:
        self._equipment = _Equipment(environment)
        self._equipment.renew()
        self._part = WorkerPart(environment, SliceUser.driver, self._equipment.settings.shared)
        self._part.listen()
        environment.events.test_start.add_listener(self._start)  # type: ignore[no-untyped-call]

    def _start(self, **_: Any) -> None:
        try:
            self._equipment.renew()
        except _ERRORS as error:
            print(f"loadtests: error: {error}", file=sys.stderr)  # The master finds that the settings differ.
        self._part.driver, self._part.shared = SliceUser.driver, self._equipment.settings.shared


@dataclass
class _Test:
    """One test: what is gone through, by whom, and what came of it."""

    stages: list[Stage]
    run: Run
    conductor: Conductor
    is_stopped: bool = False


class _Tests:
    """Conducts each test that Locust starts, and reports when it stops."""

    def __init__(self, environment: Environment) -> None:
        assert environment.runner is not None  # noqa: S101  Locust made it before `init`
        self._environment, self._runner = environment, environment.runner
        self._equipment, self._line = _Equipment(environment), LiveLine(quiet=True)
        check_folder(Path(self._equipment.options.report))
        self._view = ServerView(self._equipment.settings)
        self._fleet = MasterFleet(environment, {}) if isinstance(self._runner, MasterRunner) else None
        self._test = self._begin()
        self._conducting, self._stopping = gevent.Greenlet(), RLock()
        environment.events.test_start.add_listener(self._start)  # type: ignore[no-untyped-call]
        environment.events.test_stopping.add_listener(self._stop)  # type: ignore[no-untyped-call]

    def _begin(self) -> _Test:
        """What the next test is, by the options as they are now."""
        self._equipment.renew()
        settings, scenario = self._equipment.settings, self._equipment.options.scenario
        stages, caller = self._equipment.stages, self._equipment.caller
        question = scenarios.question(scenario) if scenario else QUESTION
        run = Run(
            scenario or "users",
            question,
            environment(("gliogate", "locust")),
            self._equipment.slo,
            settings=settings.to_json(),
        )
        if self._fleet:
            self._fleet.shared = settings.shared
        assert caller is not None  # noqa: S101  made by `renew`
        fleet = self._fleet or LocalFleet(SliceUser.driver)
        self._view.close()
        self._view, show = ServerView(settings), self._line.show
        conductor = Conductor(self._runner, fleet, self._view, caller, late_ms=settings.late_ms, show=show)
        return _Test(stages, run, conductor)

    def _start(self, **_: Any) -> None:
        try:
            self._test = self._begin()
        except _ERRORS as error:
            print(f"loadtests: error: {error}", file=sys.stderr)
            gevent.spawn(self._runner.stop)
        else:
            self._conducting = gevent.spawn(self._conduct, self._test)

    def _conduct(self, test: _Test) -> None:
        while self._runner.state != STATE_RUNNING:
            # It may be stopped before all of its users were there.
            if test.is_stopped:
                return
            gevent.sleep(0.05)
        for stage in test.stages:
            try:
                result = test.conductor.measure(stage)
            except FleetError as error:
                test.run.problem = str(error)
                print(f"loadtests: {error}", file=sys.stderr)
                break
            test.run.results.append(result)
            self._line.tell(result, test.run.broken(result))
            if test.is_stopped:
                return
        # Its time is over: with the web UI the next test may follow, without it this was all.
        gevent.spawn(self._runner.stop if self._environment.web_ui else self._runner.quit)

    def _stop(self, **_: Any) -> None:
        test = self._test
        test.is_stopped = True
        test.conductor.stop()
        # Locust stops a test twice, when it is over and when it quits: who comes second waits for the report.
        with self._stopping:
            self._conducting.join(STOPPING_S)
            self._conducting.kill()
            run, test.run = test.run, replace(test.run, results=[], problem=None)
            if run.results or run.problem:
                try:
                    print(write_report(Path(self._equipment.options.report), run))
                except LoadTestError as error:
                    print(f"loadtests: error: {error}", file=sys.stderr)
                self._environment.process_exit_code = run.exit_code
