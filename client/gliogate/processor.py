"""What Linux tells of this machine's processor."""

import platform
from functools import cache
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")


def name(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name, or at least its architecture."""
    return _field("model name", cpuinfo) or platform.machine()


def features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What its instruction set has, as Linux names it on x86-64: `avx2`, `avx512_vnni`; none where it does not."""
    return frozenset(_field("flags", cpuinfo).split())


@cache
def _field(key: str, cpuinfo: Path) -> str:
    """What is said of the first core; empty where nothing is."""
    if not cpuinfo.exists():
        return ""
    fields = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for field, _, value in fields if field.strip() == key), "")
