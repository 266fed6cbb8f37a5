"""Calls over gRPC: gliogate's own client, as any of its users has it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gliogate import Client, Options, Retries
from gliogate.contract import MASK_PROBABILITY, SEGMENTED, TUMOR_MASK, TUMOR_PROBABILITY
from loadtests.callers.sizes import bytes_of
from loadtests.calls import Answer, Call
from loadtests.errors import SettingsError
from loadtests.settings import Settings

DETECTION_BYTES: Final = bytes_of(TUMOR_PROBABILITY) + bytes_of(SEGMENTED)
ANALYSIS_BYTES: Final = DETECTION_BYTES + bytes_of(TUMOR_MASK)


class GrpcCaller:
    """One client, shared by all users of a process, as gRPC would have them share the connection anyway.

    It does not retry: a request that was refused counts as refused.

    Raises:
        SettingsError: the address, or what is said of TLS or the token, makes no sense.
    """

    protocol = "grpc"

    def __init__(self, settings: Settings) -> None:
        try:
            client = Client(settings.url, tls=settings.tls(), token=settings.token, retries=Retries(attempts=1))
        except ValueError as error:
            raise SettingsError(str(error)) from error
        self._client = client.with_options(timeout_s=settings.timeout_s)

    def wait_until_ready(self, timeout_s: float) -> None:
        """See `Caller`."""
        self._client.wait_until_ready(timeout_s)

    def ask(self, call: Call, pictures: list[NDArray[np.uint8]]) -> Answer:
        """See `Caller`."""
        if call.gate is None:
            for picture in pictures:
                self._client.detect(picture)
            return Answer(0, 0, len(pictures) * DETECTION_BYTES)
        options: Options = {"gate": call.gate, "return_mask_probability": call.mask_probability}
        if len(pictures) == 1:
            analyses = [self._client.analyze(pictures[0], **options)]
        else:
            analyses = list(self._client.analyze_many(pictures, in_flight=call.in_flight, **options))
        each = ANALYSIS_BYTES + call.mask_probability * bytes_of(MASK_PROBABILITY)
        verdicts = [analysis.verdict for analysis in analyses]
        opened = sum(analysis.segmented for analysis in analyses)
        return Answer(opened, verdicts.count("suspicious"), len(pictures) * each)

    def close(self) -> None:
        """See `Caller`."""
        self._client.close()
