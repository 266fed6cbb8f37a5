"""Waiting for a point in time under gevent, to some ten microseconds: gevent's own timers are rounded to milliseconds.

A `timerfd` of Linux becomes readable at the time that it is set to, and gevent waits for it as for any socket.
"""

import ctypes
import os
import time
from typing import Final

import gevent

_libc = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE: Final = 1
_READ: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Pacer:
    """A clock that one greenlet waits for; times are those of `time.monotonic`."""

    def __init__(self) -> None:
        """Opens the timer.

        Raises:
            OSError: the system gives none.
        """
        self._file = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "no timerfd")
        self._readable = gevent.get_hub().loop.io(self._file, _READ)

    def wait_until(self, moment: float) -> None:
        """Waits, and lets others run at least once even where the moment has passed."""
        if moment <= time.monotonic():
            gevent.sleep(0)
            return
        seconds, nanoseconds = divmod(round(moment * 1e9), 1_000_000_000)
        setting = _Timer(value=_Timespec(seconds, nanoseconds))
        if _libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), "the timerfd cannot be set")
        gevent.get_hub().wait(self._readable)
        os.read(self._file, 8)

    def close(self) -> None:
        """Gives the timer back."""
        self._readable.close()
        os.close(self._file)
