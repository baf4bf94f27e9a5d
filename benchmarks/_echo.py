"""A node that also knows ``bench.echo``: ``_echo.py node run FOLDER``. Who asks imports this module for the same name."""

from __future__ import annotations

import sys

from atoll.silo.node.lean import load_worker

if __name__ == "__main__":  # before anything else loads it, as in a node
    load_worker()

from atoll.cli import main  # noqa: E402
from atoll.context import Ctx  # noqa: E402
from atoll.messages import Reply  # noqa: E402
from atoll.operations import operation  # noqa: E402
from atoll.shards import Shard  # noqa: E402
from atoll.trees import Tree  # noqa: E402

__all__ = ["echo"]


@operation("bench.echo", discloses="what it was sent")
def echo(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Answer the arrays that were sent."""
    return Reply(dict(payload))


if __name__ == "__main__":
    sys.exit(main())
