"""The owner's policy: nothing that is not written, and nothing that is not understood."""

from __future__ import annotations

import datetime

import pytest

from atoll.silo.errors import Malformed, NotApproved, Quota, TooFewNodes
from atoll.silo.node.policy import START, Policy, Question, Rule, Used, read_policy, size_of, written

KEY = "ed25519:aaaaa-bbbbb-ccccc-ddddd-eeeee"
GOOD = f"""
# alice may find neighbours
[[allow]]
who = "alice"
key = "{KEY}"
data = "iris"
operations = ["describe.*", "neighbors.*"]
columns = ["width", "species"]
min_rows = 20
min_nodes = 3
rounds_per_day = 1000
bytes_per_day = "100 MB"
until = 2027-01-01

[[allow]]
who = "*"
data = ["iris", "wine*"]
operations = "null.ping"
"""
NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC).timestamp()


def asks(who="alice", key=KEY, data="iris", op="neighbors.nearest", nodes=3):
    return Question(who, key, data, op, nodes)


class TestReading:
    def test_every_key(self):
        first, second = read_policy(GOOD)
        assert first == Rule(
            "alice", KEY, ("iris",), ("describe.*", "neighbors.*"), ("width", "species"), 20, 3, 1000, 100_000_000,
            datetime.datetime(2027, 1, 2, tzinfo=datetime.UTC).timestamp(),
        )  # fmt: skip
        assert second == Rule("*", "", ("iris", "wine*"), ("null.ping",))

    def test_what_a_new_node_begins_with_allows_nothing(self):
        assert read_policy(START) == ()

    @pytest.mark.parametrize("rule", read_policy(GOOD))
    def test_a_rule_reads_as_it_is_written(self, rule):
        assert read_policy(START + written(rule, "request 3\nallowed today")) == (rule,)

    @pytest.mark.parametrize(
        ("text", "size"),
        [("100 MB", 10**8), ("1.5 GB", 1_500_000_000), ("10kB", 10_000), ("2 MiB", 2 << 20), (77, 77), ("77", 77)],
    )
    def test_sizes(self, text, size):
        assert size_of(text) == size

    @pytest.mark.parametrize(
        ("change", "names"),
        [
            (("who = ", "wo = "), "unknown key 'wo'"),
            (('who = "alice"', "who = 3"), "line 4"),
            (('who = "alice"', 'who = ""'), "who is no name"),
            (('who = "alice"\n', ""), "'who' is missing"),
            (('data = "iris"\n', ""), "'data' is missing"),
            (('operations = ["describe.*", "neighbors.*"]\n', ""), "'operations' is missing"),
            (('["describe.*", "neighbors.*"]', "[]"), "operations is no name"),
            (('["describe.*", "neighbors.*"]', "[1]"), "line 7"),
            (('["width", "species"]', "true"), "columns is no name"),
            (("min_rows = 20", "min_rows = 0"), "line 9"),
            (("min_rows = 20", "min_rows = -5"), "at least 1"),
            (("min_rows = 20", "min_rows = true"), "whole number"),
            (("min_rows = 20", "min_rows = 2.5"), "whole number"),
            (("min_nodes = 3", 'min_nodes = "3"'), "line 10"),
            (("rounds_per_day = 1000", "rounds_per_day = inf"), "line 11"),
            (("rounds_per_day", "round_per_day"), "did you mean 'rounds_per_day'"),
            (('"100 MB"', '"100 XB"'), "line 12"),
            (('"100 MB"', '"lots"'), "such as '100 MB'"),
            (('"100 MB"', "-1"), "line 12"),
            (('"100 MB"', "1.5"), "line 12"),
            (("2027-01-01", '"tomorrow"'), "line 13"),
            (("2027-01-01", "12:00:00"), "until is no date"),
            (("2027-01-01", "20270101"), "until is no date"),
            (("[[allow]]", "[[alow]]"), "did you mean 'allow'"),
            (('[[allow]]\nwho = "alice"', '[allow]\nwho = "alice"'), "no TOML"),
            (("[[allow]]", "default = 'allow'\n[[allow]]"), "unknown key 'default'"),
            (("[[allow]]", "[[allow"), "no TOML"),
            (('data = "iris"', 'data = "iris"\ndata = "wine"'), "no TOML"),
            (("# alice", "\x00"), "no TOML"),
        ],
    )  # fmt: skip
    def test_whatever_is_not_understood_is_no_policy(self, tmp_path, change, names):
        text = GOOD.replace(*change, 1)
        assert text != GOOD
        path = tmp_path / "policy.toml"
        path.write_text(text)
        with pytest.raises(Malformed, match=names):
            read_policy(text)
        policy = Policy.of(path)
        assert policy.rules == ()
        assert policy.broken
        with pytest.raises(NotApproved, match="cannot be read"):
            policy.passing(asks(), Used(), NOW)

    def test_one_column_needs_no_brackets(self):
        assert read_policy(GOOD.replace('["width", "species"]', '"width"'))[0].columns == ("width",)

    @pytest.mark.parametrize("data", [b"\xff\xfe", b"who = '\xe9'", b"[[allow]]" * 1000])
    def test_bytes_that_are_no_policy(self, tmp_path, data):
        (tmp_path / "policy.toml").write_bytes(data)
        assert Policy.of(tmp_path / "policy.toml").broken

    def test_no_file_allows_nothing(self, tmp_path):
        policy = Policy.of(tmp_path / "policy.toml")
        with pytest.raises(NotApproved):
            policy.passing(asks(), Used(), NOW)


class TestPassing:
    policy = Policy(read_policy(GOOD), "")

    def test_what_is_written_passes(self):
        assert self.policy.passing(asks(), Used(), NOW) == [self.policy.rules[0]]
        assert self.policy.passing(asks(op="describe.schema"), Used(999, 99_999_999), NOW)
        assert self.policy.passing(asks("bob", "other", "wine-2", "null.ping", 1), Used(), NOW)

    @pytest.mark.parametrize(
        ("question", "used", "now", "kind"),
        [
            (asks(who="bob"), Used(), NOW, NotApproved),
            (asks(key="ed25519:other"), Used(), NOW, NotApproved),
            (asks(data="Iris"), Used(), NOW, NotApproved),
            (asks(op="neighbors"), Used(), NOW, NotApproved),
            (asks(op="linear.gram"), Used(), NOW, NotApproved),
            (asks(op="Neighbors.nearest"), Used(), NOW, NotApproved),
            (asks(nodes=2), Used(), NOW, TooFewNodes),
            (asks(nodes=1), Used(), NOW, TooFewNodes),
            (asks(), Used(1000, 0), NOW, Quota),
            (asks(), Used(0, 100_000_000), NOW, Quota),
            (asks(), Used(), NOW + 42 * 86400, NotApproved),
        ],
    )
    def test_nothing_else_does(self, question, used, now, kind):
        with pytest.raises(kind):
            self.policy.passing(question, used, now)

    def test_the_last_day_counts(self):
        last = datetime.datetime(2027, 1, 1, 23, 59, tzinfo=datetime.UTC).timestamp()
        assert self.policy.passing(asks(), Used(), last)
        with pytest.raises(NotApproved, match="until a day"):
            self.policy.passing(asks(), Used(), last + 120)
