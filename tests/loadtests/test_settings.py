"""Options: what is made of them, and what is refused."""

import argparse
import re

import pytest

from loadtests import scenarios
from loadtests.errors import SettingsError
from loadtests.settings import Settings, add_arguments


def settings(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parser.add_argument("--users", type=int)
    return Settings.of(parser.parse_args(words))


def test_other_addresses_are_the_same_hosts(monkeypatch):
    monkeypatch.setenv("GLIOGATE_URL", "triton.example:9001")
    told = settings()
    assert (told.url, told.http_url) == ("triton.example:9001", "triton.example:8000")
    assert told.metrics_url == "http://triton.example:8002/metrics"
    assert settings("--url", "[::1]:1", "--http-url", "http://a:2").http_url == "a:2"


def test_a_token_is_used_and_never_told(monkeypatch):
    monkeypatch.setenv("GLIOGATE_TOKEN", "secret")
    with pytest.raises(SettingsError, match="there is a token in GLIOGATE_TOKEN, which goes over TLS only: give --ca"):
        settings()
    told = settings("--ca", "ca.pem")
    assert told.token == "secret"  # noqa: S105
    assert "secret" not in str(told.to_json())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "0"], "--rate is 0, expected above 0"),
        (["--rate", "nan"], "--rate is nan, expected above 0"),
        (["--duration", "-1"], "--duration is -1, expected above 0"),
        (["--duration", "inf"], "--duration is inf, expected above 0"),
        (["--pool", "0"], "--pool is 0, expected above 0"),
        (["--users", "0"], "--users is 0, expected above 0"),
        (["--rate", "1e12"], "--rate is 1e+12, expected above 0 and at most 1,000,000"),
        (["--duration", "1e13"], "--duration is 1e+13, expected above 0 and at most 604,800"),
        (["--timeout-s", "1e12"], "--timeout-s is 1e+12, expected above 0 and at most 86,400"),
        (["--seed", "-1"], "--seed is -1, expected 0 or more"),
        (["--prevalence", "0,2"], "--prevalence is 2, expected 0 to 1"),
        (["--prevalence", "half"], "--prevalence is 'half', expected shares from 0 to 1"),
        (["--payloads", "d", "--prevalence", "0.5"], "--prevalence is of phantoms; the pictures of --payloads"),
        (
            ["--metrics-url", "http://a/m,http://b/m"],
            "--metrics-url has 2 pages, expected one, or as many as --url has",
        ),
        (["--url", "triton"], "--url: 'triton' is no address of a gRPC endpoint"),
    ],
)
def test_what_makes_no_sense_is_named(words, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        settings(*words)


def test_what_was_typed_into_a_page_is_read_as_on_the_command_line():
    typed = argparse.Namespace(url="a:1", rate="50", pool="8", payloads="", duration_s="4", ca="ca.pem")
    told = Settings.of(typed)
    assert (told.rate, told.pool, told.payloads, told.duration_s) == (50.0, 8, None, 4.0)
    assert str(told.ca) == "ca.pem"
    with pytest.raises(SettingsError, match="--rate is 'fast', expected a number"):
        Settings.of(argparse.Namespace(url="a:1", rate="fast"))


def test_processes_that_were_told_otherwise_differ():
    one, other = settings("--url", "a:1"), settings("--url", "b:1", "--pool", "9", "--rate", "3")
    assert {name for name, value in one.shared.items() if other.shared[name] != value} == {"--pool"}
    assert settings("--payloads", "one").shared == settings("--payloads", "other").shared != one.shared


@pytest.mark.parametrize("duration_s", [0.5, 1.0])
@pytest.mark.parametrize("name", scenarios.names())
def test_however_short_a_scenario_is_something_counts(name, duration_s):
    assert all(stage.counted_s > 0 for stage in scenarios.stages(name, Settings(duration_s=duration_s)))


def test_stages_of_the_same_name_are_told_apart():
    names = [stage.name for stage in scenarios.all_stages(["server", "tour", "server"], Settings(rate=4.0))]
    assert names.count("server at 4/s") == 1
    assert {"server at 4/s (2)", "server at 4/s (3)"} < set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", scenarios.names())
def test_every_scenario_asks_a_question_and_has_stages(name):
    assert scenarios.question(name).endswith((".", "?", "`."))
    found = scenarios.stages(name, Settings(prevalence=(0.0, 1.0), seed=5))
    names = [stage.name for stage in found]
    assert len(names) == len(set(names)) >= 2
    assert {stage.prevalence for stage in found} == {0.0, 1.0}
    assert all((stage.users > 0) != stage.is_open and stage.counted_s > 0 for stage in found)
    assert all(type(stage).from_json(stage.to_json()) == stage for stage in found)


def test_there_are_mlperfs_four_and_the_others():
    expected = {"single-stream", "multi-stream", "server", "offline", "ramp", "step", "spike", "soak", "day", "mixed"}
    assert expected <= set(scenarios.names())
    with pytest.raises(SettingsError, match="there is no scenario 'flood'; there are day, mixed, "):
        scenarios.stages("flood", Settings())


def test_more_arrivals_than_memory_holds_are_refused_before_anything_is_drawn():
    with pytest.raises(SettingsError, match=r"'server at 20000/s' has some 12,096,000,000 arrivals, at most"):
        scenarios.stages("server", settings("--rate", "20000", "--duration", "604800"))
