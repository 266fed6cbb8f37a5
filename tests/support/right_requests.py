"""Right requests beside whatever else is asked: each must be answered, and rightly."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import grpc
import numpy as np
from support import wrong_requests
from support.tiny_networks import slices
from tritonclient.grpc import service_pb2_grpc

from gliogate import contract

CALLERS = 8
ANSWER_S = 30.0


class Load:
    """Right requests to tiny networks, from several callers at a time, until it is left.

    Attributes:
        answered: how many there were, afterwards.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)
        self.answered = 0

    def __enter__(self) -> Self:
        self._futures = [self._pool.submit(self._call, caller) for caller in range(CALLERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # A right request that failed raises here.
        self.answered = sum(future.result() for future in self._futures)
        self._pool.shutdown()

    def _call(self, caller: int) -> int:
        answered = 0
        level = (caller + 1) / (CALLERS + 1) // (1 / 256) / 256
        expected = level if level >= 0.5 else 0.0
        [image] = slices(level)
        with grpc.insecure_channel(self._url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = wrong_requests.right()
            request.outputs.add(name=contract.TUMOR_MASK.name)
            request.raw_input_contents[:] = [image.tobytes()]
            while not self._ended.is_set() or not answered:
                answer = stub.ModelInfer(request, timeout=ANSWER_S)
                probability, mask = answer.raw_output_contents
                assert np.frombuffer(probability, np.float32).item() == level
                assert np.frombuffer(mask, np.uint8).mean() == expected
                answered += 1
        return answered
