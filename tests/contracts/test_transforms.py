"""Every transform: what is encoded, added and decoded is the sum, and chains unwind in reverse."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.combine import close
from atoll.context import Ctx
from atoll.errors import InvalidData
from atoll.specs import Spec
from atoll.transforms import Transform, build, chain, fixed_point, identity, transforms
from cases import combine, numbers, same_bits

EXAMPLES = {"identity": ({}, 0.0), "fixed_point": ({"bits": 30}, 8 * 2.0**-31)}
CTX = Ctx(0, 0, 0, 0, {}, {}, (0,))


def test_every_transform_has_an_example():
    assert set(EXAMPLES) == set(transforms)


@pytest.fixture(params=sorted(EXAMPLES))
def example(request):
    settings, error = EXAMPLES[request.param]
    return transforms[request.param](**settings), error


def through(code, trees):
    expand, decode = code.expand or (lambda t: t), code.decode or (lambda t: t)
    parts = [(i, i + 1, expand(code.encode(t, CTX)[0])) for i, t in enumerate(trees)]
    return decode(close(combine("Sum").add, parts, len(parts)))


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_comes_through(example, seed):
    code, error = example
    rng = np.random.default_rng(seed)
    trees = [numbers(rng) for _ in range(8)]
    got = through(code, trees)
    for name in trees[0]:
        expected = sum(t[name] for t in trees)
        assert got[name].dtype == expected.dtype
        assert np.abs(got[name] - expected).max() <= error + 1e-12, f"seed {seed}"


def test_a_transform_is_rebuilt_from_its_specs(example):
    code, _ = example
    tree = numbers(np.random.default_rng(0))
    assert same_bits(build(code.specs).encode(tree, CTX)[0], code.encode(tree, CTX)[0])


def test_chains_unwind_in_reverse():
    order = []

    def step(name):
        def note(what):
            return lambda tree: (order.append(f"{what} {name}"), tree)[1]

        return Transform((Spec(name),), lambda t, c: (note("encode")(t), {"kept": t["x"]}), note("expand"), None)

    code = chain(step("inner"), step("outer"))
    encoded, kept = code.encode({"x": np.ones(1)}, CTX)
    code.expand(encoded)
    assert order == ["encode inner", "encode outer", "expand outer", "expand inner"]
    assert set(kept) == {"0/kept", "1/kept"}
    assert [s.name for s in code.specs] == ["inner", "outer"]


def test_what_is_undone_before_adding_cannot_stand_inside_what_is_undone_after():
    sparse = Transform((Spec("sparse"),), lambda t, c: (t, None), expand=lambda t: t)
    with pytest.raises(InvalidData, match="sparse inside fixed_point"):
        chain(sparse, fixed_point())
    assert chain(fixed_point(), sparse).decode is not None


def test_an_empty_chain_is_the_identity():
    tree = numbers(np.random.default_rng(0))
    assert same_bits(chain().encode(tree, CTX)[0], identity().encode(tree, CTX)[0])
    assert chain().specs == ()


def test_fixed_point_sums_are_exact_in_any_order():
    rng = np.random.default_rng(5)
    trees = [{"x": rng.normal(size=50) * 10.0 ** rng.integers(-3, 4)} for _ in range(9)]
    code = fixed_point(bits=24)
    encoded = [code.encode(t, CTX)[0] for t in trees]
    forwards = sum(t["x@fixed"] for t in encoded)
    backwards = sum(t["x@fixed"] for t in reversed(encoded))
    assert forwards.dtype == np.int64
    assert (forwards == backwards).all()


@pytest.mark.parametrize("value", [np.inf, np.nan, 2.0**40])
def test_what_does_not_fit_is_refused(value):
    with pytest.raises(InvalidData, match="does not fit fixed point"):
        fixed_point(bits=24).encode({"x": np.array([value])}, CTX)


@pytest.mark.parametrize("bits", [-1, 53, 1.5])
def test_bits_are_checked(bits):
    with pytest.raises(InvalidData, match="0 to 52"):
        fixed_point(bits=bits)
