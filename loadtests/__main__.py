"""`python -m loadtests`: how much does the server bear, and what do its users see then?"""

# isort: split
from loadtests import patched  # noqa: F401  before anything else

# isort: split
import argparse
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import gevent

from gliogate import GliogateError
from gliogate.runs import import_embedded
from loadtests import scenarios
from loadtests.arrivals import Arrivals, Flat
from loadtests.compare import compare, read_results
from loadtests.conductor import Conductor
from loadtests.environment import environment
from loadtests.errors import FleetError, LoadTestError, SettingsError
from loadtests.limit import Step, find_limit, judge, step_seconds
from loadtests.live import LiveLine
from loadtests.options import WORKER, make_parser, worker_words
from loadtests.report import write_report
from loadtests.run import EXIT_INTERRUPTED, EXIT_USAGE, FoundLimit, Run
from loadtests.session import Team, conducting, work
from loadtests.settings import Settings
from loadtests.slo import Slo
from loadtests.stage import Stage

START = {"rate": 8.0, "users": 1.0}
"""Where a search begins."""

STEP_WARM_UP_S = 2.0


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
    slo = Slo.parse(arguments.slo) if arguments.slo else None
    if arguments.find_max and slo is None:
        raise SettingsError("--find-max needs --slo, as in --slo 'p99<250ms,errors<0.1%'")
    stages = [stage for name in arguments.scenarios for stage in scenarios.stages(name, settings)]
    baseline = read_results(arguments.baseline) if arguments.baseline else None
    line = LiveLine()
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
                settings = stack.enter_context(_embedded(settings))
            run.settings = settings.to_json()
            team = Team(arguments.workers, arguments.spawn_workers, arguments.master_host, arguments.master_port)
            conductor = stack.enter_context(conducting(settings, team, line.show, worker_words(settings, arguments)))
            _on_interrupt(conductor.interrupt)
            try:
                if arguments.find_max and slo is not None:
                    _search(run, slo, conductor, line, settings, arguments)
                else:
                    for stage in stages:
                        _measure(run, conductor, line, stage)
            except _Stopped:
                pass
            except FleetError as error:
                run.problem = str(error)
            run.was_interrupted = conductor.was_interrupted
        if baseline is not None and run.results:
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


def _measure(run: Run, conductor: Conductor, line: LiveLine, stage: Stage) -> None:
    if conductor.was_interrupted:
        raise _Stopped
    result = conductor.measure(stage)
    run.results.append(result)
    line.tell(result, run.broken(result))
    if conductor.was_interrupted:
        raise _Stopped
    if result.record.total.errors and (reason := conductor.lost_server()):
        run.problem = f"the server was lost in {stage.name!r}: {reason}"
        raise _Stopped


def _search(
    run: Run, slo: Slo, conductor: Conductor, line: LiveLine, settings: Settings, arguments: argparse.Namespace
) -> None:
    for prevalence in settings.prevalence:
        throughputs: dict[int, list[tuple[float, float]]] = {}

        def probe(load: float, repeat: int, *, prevalence: float = prevalence, seen: Any = throughputs) -> Step:
            stage = _probe_stage(slo, settings, arguments, load, repeat, prevalence)
            _measure(run, conductor, line, stage)
            step = judge(run.results[-1], slo, load, repeat)
            line.say("  passed" if step.passed else f"  failed: {'; '.join(step.faults)}", "dim")
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


def _probe_stage(
    slo: Slo, settings: Settings, arguments: argparse.Namespace, load: float, repeat: int, prevalence: float
) -> Stage:
    seed = settings.seed + 1000 * repeat
    of = f"{100 * prevalence:g}% tumor, search {repeat + 1}"
    if arguments.find_max == "users":
        return Stage(
            f"{load:g} users, {of}",
            STEP_WARM_UP_S + arguments.step_s,
            users=int(load),
            prevalence=prevalence,
            warm_up_s=STEP_WARM_UP_S,
            seed=seed,
        )
    return Stage(
        f"{load:.4g}/s, {of}",
        STEP_WARM_UP_S + step_seconds(load, slo, least_s=arguments.step_s, most_s=arguments.step_max_s),
        Arrivals(Flat(load), settings.process, seed),
        prevalence=prevalence,
        warm_up_s=STEP_WARM_UP_S,
        seed=seed,
    )


@contextmanager
def _embedded(settings: Settings) -> Iterator[Settings]:
    """Starts a Triton of this machine, and has the test told of it."""
    embedded = import_embedded()
    with embedded.EmbeddedServer(embedded.find_model_repository(None)) as server:
        addresses = {"url": server.url, "http_url": server.http_url.removeprefix("http://")}
        yield replace(settings, **addresses, metrics_url=server.metrics_url)


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
