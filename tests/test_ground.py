"""Errors, trees, specs, streams, digests, memory: the ground that everything stands on."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import sklearn.neighbors  # noqa: F401 - brings an OpenMP of its own
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from atoll import errors
from atoll.blas import one_thread
from atoll.errors import AtollError, InvalidData, UnknownName, WireError, closest, explain
from atoll.memory import Store
from atoll.messages import Rule, digest
from atoll.rng import as_seed, stream
from atoll.specs import Registry, Spec, programs, read
from atoll.trees import PIECE, Leaf, TreeSpec, check, contract, finite, nbytes, squares


class TestErrors:
    def test_a_message_says_got_expected_where_and_next(self):
        lines = explain("it is so", got=1, expected=2, where="here", hint="do that").splitlines()
        assert lines[0] == "it is so"
        assert [line.split()[0] for line in lines[1:]] == ["got:", "expected:", "where:", "next:"]

    def test_every_error_is_atolls_own_and_drawn_in_the_tree(self):
        for name in errors.__all__:
            kind = getattr(errors, name)
            if isinstance(kind, type):
                assert issubclass(kind, AtollError)
                assert kind is AtollError or name in errors.__doc__

    def test_scikit_learn_sees_the_classes_it_expects(self):
        assert issubclass(InvalidData, ValueError)
        assert issubclass(errors.UnsupportedEstimator, TypeError)
        assert issubclass(errors.NotAvailable, AttributeError)
        assert issubclass(errors.NodeValueError, ValueError)

    def test_closest_offers_what_is_near_or_lists_all(self):
        assert closest("labl", ["label", "iid"]) == "did you mean 'label'?"
        assert closest("zzz", ["label", "iid"]) == "known: iid, label"
        assert closest("x", []) == "nothing is registered"


class TestTrees:
    empty = {"x": np.zeros((0, 3)), "d": np.full(2, np.inf), "name": np.zeros(0, "U1"), "n": np.zeros(1, np.int64)}

    def good(self):
        return {
            "x": np.ones((7, 3)),
            "d": np.array([1.0, np.inf]),
            "name": np.array(["long name"]),
            "n": np.ones(1, np.int64),
        }

    def test_lengths_of_zero_are_free_infinities_allowed_text_has_no_width(self):
        check(self.good(), contract(self.empty))

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("x", np.ones((7, 4)), "another shape"),
            ("x", np.ones(7), "another shape"),
            ("x", np.ones((7, 3), np.float32), "another dtype"),
            ("x", np.full((1, 3), np.inf), "not allowed"),
            ("d", np.array([np.nan, 1]), "not allowed"),
            ("name", np.ones(3), "another dtype"),
            ("n", np.ones(1), "another dtype"),
        ],
    )
    def test_what_breaks_the_contract_is_named(self, name, value, words):
        with pytest.raises(WireError, match=f"(?s){name}.*{words}"):
            check({**self.good(), name: value}, contract(self.empty))

    def test_other_names_are_refused(self):
        with pytest.raises(WireError, match="other arrays"):
            check({**self.good(), "extra": np.ones(1)}, contract(self.empty))
        with pytest.raises(WireError, match="other arrays"):
            check({}, contract(self.empty))

    @pytest.mark.parametrize("weight", [-1.0, 1e18, np.nan])
    def test_weights_are_bounded(self, weight):
        spec = contract({"weight": np.zeros(1)}, max_weight=100)
        check({"weight": np.array([100.0])}, spec)
        with pytest.raises(WireError):
            check({"weight": np.array([weight])}, spec)

    @pytest.mark.parametrize("most", [4.9, 5.0])
    def test_norms_are_bounded_over_all_floats_but_the_weight(self, most):
        tree = {
            "a": np.array([[3.0]]), "b": np.array([0, 4], np.float32), "n": np.array([99]),
            "weight": np.array([99.0]), "name": np.array(["x"]),
        }  # fmt: skip
        spec = contract(tree)._replace(max_norm=most)
        assert contract(tree).max_norm == np.inf
        if most >= 5:
            check(tree, spec)
            return
        check(tree, spec, values=False)
        with pytest.raises(WireError, match=r"(?s)norm.*5\.0.*at most 4\.9"):
            check(tree, spec)

    @pytest.mark.parametrize("value", [np.inf, np.nan, 1e200])
    def test_a_norm_that_is_no_number_is_out_of_range(self, value):
        spec = TreeSpec({"a": Leaf("<f8", (2,), "nan")}, max_norm=1e300)
        with pytest.raises(WireError, match="norm"):
            check({"a": np.array([1.0, value])}, spec)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, np.complex128])
    def test_squares_are_added_in_pieces(self, dtype):
        array = np.random.default_rng(0).normal(size=2 * PIECE + 5).astype(dtype)
        exact = math.fsum(np.square(np.abs(array).astype(np.float64)).tolist())
        assert squares(array) == pytest.approx(exact, rel=1e-12)
        assert squares(array) == sum([squares(array[i : i + PIECE]) for i in range(0, array.size, PIECE)])
        assert squares(np.arange(5)) == 0

    def test_wildness(self):
        assert [finite(np.array(a)) for a in ([1.0], [np.inf], [np.inf, np.nan], [1], ["a"])] == [
            "finite", "inf", "nan", "finite", "finite",
        ]  # fmt: skip
        assert nbytes({"a": np.zeros(3), "b": np.zeros(2, np.int8)}) == 26


class TestSpecs:
    def test_names_are_looked_up_with_did_you_mean(self):
        registry = Registry("thing")
        registry.add("alpha", 1)
        assert registry["alpha"] == 1
        assert ("alpha" in registry, list(registry), len(registry)) == (True, ["alpha"], 1)
        with pytest.raises(UnknownName, match=r"(?s)unknown thing 'alpa'.*did you mean 'alpha'\?"):
            registry["alpa"]
        with pytest.raises(UnknownName):
            registry[["unhashable"]]
        with pytest.raises(ValueError, match="registered twice"):
            registry.add("alpha", 2)

    def things(self):
        registry = Registry("thing")
        registry.add("plain", lambda n: n)
        registry.add("set-up", lambda n, *, size=1, colour="red": n)
        return registry

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain", Spec("plain")),
            ("plain()", Spec("plain")),
            (" set-up( size = 3 ) ", Spec("set-up", {"size": 3})),
            ("set-up=1e-3", Spec("set-up", {"size": 1e-3})),
            ("set-up(2, colour='blue')", Spec("set-up", {"size": 2, "colour": "blue"})),
        ],
    )
    def test_specs_are_read_as_people_write_them(self, text, expected):
        assert read(self.things(), text) == expected

    @pytest.mark.parametrize(
        "text", ["set-up(size=__import__('os'))", "set-up(size=)", "set-up(1, 2)", "plain(1)", "set-up(**{})("]
    )
    def test_what_cannot_be_read_says_so(self, text):
        with pytest.raises((InvalidData, UnknownName), match="thing"):
            read(self.things(), text)

    def test_unknown_settings_get_did_you_mean(self):
        with pytest.raises(UnknownName, match=r"(?s)thing 'set-up' has no setting 'siz'.*did you mean 'size'"):
            read(self.things(), "set-up(siz=3)")
        with pytest.raises(UnknownName, match="no settings at all"):
            read(self.things(), "plain(x=3)")

    def test_programs_are_lent_once_per_function(self):
        def near(a, b):
            return 0.0

        other = [lambda a, b: 0.0, lambda a, b: 1.0]
        name = programs.lend(near)
        assert programs.lend(near) == name
        assert name.startswith("local:")
        assert len({programs.lend(f) for f in other}) == 2
        assert programs[name] is near


class TestStreams:
    def test_the_same_key_gives_the_same_stream_and_another_key_another(self):
        def draw(*key):
            return stream(*key).integers(2**63, size=4).tolist()

        keys = [
            (0, 0, 0, "a"),
            (1, 0, 0, "a"),
            (0, 1, 0, "a"),
            (0, 0, 1, "a"),
            (0, 0, 0, "b"),
            (0, 0, -1, "a"),
            (0, 10, 0, "a"),
        ]
        drawn = [draw(*k) for k in keys]
        assert drawn == [draw(*k) for k in keys]
        assert len({tuple(d) for d in drawn}) == len(keys)

    def test_the_first_numbers_are_these_for_ever(self):
        """Pinned: a change here changes every seeded result."""
        assert stream(42, 1, 2, "shuffle").integers(1000, size=5).tolist() == [910, 745, 577, 50, 298]

    def test_random_state_becomes_a_seed(self):
        assert as_seed(None) == 0
        assert as_seed(7) == as_seed(np.int64(7)) == 7
        assert as_seed(np.random.RandomState(3)) == as_seed(np.random.RandomState(3))
        generator = np.random.default_rng(3)
        assert as_seed(generator) != as_seed(generator)


class TestDigest:
    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))  # fmt: skip
    def test_equal_values_have_equal_digests(self, value):
        import copy

        assert digest(value) == digest(copy.deepcopy(value))

    def test_what_differs_has_another_digest(self):
        values = [
            1, 1.0, True, "1", None, [1], [[1]], {"a": 1}, {"a": 2}, {"b": 1}, ["a", "b"], ["ab"], [],
            np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), np.array([0.0, -0.0]), np.array(["a"]), np.zeros(0),
        ]  # fmt: skip
        assert len({digest(v) for v in values}) == len(values)

    def test_order_of_keys_and_layout_do_not_matter(self):
        assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        X = np.arange(6.0).reshape(2, 3)
        assert digest(X) == digest(np.asfortranarray(X))


class TestMemory:
    def slot(self, value):
        return {"c": {"w": np.array([value])}}

    def test_versions_are_read_as_of_the_base(self):
        memory = Store()
        memory.write(0, 1, -1, self.slot(1.0))
        memory.write(0, 2, 1, {"d": {}})
        assert memory.read(0, -1) == {}
        assert set(memory.read(0, 2)) == {"c", "d"}
        assert memory.read(5, 3) == {}

    def test_an_exchange_that_was_not_accepted_leaves_no_trace(self):
        memory = Store()
        memory.write(0, 1, -1, {"a": {}, "b": {}})
        memory.write(0, 2, 1, {"b": {"lost": np.zeros(1)}})
        memory.write(0, 3, 1, {"a": {"new": np.zeros(1)}})
        state = memory.read(0, 3)
        assert "new" in state["a"]
        assert "lost" not in state["b"]

    def test_what_can_no_longer_be_read_is_dropped(self):
        memory = Store()
        for number in range(20):
            memory.write(0, number, number - 1, self.slot(float(number)))
            memory.read(0, number)
        assert memory.version(0, 5) == {}
        assert memory.version(0, 19)["c"]["w"] == 19.0


class TestRule:
    @pytest.mark.parametrize("rule", [Rule(0), Rule(-1.0), Rule(None, 0), Rule(None, 1.5), Rule(late="never")])
    def test_a_rule_is_checked(self, rule):
        with pytest.raises(InvalidData):
            rule.validated()

    def test_a_good_rule_is_itself(self):
        rule = Rule(3.0, 0.5, "wait")
        assert rule.validated() is rule


class TestOneThread:
    def threads(self):
        return {i["num_threads"] for i in threadpool_info() if "faiss" not in i["filepath"]}  # faiss counts for itself

    def test_openmp_is_among_them(self):
        assert "openmp" in {i["user_api"] for i in threadpool_info()}

    def test_it_nests_and_gives_back(self):
        before = self.threads()
        with one_thread():
            with one_thread():
                assert self.threads() == {1}
            assert self.threads() == {1}
        assert self.threads() == before

    def test_it_is_shared_by_threads(self):
        before, inside, leave, seen = self.threads(), threading.Event(), threading.Event(), []

        def hold():
            with one_thread():
                seen.append(self.threads())
                inside.set()
                leave.wait(10)
                seen.append(self.threads())

        thread = threading.Thread(target=hold)
        with one_thread():
            thread.start()
            assert inside.wait(10)
        mine = [i for i in threadpool_info() if "faiss" not in i["filepath"]]
        blas = {i["num_threads"] for i in mine if i["user_api"] == "blas"}
        assert blas == {1}, "the other thread still counts on it"
        leave.set()
        thread.join()
        assert seen == [{1}, {1}]
        assert self.threads() == before

    def test_a_thread_that_comes_second_is_limited_too(self):
        with one_thread():
            pass
        seen = []

        def later():
            with one_thread():
                seen.append(self.threads())

        thread = threading.Thread(target=later)
        thread.start()
        thread.join()
        assert seen == [{1}]
