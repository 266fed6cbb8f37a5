"""Keras, and TensorFlow with it, imported without what the latter has to say about that."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

STDERR = 2
NOISE = re.compile(rb"WARNING: All log messages before absl::|[IW]\d{4} |.*\bUnable to register cu\w+ factory")
"""Lines of libraries that start: on oneDNN, whose answers may differ in the last digit; on CUDA's, registered twice."""


def import_keras() -> None:
    """Imports Keras and its backend. To be called before anything else imports them.

    Their notes on the processor, on oneDNN and on missing CUDA libraries are of no use to who trains. Most are
    silenced by `TF_CPP_MIN_LOG_LEVEL`; the others, of libraries that do not know that variable, are taken out of what
    is written to the standard error in the meantime. Whatever else is written there comes when the import is over.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_noise():
        import_module("keras")


@contextmanager
def _without_noise() -> Iterator[None]:
    """At the file descriptor: what is written in C++ does not go through `sys.stderr`."""
    sys.stderr.flush()
    terminal = os.dup(STDERR)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, STDERR)
            os.close(terminal)
            written.seek(0)
            for line in written:
                if not NOISE.match(line):
                    os.write(STDERR, line)
