"""Replays a day's load through a scaled service, to choose targets with: `python -m deploy.simulate -h`."""
