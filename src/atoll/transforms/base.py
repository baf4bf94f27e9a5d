"""The seam: what a transform is, and how several become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.specs import Registry, Spec
from atoll.trees import Tree

__all__ = ["Transform", "build", "chain", "transforms"]


class Transform(NamedTuple):
    """What is done to a contribution on its way.

    Attributes
    ----------
    specs : tuple of Spec
        How this transform is written when it travels; several for a chain.
    encode : callable
        On the node: tree and `Ctx` to tree and, or None, what the node keeps (error feedback).
    expand : callable or None
        On each contribution before adding (sparse, quantised).
    decode : callable or None
        On the sum, once (fixed point, masks). A transform with a decode works on plain sums only.
    """

    specs: tuple[Spec, ...]
    encode: Callable[[Tree, Ctx], tuple[Tree, Tree | None]]
    expand: Callable[[Tree], Tree] | None = None
    decode: Callable[[Tree], Tree] | None = None


transforms: Registry[Callable[..., Transform]] = Registry("transform")


def build(specs: Sequence[Spec]) -> Transform:
    """Look transforms up by name and chain them."""
    return chain(*(transforms[s.name](**s.settings, **s.arrays) for s in specs))


def chain(*steps: Transform) -> Transform:
    """Apply transforms in order on the node and unwind them in reverse.

    Parameters
    ----------
    *steps : Transform
        The first is nearest to the operation, the last nearest to the wire.

    Returns
    -------
    Transform

    Raises
    ------
    InvalidData
        If a code that is undone before adding stands inside one that is undone after: its turn would come too late.

    Examples
    --------
    >>> from atoll.transforms import chain, fixed_point, identity
    >>> [spec.name for spec in chain(identity(), fixed_point(bits=20)).specs]
    ['identity', 'fixed_point']
    """
    _check_order(steps)
    specs = tuple(spec for step in steps for spec in step.specs)
    expands = [step.expand for step in reversed(steps) if step.expand]
    decodes = [step.decode for step in reversed(steps) if step.decode]
    return Transform(specs, _encoder(steps), _pipeline(expands), _pipeline(decodes))


def _check_order(steps: Sequence[Transform]) -> None:
    for i, inner in enumerate(steps):
        for outer in steps[i + 1 :]:
            if inner.expand and outer.decode:
                raise InvalidData(
                    explain(
                        "a code undone before adding cannot stand inside one undone after adding",
                        got=f"{inner.specs[0].name} inside {outer.specs[0].name}",
                        hint="swap the two, or leave one out",
                    )
                )


def _encoder(steps: Sequence[Transform]) -> Callable[[Tree, Ctx], tuple[Tree, Tree | None]]:
    def encode(tree: Tree, ctx: Ctx) -> tuple[Tree, Tree | None]:
        kept: Tree = {}
        for i, step in enumerate(steps):
            tree, keep = step.encode(tree, ctx)
            kept.update({f"{i}/{name}": array for name, array in (keep or {}).items()})
        return tree, kept or None

    return encode


def _pipeline(functions: Sequence[Callable[[Tree], Tree]]) -> Callable[[Tree], Tree] | None:
    if not functions:
        return None

    def run(tree: Tree) -> Tree:
        for function in functions:
            tree = function(tree)
        return tree

    return run
