"""Imported before anything else by whatever sends requests: gevent takes over the standard library, then gRPC.

Locust does the first when it is imported. Tests and reports, which send nothing, never import this.
"""

import os

import locust  # noqa: F401  for what importing it does

# What is started from here is another program at once. gRPC, if it prepared for life after a fork, would break it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

from grpc.experimental.gevent import init_gevent

init_gevent()
