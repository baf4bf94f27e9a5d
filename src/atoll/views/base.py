"""The seam: a view is a name with settings, looked up and applied on the node, and kept there as long as it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from atoll.messages import digest
from atoll.shards import Shard
from atoll.specs import Registry, Spec
from atoll.trees import Tree

__all__ = ["viewer", "views"]

views: Registry[Callable[[Shard, dict[str, Any], Tree], Shard]] = Registry("view")


def viewer(specs: Sequence[Spec]) -> Callable[[Shard], Shard]:
    """Bind some views once; the result maps a node's rows to what the operation sees.

    The views' arrays are hashed here, once for all nodes; for the same specs, which nobody changes, once at all.
    """
    if not specs:
        return lambda shard: shard
    same = tuple(map(id, specs))
    if same not in _viewers:
        _viewers[same] = (tuple(specs), _bind(specs))
        if len(_viewers) > _BOUND:
            _viewers.pop(next(iter(_viewers)), None)
    return _viewers[same][1]


# Bound views by the identity of their specs, which stand beside them so that no other object takes an identity over.
_viewers: dict[tuple[int, ...], tuple[tuple[Spec, ...], Callable[[Shard], Shard]]] = {}
_BOUND = 32


def _bind(specs: Sequence[Spec]) -> Callable[[Shard], Shard]:
    steps, key = [], ""
    for spec in specs:
        key = digest([key, tuple(spec)])
        steps.append((key, views[spec.name], spec))

    def see(shard: Shard) -> Shard:
        for key, view, spec in steps:
            base = shard
            shard = base.memo(("view", key), lambda b=base, v=view, s=spec: v(b, s.settings, s.arrays))  # type: ignore[misc]
        return shard

    return see
