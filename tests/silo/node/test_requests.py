"""What was asked in vain, in plain words, and what the owner makes of it."""

from __future__ import annotations

import pytest

from atoll.silo import durable
from atoll.silo.errors import Conflict, Malformed, NotFound
from atoll.silo.node import requests as module
from atoll.silo.node.policy import START, Rule, read_policy
from atoll.silo.node.requests import (
    Wish,
    add_rule,
    approve,
    described,
    open_requests,
    record,
    revoke,
    size_in_words,
)
from silo.node.fakes import node

ALL = "data = '*'\noperations = '*'\n"
KEYS = {"alice": "ed25519:aaaaa", "bob": "ed25519:bbbbb"}


@pytest.fixture
def folder(tmp_path):
    return node(tmp_path)


def ask(folder, who="alice", op="describe.rows", data="iris", purpose="Ridge", **wish):
    return record(folder, who, KEYS[who], data, purpose, op, Wish("the number of its rows", last=1.8e9, **wish))


def rules(folder):
    return read_policy(folder.policy.read_bytes())


class TestRecording:
    def test_one_request_per_requester_and_data_set(self, folder):
        assert [
            ask(folder),
            ask(folder),
            ask(folder, op="null.ping"),
            ask(folder, "bob"),
            ask(folder, data="wine"),
        ] == [1, 1, 1, 2, 3]
        first = open_requests(folder)[0]
        assert {op: w.times for op, w in first.operations.items()} == {"describe.rows": 2, "null.ping": 1}

    def test_names_do_not_fill_the_disk(self, folder, monkeypatch):
        monkeypatch.setattr(module, "_MOST", 10)
        monkeypatch.setattr(module, "_MOST_OPERATIONS", 5)
        for i in range(30):
            ask(folder, data=f"{i}" * 1000, purpose="x" * 10_000)
            ask(folder, op=f"op.{i}", purpose=f"purpose {i}")
        found = open_requests(folder)
        assert len(found) == 10
        assert all(len(r.operations) <= 5 and len(r.purposes) <= 10 and len(r.data) <= 300 for r in found)
        assert (folder / "requests.json").stat().st_size < 100_000

    def test_a_file_that_cannot_be_read_is_begun_anew(self, folder):
        (folder / "requests.json").write_text("{")
        assert open_requests(folder) == []
        assert ask(folder) == 1

    def test_in_plain_words(self, folder):
        ask(folder, nodes=1, bytes=8)
        ask(folder, op="linear.gram", purpose="Lasso", nodes=3, bytes=2_400_000)
        ask(folder, op="neighbors.nearest")
        words = described(open_requests(folder)[0])
        for said in ("alice asks about 'iris'", "Ridge, Lasso", "leaves   the number of its rows", "8 bytes each time",
                     "2.4 MB", "as much as the rows make it", "a sum over at least 3 nodes", "told apart",
                     "the coordinator sees each answer", "to allow this:  atoll node approve 1\n",
                     "to allow everything of these kinds (describe.*, linear.*, neighbors.*):  "
                     "atoll node approve 1 --families"):  # fmt: skip
            assert said in words, said

    @pytest.mark.parametrize(
        ("size", "words"),
        [(0, "as much"), (1, "1 bytes"), (999, "999 bytes"), (1000, "1 kB"), (2.5e9, "2.5 GB"), (1e13, "1e+04 GB")],
    )
    def test_sizes(self, size, words):
        assert size_in_words(size).startswith(words)


