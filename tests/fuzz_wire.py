"""Sends requests that nobody would think of to a real Triton: `python -m tests.fuzz_wire --seconds 1200`.

By gRPC to the proxy, and a part of them to Triton itself; by HTTP bodies of JSON that is nearly right. Each must get an
answer in time, and no right request beside them may fail. What is found is printed with the seed that draws it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

TESTS = Path(__file__).parent

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
sys.path[:0] = [str(TESTS), str(TESTS.parent / "client")]
import grpc  # noqa: E402  it lies beside this file
import grpc.aio  # noqa: E402
from support.fuzzing import Run  # noqa: E402
from support.json_bodies import draw  # noqa: E402
from support.tiny_networks import build_repository, slices  # noqa: E402
from support.wrong_requests import generate_bytes, readable  # noqa: E402

from gliogate import Client  # noqa: E402
from gliogate.embedded import EmbeddedServer, find_model_repository  # noqa: E402
from gliogate.errors import GliogateError  # noqa: E402

CALLERS = 16
TIMEOUT_S = 30.0
DIRECT = 4
"""One caller in so many asks Triton itself, as those of its own user may."""
INFER = "/inference.GRPCInferenceService/ModelInfer"
BROKEN = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Right:
    """Right requests beside the wrong ones, and those that failed."""

    def __init__(self, url: str) -> None:
        self.asked, self.failed = 0, []
        self._url, self._stopping = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def stop(self) -> None:
        """Asks no more."""
        self._stopping.set()
        self._thread.join()

    def _ask(self) -> None:
        (image,) = slices(0.75)
        with Client(self._url) as client:
            while not self._stopping.is_set():
                self.asked += 1
                try:
                    if abs(client.analyze(image).tumor_probability - 0.75) > 1e-6:
                        self.failed.append("answered otherwise")
                except GliogateError as error:
                    self.failed.append(str(error))


async def ask_wrongly(run: Run, urls: list[str]) -> None:
    """Sends until the run is over."""
    async with contextlib.AsyncExitStack() as stack:
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(url, options=unlimited)) for url in urls]

        async def ask(channel: grpc.aio.Channel) -> None:
            call = channel.unary_unary(INFER)
            while not run.is_over:
                seed = f"{run.seed} {run.inputs}"
                run.inputs += 1
                content = generate_bytes(random.Random(seed))
                try:
                    await call(content, timeout=TIMEOUT_S)
                except grpc.aio.AioRpcError as error:
                    # One may have asked for no more time itself.
                    if error.code() in BROKEN and "timeout expired" not in (error.details() or "").lower():
                        run.found.append(f"{seed!r}: {error.code().name}, {error.details()}: {readable(content)}")
                await asyncio.sleep(0)

        await asyncio.gather(*(ask(channels[not number % DIRECT]) for number in range(CALLERS)))


def post_wrongly(run: Run, url: str) -> None:
    """Sends bodies over HTTP until the run is over."""
    while not run.is_over:
        seed = f"http {run.seed} {run.inputs}"
        run.inputs += 1
        body, headers = draw(random.Random(seed))
        request = urllib.request.Request(f"{url}/v2/models/brain_tumor/infer", data=body, headers=headers)
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except urllib.error.HTTPError as error:
            with error:
                if error.code >= 500:
                    run.found.append(f"{seed!r}: {error.code}, {error.read()[:300]!r}: {body[:300]!r}")
        except (OSError, http.client.HTTPException) as error:
            run.found.append(f"{seed!r}: {error}: {body[:300]!r}")


def main() -> int:
    """Sends for as long as it is told."""
    run = Run.parse("wire", __doc__)
    with tempfile.TemporaryDirectory() as folder:
        repository = build_repository(find_model_repository(), Path(folder) / "tiny")
        with EmbeddedServer(repository, http_inference=True) as server:
            right = Right(server.url)
            over_http = threading.Thread(target=post_wrongly, args=(run, server.http_url))
            over_http.start()
            asyncio.run(ask_wrongly(run, [server.url, server.triton_url]))
            over_http.join()
            right.stop()
            server.check()
    run.found += [f"a right request: {error}" for error in right.failed]
    print(json.dumps({"right requests": right.asked, "of them failed": len(right.failed)}))
    return run.tell()


if __name__ == "__main__":
    sys.exit(main())
