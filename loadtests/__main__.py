"""`python -m loadtests`: how much does the server bear, and what do its users see then?"""

# isort: split
from loadtests import interrupts

# isort: split
from loadtests import patched  # noqa: F401  before anything that sends

# isort: split
import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from gliogate import GliogateError
from loadtests import scenarios
from loadtests.calls import Mix
from loadtests.compare import check_comparable, compare, read_results, too_short
from loadtests.conductor import Conductor
from loadtests.errors import FleetError, LoadTestError, SettingsError
from loadtests.live import LiveLine
from loadtests.options import WORKER, make_parser, worker_words
from loadtests.report import check_folder, write_report
from loadtests.result import StageResult
from loadtests.run import EXIT_INTERRUPTED, EXIT_USAGE, Run
from loadtests.search import Plan, Search
from loadtests.session import Team, conducting, embedded, work
from loadtests.settings import Settings
from loadtests.slo import Slo
from loadtests.stage import Stage
from reports.environment import environment

PACKAGES: Final = ("gliogate", "locust", "gevent", "grpcio", "tritonclient", "numpy")


@dataclass(frozen=True)
class _Test:
    """A run that is on, who measures it, and the line that tells of it."""

    run: Run
    conductor: Conductor
    line: LiveLine


class _Stopped(Exception):  # noqa: N818  no error
    """Somebody ended the run, or the server is gone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code.

    0: all is well. 1: an objective was missed, there is a regression, no load passed, or the server was lost. 2: the
    arguments cannot be used, or the server not be reached. 3: the generator fell behind, so the run says nothing of the
    server. 130: Ctrl-C.
    """
    interrupts.raise_on_interrupt()
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="loadtests: %(message)s")
    try:
        settings = Settings.of(arguments)
        if arguments.scenarios == [WORKER]:
            work(settings, arguments.master_host, arguments.master_port)
            return 0
        return _run(arguments, settings)
    except (LoadTestError, GliogateError, OSError) as error:
        print(f"loadtests: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    slo = Slo.parse(arguments.slo) if arguments.slo is not None else None
    if WORKER in arguments.scenarios:
        raise SettingsError(f"{WORKER} stands alone: the master tells it what to send")
    stages = scenarios.all_stages(arguments.scenarios, settings)
    if arguments.find_max and len(arguments.scenarios) > 1:
        raise SettingsError(f"--find-max is of one scenario, here are {', '.join(arguments.scenarios)}")
    if arguments.find_max and arguments.baseline:
        raise SettingsError("--baseline compares stages, --find-max has none that would be the same again")
    baseline = read_results(arguments.baseline) if arguments.baseline else None
    if baseline is not None:
        check_comparable(baseline, stages)
    check_folder(arguments.output)
    plan = _plan(arguments, slo)
    line = LiveLine(stages=0 if arguments.find_max else len(stages))
    run = Run(
        ", ".join(arguments.scenarios),
        " ".join(scenarios.question(name) for name in arguments.scenarios),
        environment(PACKAGES),
        slo,
        is_search=plan is not None,
    )
    if baseline is not None and (told := too_short(stages)):
        line.say(told, "yellow")
    try:
        with ExitStack() as stack:
            if arguments.embedded:
                line.say("starting a server on this machine", "dim")
                settings = stack.enter_context(embedded(settings))
            run.settings = settings.to_json()
            team = Team(arguments.workers, arguments.spawn_workers, arguments.master_host, arguments.master_port)
            conductor = stack.enter_context(conducting(settings, team, line.show, worker_words(settings, arguments)))
            interrupts.call_on_interrupt(conductor.interrupt)
            test = _Test(run, conductor, line)
            try:
                if plan is not None:
                    _search(test, plan, stages[0].mix, settings)
                else:
                    for stage in stages:
                        _measure(test, stage)
            except _Stopped:
                pass
            except FleetError as error:
                run.problem = str(error)
            run.was_interrupted = conductor.was_interrupted
        if baseline is not None and not run.was_interrupted and not run.problem:
            run.differences = compare(baseline, run.results, tolerance=arguments.tolerance / 100)
    finally:
        line.close()
        # Before the server was there, there is nothing to report.
        if run.results or run.problem:
            page = write_report(arguments.output, run)
            for found in run.limits:
                print(found.told)
            for finding in [*([run.problem] if run.problem else []), *run.regressions]:
                line.say(finding, "bold red")
            for difference in run.unclear:
                line.note(difference)
            print(page or arguments.output / "report.json")
    return run.exit_code


def _plan(arguments: argparse.Namespace, slo: Slo | None) -> Plan | None:
    """What is searched for; None for a run of stages."""
    if not arguments.find_max:
        return None
    if slo is None:
        raise SettingsError("--find-max needs --slo, as in --slo 'p99<250ms,errors<0.1%'")
    resolution = arguments.resolution / 100
    return Plan(arguments.find_max, slo, arguments.repeats, resolution, arguments.step_s, arguments.step_max_s)


def _measure(test: _Test, stage: Stage) -> StageResult:
    run, conductor, line = test.run, test.conductor, test.line
    if conductor.was_interrupted:
        raise _Stopped
    result = conductor.measure(stage)
    run.results.append(result)
    line.tell(result, run.broken(result))
    if conductor.was_interrupted:
        raise _Stopped
    if result.figures["failed"] and (reason := conductor.lost_server()):
        run.problem = f"the server was lost in {stage.name!r}: {reason}"
        raise _Stopped
    return result


def _search(test: _Test, plan: Plan, mix: Mix, settings: Settings) -> None:
    for prevalence in settings.prevalence:
        search = Search(plan, settings, mix, prevalence, lambda stage: _measure(test, stage), test.line.note)
        try:
            search.run()
        finally:
            if found := search.found:
                test.run.limits.append(found)


if __name__ == "__main__":
    sys.exit(main())