class TestApproving:
    def test_the_families_of_what_was_asked(self, folder):
        ask(folder, op="neighbors.nearest")
        rule = approve(folder, 1, whole=True, min_rows=5)
        assert (rule.operations, rule.min_rows) == (("describe.*", "neighbors.*"), 5)
        assert rules(folder) == (rule,)

    def test_what_was_asked(self, folder):
        ask(folder), ask(folder, op="null.ping")
        rule = approve(folder, 1)
        assert rules(folder) == (rule,)
        assert rule == Rule("alice", KEYS["alice"], ("iris",), ("describe.rows", "null.ping"))
        assert open_requests(folder) == []
        assert open_requests(folder, every=True)[0].state == "approved"
        assert "# request 1, allowed" in folder.policy.read_text()

    def test_within_limits(self, folder):
        ask(folder)
        limits = {"operations": ("describe.*",), "columns": ("a",), "min_rows": 5, "rounds_per_day": 10, "until": 1.8e9}
        rule = approve(folder, 1, **limits)
        (found,) = rules(folder)
        assert found._replace(until=None) == rule._replace(until=None)
        assert found.until >= rule.until

    def test_what_is_asked_afterwards_is_another_request(self, folder):
        ask(folder)
        approve(folder, 1)
        assert ask(folder, op="null.ping") == 2

    def test_what_stands_there_stays(self, folder):
        text = START + "\n# mine\n[[allow]]\nwho = 'bob'   # a colleague\ndata = '*'\noperations = '*'"
        folder.policy.write_text(text)
        ask(folder)
        approve(folder, 1)
        assert folder.policy.read_text().startswith(text)
        assert [r.who for r in rules(folder)] == ["bob", "alice"]

    @pytest.mark.parametrize("number", [0, 2, -1])
    def test_a_request_that_is_not_there(self, folder, number):
        ask(folder)
        with pytest.raises(NotFound, match="one of: 1"):
            approve(folder, number)

    def test_a_policy_that_is_broken_is_mended_first(self, folder):
        ask(folder)
        folder.policy.write_text("[[allow")
        with pytest.raises(Malformed):
            approve(folder, 1)
        assert folder.policy.read_text() == "[[allow"

    def test_a_name_that_would_write_another_rule(self, folder):
        evil = 'x"\n[[allow]]\nwho = "*"\ndata = "*"\noperations = "*"\n#'
        record(folder, evil, "ed25519:k", evil, evil, "null.ping", Wish("", last=1.8e9))
        rule = approve(folder, 1)
        assert rules(folder) == (rule,)
        assert rule.who == evil

    def test_a_kill_between_its_steps(self, folder):
        ask(folder)

        def kill(step):
            if step == "node.policy.written":
                raise KeyboardInterrupt

        stop = durable.watch(kill)
        with pytest.raises(KeyboardInterrupt):
            approve(folder, 1)
        stop()
        assert len(rules(folder)) == 1
        approve(folder, 1)
        assert len(open_requests(folder)) == 0


class TestRevoking:
    @pytest.fixture
    def several(self, folder):
        for who in ("alice", "bob"):
            ask(folder, who)
            ask(folder, who, data="wine")
        for number in (1, 2, 3, 4):
            approve(folder, number)
        return folder

    @pytest.mark.parametrize(("what", "left"), [("alice", 2), ("ed25519:bbbbb", 2), ("3", 3)])
    def test_by_name_key_or_number(self, several, what, left):
        gone = revoke(several, what)
        assert len(gone) == 4 - left
        assert len(rules(several)) == left
        assert not set(gone) & set(rules(several))

    def test_comments_of_others_stay(self, several):
        text = several.policy.read_text()
        several.policy.write_text(text + "\n# the last word\n")
        revoke(several, "alice")
        after = several.policy.read_text()
        assert after.startswith(START)
        assert "the last word" in after
        assert "request 3" in after
        assert "request 1," not in after

    @pytest.mark.parametrize("what", ["mallory", "99", "", "*"])
    def test_what_is_not_there(self, several, what):
        with pytest.raises(NotFound, match="alice, bob"):
            revoke(several, what)
        assert len(rules(several)) == 4

    @pytest.mark.parametrize(
        "text",
        [
            "allow = [{who = 'alice', data = 'iris', operations = '*'}]\n",
            f"[[allow]]\nwho = '''\n[[allow]]\nbob'''\n{ALL}[[allow]]\nwho = 'alice'\n{ALL}",
        ],
    )
    def test_files_that_are_written_otherwise_are_left_alone(self, folder, text):
        folder.policy.write_text(text)
        with pytest.raises(Conflict, match="by hand"):
            revoke(folder, "alice")
        assert folder.policy.read_text() == text

    def test_comments_within_a_rule(self, folder):
        text = "[[allow]]\nwho = 'alice'\n# why\ndata = '*'\noperations = [\n  'a.*',  # first\n]\n\n"
        text += f"# bob\n[[allow]]\nwho = 'bob'\n{ALL}"
        folder.policy.write_text(text)
        revoke(folder, "alice")
        assert folder.policy.read_text() == text[text.index("# bob") :]

    def test_a_rule_of_anybody(self, folder):
        add_rule(folder, Rule("*", "", ("*",), ("null.ping",)))
        assert revoke(folder, "*")
        assert rules(folder) == ()
