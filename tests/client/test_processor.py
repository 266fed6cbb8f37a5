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


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_CPUINFO", path)
    processor._field.cache_clear()
    yield path
    processor._field.cache_clear()


def test_the_first_core_speaks_for_all(cpuinfo):
    cpuinfo.write_text(CPUINFO)

    assert processor.name() == "AMD EPYC 9V74"
    assert processor.features() == {"fpu", "avx2", "avx512_vnni"}


@pytest.mark.parametrize(
    "content", [None, "", "processor\t: 0\nBogoMIPS\t: 50.00\n"], ids=["no file", "empty", "arm64"]
)
def test_where_nothing_is_said_the_architecture_is_the_name(cpuinfo, content):
    if content is not None:
        cpuinfo.write_text(content)

    assert processor.name() == platform.machine()
    assert processor.features() == frozenset()


def test_this_machine_has_a_processor():
    assert processor.name()
    assert platform.machine() != "x86_64" or "sse2" in processor.features()
