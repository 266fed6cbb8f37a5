"""The code blocks of a README, and the commands in them."""

import re
import shlex


def blocks(readme: str, language: str) -> list[str]:
    """Every block of this language, without its fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)


def commands(readme: str, start: str) -> list[list[str]]:
    """Every command of the shell blocks that begins so, as words, without its comment."""
    lines = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]
