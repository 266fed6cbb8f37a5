"""What is told of a machine's processor, also where Linux says little."""

import platform

import pytest

from gliogate import processor

CPUINFO = """\
processor\t: 0
model name\t: AMD EPYC 9V74
flags\t\t: fpu avx2 avx512_vnni

processor\t: 1
model name\t: another
flags\t\t: fpu
"""


def test_the_first_core_speaks_for_all(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)

    assert processor.name(cpuinfo) == "AMD EPYC 9V74"
    assert processor.features(cpuinfo) == {"fpu", "avx2", "avx512_vnni"}


@pytest.mark.parametrize(
    "content", [None, "", "processor\t: 0\nBogoMIPS\t: 50.00\n"], ids=["no file", "empty", "arm64"]
)
def test_where_nothing_is_said_the_architecture_is_the_name(tmp_path, content):
    cpuinfo = tmp_path / "cpuinfo"
    if content is not None:
        cpuinfo.write_text(content)

    assert processor.name(cpuinfo) == platform.machine()
    assert processor.features(cpuinfo) == frozenset()


def test_this_machine_has_a_processor():
    assert processor.name()
    assert platform.machine() != "x86_64" or "sse2" in processor.features()
