"""`python -m loadtests.instant`: a server that answers at once, to measure the generator by and not a network.

It knows the wire and nothing else: every slice is clear. It can be slow, at a known rate. And it can pause, once, as a
server does that loads a model or collects garbage; requests that come meanwhile are answered when the pause is over.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from gliogate.contract import ENSEMBLE, SEGMENTED, TUMOR_MASK, TUMOR_PROBABILITY
from loadtests.callers.sizes import bytes_of

THREADS = 2


class InstantServer(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """Answers every request with the same bytes, which it neither reads nor makes anew.

    Args:
        pause_after_s: how long after the first request it pauses; None for no pause.
        pause_s: how long, in seconds.
        work_s: for how long a request has one of the `THREADS` to itself.
    """

    def __init__(self, pause_after_s: float | None = None, pause_s: float = 2.0, work_s: float = 0.0) -> None:
        self._answers: dict[str, bytes] = {
            "ModelInfer": _clear_slice(),
            "ModelReady": service_pb2.ModelReadyResponse(ready=True).SerializeToString(),
            "ServerLive": service_pb2.ServerLiveResponse(live=True).SerializeToString(),
        }
        self._pause_after_s, self._pause_s, self._work_s = pause_after_s, pause_s, work_s
        is_instant = pause_after_s is None and not work_s
        self._infer: Callable[[bytes, Any], bytes] = self._at_once if is_instant else self._in_time
        self._first: float | None = None

    def service(self, handler_call_details: Any) -> Any:
        """What gRPC asks for each call."""
        method = handler_call_details.method.rpartition("/")[2]
        answer = self._answers.get(method)
        if answer is None:
            return None
        infer = self._infer if method == "ModelInfer" else lambda _request, _context: answer
        return grpc.unary_unary_rpc_method_handler(infer)

    def _at_once(self, request: bytes, context: Any) -> bytes:
        del request, context
        return self._answers["ModelInfer"]

    def _in_time(self, request: bytes, context: Any) -> bytes:
        del request, context
        now = time.monotonic()
        self._first = self._first or now
        pause = self._first + (math.inf if self._pause_after_s is None else self._pause_after_s)
        end = pause + self._pause_s
        time.sleep((end - now if pause <= now < end else 0.0) + self._work_s)
        return self._answers["ModelInfer"]


@contextmanager
def instant_server(
    port: int = 0, pause_after_s: float | None = None, pause_s: float = 2.0, work_s: float = 0.0
) -> Iterator[int]:
    """Serves on the loopback; gives the port. See `InstantServer`."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((InstantServer(pause_after_s, pause_s, work_s),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()


def _clear_slice() -> bytes:
    response = service_pb2.ModelInferResponse(model_name=ENSEMBLE.name)
    for tensor in (TUMOR_PROBABILITY, TUMOR_MASK, SEGMENTED):
        response.outputs.add(name=tensor.name, datatype=tensor.dtype, shape=[1, *tensor.shape])
        response.raw_output_contents.append(bytes(bytes_of(tensor)))
    return bytes(response.SerializeToString())


def main() -> None:
    """Serves until it is ended, or for as long as it is told."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.instant", description=__doc__)
    parser.add_argument("--port", type=int, default=8001, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="(%(default)g)")
    parser.add_argument("--pause-after-s", type=float, metavar="S", help="pause once, so long after the first request")
    parser.add_argument("--pause-s", type=float, default=2.0, help="for so long (%(default)g)")
    parser.add_argument("--work-s", type=float, default=0.0, help="that each request takes (%(default)g)")
    arguments = parser.parse_args()
    with instant_server(arguments.port, arguments.pause_after_s, arguments.pause_s, arguments.work_s) as port:
        print(f"127.0.0.1:{port}", flush=True)
        time.sleep(arguments.seconds)


if __name__ == "__main__":
    main()
