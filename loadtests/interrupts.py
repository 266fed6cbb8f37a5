"""Ctrl-C: while a command line is still being imported it ends the process at once, later the stage that is on.

`__main__` imports this before all that takes seconds to import, where Ctrl-C would end in a trace of the imports.
"""

import signal
from collections.abc import Callable

signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_on_interrupt() -> None:
    """Has Ctrl-C raise KeyboardInterrupt, as Python does, from now on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def call_on_interrupt(stop: Callable[[], None]) -> None:
    """Ctrl-C and SIGTERM call this, once; a second one ends the process."""
    import gevent

    def end() -> None:
        for handler in handlers:
            handler.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        stop()

    handlers = [gevent.signal_handler(number, end) for number in (signal.SIGINT, signal.SIGTERM)]
