"""What a client keeps in memory follows what is under way."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

SLICES = 500
AT_A_TIME_MIB = 1.0
BESIDES_MIB = 40
"""What gRPC and its threads take, however many requests there are."""

PROGRAM = """
import asyncio, json, resource, sys
import numpy as np
from gliogate import AsyncClient, Client, GliogateError

url, kind, in_flight, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
slices = (np.full((256, 256, 3), 100, np.uint8) for _ in range(count))

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

async def ask():
    async with AsyncClient(url) as client:
        return sum([isinstance(result, GliogateError) async for result in analyze_many(client)])

def analyze_many(client):
    return client.analyze_many(slices, in_flight=in_flight, on_error="return")

before = peak_mib()
if kind == "AsyncClient":
    failed = asyncio.run(ask())
else:
    with Client(url) as client:
        failed = sum(isinstance(result, GliogateError) for result in analyze_many(client))
print(json.dumps({"failed": failed, "mib": peak_mib() - before}))
"""


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_as_many_as_may_be_under_way_are_answered_and_take_a_megabyte_each(tiny_server, kind):
    most = 128

    def run(in_flight: int) -> dict[str, float]:
        command = [sys.executable, "-c", PROGRAM, tiny_server.url, kind, f"{in_flight}", f"{SLICES}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return json.loads(done.stdout)

    few, many = run(4), run(most)

    assert few["failed"] == many["failed"] == 0
    assert few["mib"] < BESIDES_MIB
    assert many["mib"] < BESIDES_MIB + AT_A_TIME_MIB * most
