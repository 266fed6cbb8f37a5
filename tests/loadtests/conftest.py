"""What load tests share: a process that runs their commands."""

import pytest
from support.load_commands import LoadCommands


@pytest.fixture(scope="session")
def load_commands():
    commands = LoadCommands()
    yield commands
    commands.close()
