"""perf_analyzer's own table, as its option `-f` writes it."""

import pytest

from loadtests.errors import LoadTestError
from loadtests.perf_table import Load, Measured, read_table

NAMES = "Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,"
NAMES += "Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
FIGURES = "84.25,237,1768,21673,209,11742,17,0,35398,43984,47085,51701"


@pytest.mark.parametrize(
    ("first", "value", "load"), [("Concurrency", "4", Load(4)), ("Request Rate", "20", Load(rate=20.0))]
)
def test_microseconds_are_read_as_milliseconds(first, value, load):
    assert read_table(f"{first},{NAMES}\n{value},{FIGURES}\n", load) == Measured(84.25, 35.398, 51.701)


@pytest.mark.parametrize(
    "text", ["", f"Concurrency,{NAMES}\n", f"Concurrency,{NAMES}\n4,{FIGURES}\n8,{FIGURES}\n", "a,b\n1,2\n"]
)
def test_what_is_no_table_of_one_load_is_told(text):
    with pytest.raises(LoadTestError, match="table at 4 under way cannot be read"):
        read_table(text, Load(4))
