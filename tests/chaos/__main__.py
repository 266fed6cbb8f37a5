"""`python -m chaos`: runs a campaign, prints its table, writes it to build/chaos/; exits with 1 if it is not good."""

import argparse
import sys
from pathlib import Path

from gliogate.embedded import find_model_repository

from . import campaign, report


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description="A campaign of faults under load.")
    parser.add_argument("--minutes", type=float, default=30.0, help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=20.0, help="right requests in a second (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    arguments = parser.parse_args()
    outcome = campaign.run(find_model_repository(), minutes=arguments.minutes, rate=arguments.rate, seed=arguments.seed)
    command = f'make chaos CHAOS="--minutes {arguments.minutes:g} --rate {arguments.rate:g} --seed {arguments.seed}"'
    table = report.render(outcome, command)
    output = Path("build/chaos/table.md")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(table, encoding="utf-8")
    output.with_name("server.log").write_text("\n".join(outcome.said) + "\n", encoding="utf-8")
    print(f"\n{table}")
    return 0 if report.is_good(outcome) else 1


if __name__ == "__main__":
    sys.exit(main())
