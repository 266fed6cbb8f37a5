"""`python -m loadtests`: how much does the server bear, and what do its users see then?"""

# isort: split
from loadtests import patched  # noqa: F401  before anything else

# isort: split
import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import gevent

from gliogate import GliogateError
from loadtests import scenarios
from loadtests.arrivals import Arrivals, Flat
from loadtests.calls import Mix
from loadtests.compare import check_comparable, compare, read_results
from loadtests.conductor import Conductor
from loadtests.environment import environment
from loadtests.errors import FleetError, LoadTestError, SettingsError
from loadtests.limit import Step, find_limit, judge, step_seconds
from loadtests.live import LiveLine
from loadtests.options import WORKER, make_parser, worker_words
from loadtests.report import check_folder, write_report
from loadtests.run import EXIT_INTERRUPTED, EXIT_USAGE, FoundLimit, Run
from loadtests.session import Team, conducting, embedded, work
from loadtests.settings import Settings
from loadtests.slo import Slo
from loadtests.stage import Stage, told_share

START = {"rate": 8.0, "users": 1.0}
"""Where a search begins."""

STEP_WARM_UP_S = 2.0


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

    0: all is well. 1: an objective was missed, there is a regression, or the server was lost. 2: the arguments cannot
    be used, or the server not be reached. 3: the generator fell behind, so the run says nothing. 130: Ctrl-C.
    """
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
    if arguments.find_max and slo is None:
        raise SettingsError("--find-max needs --slo, as in --slo 'p99<250ms,errors<0.1%'")
    if WORKER in arguments.scenarios:
        raise SettingsError(f"{WORKER} stands alone: the master tells it what to send")
    stages = [stage for name in arguments.scenarios for stage in scenarios.stages(name, settings)]
    if arguments.find_max and len(arguments.scenarios) > 1:
        raise SettingsError(f"--find-max is of one scenario, here are {', '.join(arguments.scenarios)}")
    if arguments.find_max and arguments.baseline:
        raise SettingsError("--baseline compares stages, --find-max has none that would be the same again")
    baseline = read_results(arguments.baseline) if arguments.baseline else None
    if baseline is not None:
        check_comparable(baseline, stages)
    check_folder(arguments.output)
    line = LiveLine(stages=0 if arguments.find_max else len(stages))
    run = Run(
        ", ".join(arguments.scenarios),
        " ".join(scenarios.question(name) for name in arguments.scenarios),
        environment(),
        slo,
        is_search=bool(arguments.find_max),
    )
    try:
        with ExitStack() as stack:
            if arguments.embedded:
                line.say("starting a server on this machine", "dim")
                settings = stack.enter_context(embedded(settings))
            run.settings = settings.to_json()
            team = Team(arguments.workers, arguments.spawn_workers, arguments.master_host, arguments.master_port)
            conductor = stack.enter_context(conducting(settings, team, line.show, worker_words(settings, arguments)))
            _on_interrupt(conductor.interrupt)
            test = _Test(run, conductor, line)
            try:
                if arguments.find_max and slo is not None:
                    _search(test, slo, stages[0].mix, settings, arguments)
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
            print(page)
    return run.exit_code


def _measure(test: _Test, stage: Stage) -> None:
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


def _search(test: _Test, slo: Slo, mix: Mix, settings: Settings, arguments: argparse.Namespace) -> None:
    run = test.run
    for prevalence in settings.prevalence:
        throughputs: dict[int, list[tuple[float, float]]] = {}

        def probe(load: float, repeat: int, *, prevalence: float | None = prevalence, seen: Any = throughputs) -> Step:
            stage = replace(_probe_stage(slo, settings, arguments, load, repeat), mix=mix, prevalence=prevalence)
            stage = replace(stage, name=f"{stage.name}, {told_share(prevalence)}, search {repeat + 1}")
            _measure(test, stage)
            step = judge(run.results[-1], slo, load, repeat)
            test.line.say("  passed" if step.passed else f"  failed: {'; '.join(step.faults)}", "dim")
            if step.passed:
                seen.setdefault(repeat, []).append((load, run.results[-1].figures["throughput"] or 0.0))
            return step

        start = (settings.users if arguments.find_max == "users" else settings.rate) or START[arguments.find_max]
        limit = find_limit(
            probe,
            start=start,
            resolution=arguments.resolution / 100,
            repeats=arguments.repeats,
            is_whole=arguments.find_max == "users",
        )
        best = [max(steps)[1] for steps in throughputs.values()]
        run.limits.append(FoundLimit(arguments.find_max, prevalence, limit, sum(best) / len(best) if best else None))


def _probe_stage(slo: Slo, settings: Settings, arguments: argparse.Namespace, load: float, repeat: int) -> Stage:
    seed = settings.seed + 1000 * repeat
    if arguments.find_max == "users":
        seconds, name = arguments.step_s, f"{load:g} users"
        return Stage(name, STEP_WARM_UP_S + seconds, users=int(load), warm_up_s=STEP_WARM_UP_S, seed=seed)
    seconds = step_seconds(load, slo, least_s=arguments.step_s, most_s=arguments.step_max_s)
    arrivals = Arrivals(Flat(load), settings.process, seed)
    return Stage(f"{load:.4g}/s", STEP_WARM_UP_S + seconds, arrivals, warm_up_s=STEP_WARM_UP_S, seed=seed)


def _on_interrupt(stop: Callable[[], None]) -> None:
    """Ctrl-C and SIGTERM end the stage that is on; the report is still written. A second one ends the process."""

    def end() -> None:
        for handler in handlers:
            handler.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        stop()

    handlers = [gevent.signal_handler(number, end) for number in (signal.SIGINT, signal.SIGTERM)]


if __name__ == "__main__":
    sys.exit(main())
