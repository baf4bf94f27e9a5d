"""A node that also knows ``bench.echo``: ``_echo.py node run FOLDER``. Who asks imports it, too."""

from __future__ import annotations

import sys

from atoll.silo.node.lean import load_worker

if __name__ == "__main__":  # before anything else loads it, as in a node
    load_worker()

from atoll.cli import main
from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations import operation
from atoll.shards import Shard
from atoll.trees import Tree

__all__ = ["echo"]


@operation("bench.echo", discloses="what it was sent")
def echo(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Answer the arrays that were sent."""
    return Reply(dict(payload))


if __name__ == "__main__":
    sys.exit(main())
