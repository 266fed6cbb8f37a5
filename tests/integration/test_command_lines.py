"""Command lines that nobody would think of; `python -m tests.fuzz_cli` runs more of them."""

import random

import pytest
from support.command_lines import Workplace, draw

FOUND = (
    ["demo", "odd \udcff\n.png"],
    ["info", "odd \udcff\n.png", "--json", "-"],
    ["analyze", "scan.png", "--in-flight", "10000"],
    ["analyze", "scan.png", "--proxy", "http://["],
)
"""What once ended otherwise than it should, or may again."""


@pytest.fixture
def workplace(tiny_server, tmp_path):
    with Workplace(tmp_path / "work", tiny_server.url).entered() as workplace:
        yield workplace


@pytest.mark.parametrize("words", FOUND, ids=ascii)
def test_what_a_fuzzer_found(workplace, words):
    assert workplace.fault_of(words) is None


def test_every_command_line_ends_with_a_word_and_an_exit_code_and_writes_what_it_was_told_to(workplace):
    for number in range(60):
        words = draw(random.Random(f"1 {number}"))

        assert (words, workplace.fault_of(words)) == (words, None)
