"""A load test put together: Locust's environment, its users, and who conducts them."""

import gc
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import gevent
from locust.env import Environment
from locust.exception import RPCError

from gliogate.runs import import_embedded
from loadtests.callers import make_caller
from loadtests.conductor import Conductor, Show
from loadtests.driver import Driver
from loadtests.errors import FleetError
from loadtests.fleet import Fleet, LocalFleet, MasterFleet, WorkerPart
from loadtests.server_view import ServerView
from loadtests.settings import Settings
from loadtests.users import DrivenUser

WORKERS_S: Final = 60.0
"""How long workers may take to come."""

MASTER_S: Final = 30.0
"""How long a master may take to listen, and then to answer."""


@dataclass(frozen=True)
class Team:
    """Who sends: this process alone where there are no workers.

    Attributes:
        workers: how many are waited for.
        spawned: whether they are started here.
        host: where the master listens.
        port: on which port.
    """

    workers: int = 0
    spawned: bool = True
    host: str = "127.0.0.1"
    port: int = 5557


@contextmanager
def embedded(settings: Settings) -> Iterator[Settings]:
    """Starts a Triton on this machine, on the shipped model repository; gives the settings with its addresses."""
    room = import_embedded()
    with room.EmbeddedServer(room.find_model_repository(None), http_inference=True) as server:
        addresses = {"url": server.url, "http_url": server.http_url.removeprefix("http://")}
        yield replace(settings, **addresses, metrics_url=server.metrics_url)


@contextmanager
def conducting(settings: Settings, team: Team, show: Show, worker_arguments: list[str]) -> Iterator[Conductor]:
    """A conductor for a server that is ready.

    Args:
        settings: what the test is told.
        team: who sends.
        show: see `loadtests.conductor`.
        worker_arguments: what workers that are started here are told.

    Raises:
        GliogateError: the server is not ready.
        LoadTestError: the settings make no sense, or workers did not come.
    """
    caller = make_caller(settings)
    server = ServerView(settings)
    caller.wait_until_ready(settings.timeout_s)
    source = settings.source()
    for prevalence in settings.prevalence if not team.workers else ():
        source.at(prevalence)
    DrivenUser.driver = Driver(caller, source, settings.timeout_s)
    environment = Environment(user_classes=[DrivenUser])
    processes: list[subprocess.Popen[bytes]] = []
    try:
        if team.workers:
            try:
                environment.create_master_runner(team.host, team.port)
            except RPCError as error:
                raise FleetError(f"--master-host, --master-port: cannot listen there: {error}") from error
            fleet: Fleet = MasterFleet(environment, settings.shared)
            if team.spawned:
                command = [sys.executable, "-m", "loadtests", *worker_arguments]
                # Ctrl-C in a terminal is for this process, which has them tell what they know.
                processes = [subprocess.Popen(command, start_new_session=True) for _ in range(team.workers)]
            _wait_for(fleet, team.workers, processes)
        else:
            environment.create_local_runner()
            fleet = LocalFleet(DrivenUser.driver)
        # What is here by now stays; the collector need not go through it while it is measured.
        gc.collect()
        gc.freeze()
        assert environment.runner is not None  # noqa: S101  made above
        limits = {"late_ms": settings.late_ms, "ready_s": settings.timeout_s}
        yield Conductor(environment.runner, fleet, server, caller, **limits, show=show)
    finally:
        if environment.runner:
            environment.runner.quit()
        for process in processes:
            process.terminate()
            process.wait()
        caller.close()
        server.close()


def work(settings: Settings, host: str, port: int) -> None:
    """Is a worker, until the master says that it is over.

    Raises:
        GliogateError: the server is not ready.
        LoadTestError: the settings make no sense, or there is no master.
    """
    caller = make_caller(settings)
    caller.wait_until_ready(settings.timeout_s)
    driver = Driver(caller, settings.source(), settings.timeout_s)
    for prevalence in settings.prevalence:
        driver.prepare(prevalence)
    DrivenUser.driver = driver
    environment = Environment(user_classes=[DrivenUser])
    gc.collect()
    gc.freeze()
    _wait_for_master(host, port)
    try:
        with gevent.Timeout(MASTER_S, FleetError(f"no answer within {MASTER_S:g} s")):
            runner = environment.create_worker_runner(host, port)
    except Exception as error:
        raise FleetError(f"no master at {host}:{port}: {error}") from error
    WorkerPart(environment, driver, settings.shared).listen()
    runner.greenlet.join()
    caller.close()


def _wait_for_master(host: str, port: int) -> None:
    """Locust would wait for minutes, without a word."""
    deadline, is_told = time.monotonic() + MASTER_S, False
    while True:
        try:
            socket.create_connection((host, port), timeout=MASTER_S).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise FleetError(f"no master at {host}:{port} within {MASTER_S:g} s: {error}") from error
            if not is_told:
                print(f"loadtests: waiting for a master at {host}:{port}", file=sys.stderr, flush=True)
            is_told = True
            gevent.sleep(0.5)
        else:
            return


def _wait_for(fleet: Fleet, workers: int, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + WORKERS_S
    while fleet.count < workers:
        if any(process.poll() is not None for process in processes):
            raise FleetError("a worker ended before the test began; it said why above")
        if time.monotonic() > deadline:
            raise FleetError(f"{fleet.count} of {workers} workers came within {WORKERS_S:g} s")
        gevent.sleep(0.05)
