"""``atoll node``: what the owner of rows types, and reads."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time

import pytest

from atoll.cli import options
from atoll.silo.node.answering import Answerer
from atoll.silo.node.check import Me
from atoll.silo.node.log import verify
from atoll.silo.node.policy import read_policy
from silo.node.fakes import Driver, csv, node

ALL = ["join", "run", "requests", "approve", "revoke", "log", "status", "service", "leave"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    return node(tmp_path)


@pytest.fixture
def asked(folder):
    """A node that was asked two things in vain."""
    alice = Driver("alice")
    me = Me("b", folder.profile.federation)
    answerer = Answerer(folder, me)
    answerer.answer(alice.ask("describe.rows"), None)
    answerer.answer(alice.ask("null.ping"), None)
    answerer.log.close()
    return folder, alice, me


@pytest.mark.parametrize("name", ALL)
def test_help_begins_with_an_example_that_can_be_read(atoll, name):
    said = atoll("node", name, "--help")
    assert said.status == 0
    example = said.out.splitlines()[1].strip()
    assert example.startswith(f"atoll node {name}")
    import shlex

    words = shlex.split(example.partition(" >")[0])[1:]
    command, rest = options.named(words)
    options.parser(command).parse(rest)


def test_the_overview_of_all(atoll):
    said = atoll("node", "--help")
    assert said.status == 0
    assert all(f"node {name}" in said.out for name in ALL)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("join",), 2, "URL is missing"),
        (("join", "https://x"), 2, "TOKEN is missing"),
        (("join", "https://x", "atoll_a"), 2, "a node offers data"),
        (("join", "https://x", "atoll_a", "--data", "iris"), 1, "name=place"),
        (("join", "https://x", "atoll_a", "--data", "iris=none.csv:t"), 2, "no such file"),
        (("join", "https://x", "atoll_a", "--data", "iris=iris.csv:spec"), 2, "did you mean 'species'"),
        (("join", "https://x", "atoll_a", "--data", "iris=iris.csv:species", "--allow", "alice"), 1, "allows nothing"),
        (("join", "https://x", "atoll_a", "--data", "iris=iris.csv:species"), 1, "mistyped"),
        (("approve",), 2, "ID is missing"),
        (("approve", "x"), 2, "number of a request"),
        (("approve", "7"), 2, "no request 7"),
        (("approve", "1", "--until", "soon"), 1, "until is no date"),
        (("approve", "1", "--bytes-per-day", "much"), 1, "bytes_per_day is no number"),
        (("approve", "1", "--min-rows", "0"), 2, "at least 1"),
        (("approve", "1", "--operations", "neighbours.*"), 2, "did you mean 'neighbors.*'"),
        (("approve", "1", "--operations", "null.*", "--families"), 2, "leave one of them out"),
        (("approve", "1", "--operations", "null.*,neighbours.*"), 2, "did you mean 'neighbors.*'"),
        (("approve", "1", "--columns", " , "), 2, "--columns names nothing"),
        (("approve", "1", "--operations", ","), 2, "--operations names nothing"),
        (("revoke", "mallory"), 2, "nobody"),
        (("run", "nowhere"), 2, "no node here"),
        (("log", "--folder", "nowhere"), 2, "no node here"),
        (("leave",), 2, "--yes"),
        (("status", "--verbose"), 2, "unknown option"),
        (("sing",), 2, "unknown command"),
    ],
)
def test_bad_input(atoll, asked, tmp_path, words, status, message, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    folder = ("--folder", str(asked[0].path))
    own = words[0] in ("approve", "revoke", "leave") and len(words) > 0
    said = atoll("node", *words, *(folder if own else ()))
    assert message in said.err, said.err
    assert said.status == status
    assert said.out == ""


class TestRequests:
    def test_nothing_waits(self, atoll, folder):
        said = atoll("node", "requests", "--folder", str(folder.path))
        assert said.status == 0
        assert "nothing waits" in said.out

    def test_in_words_and_as_data(self, atoll, asked):
        folder, alice, _ = asked
        said = atoll("node", "requests", "--folder", str(folder.path))
        for words in ("request 1: alice asks about 'iris'", alice.key.fingerprint, "KNeighborsClassifier", "null.ping"):
            assert words in said.out
        (request,) = atoll("node", "requests", "--folder", str(folder.path), "--json").data()["requests"]
        assert set(request["operations"]) == {"describe.rows", "null.ping"}

    def test_approved_asked_and_revoked(self, atoll, asked):
        folder, alice, me = asked
        said = atoll("node", "approve", "1", "--folder", str(folder.path))
        assert said.status == 0
        assert "alice" in said.out
        assert "describe.rows, null.ping of iris" in said.out
        answerer = Answerer(folder, me)
        assert answerer.answer(alice.ask("null.ping"), None).refusal is None
        said = atoll("node", "revoke", "alice", "--folder", str(folder.path))
        assert "no longer: alice" in said.out
        assert answerer.answer(alice.ask("null.ping"), None).refusal.code == "not-approved"
        answerer.log.close()
        assert verify(folder.log)

    def test_families_of_what_was_asked(self, atoll, asked):
        folder, alice, me = asked
        where = ("--folder", str(folder.path))
        assert "atoll node approve 1 --families" in atoll("node", "requests", *where).out
        said = atoll("node", "approve", "1", "--families", *where)
        assert said.status == 0
        assert "may ask describe.*, null.* of iris" in said.out
        answerer = Answerer(folder, me)
        assert answerer.answer(alice.ask("describe.rows"), None).refusal is None
        assert answerer.answer(alice.ask("null.ping"), None).refusal is None
        assert answerer.answer(alice.ask("describe.schema"), None).refusal.code == "failed"  # allowed, but ill put
        assert answerer.answer(alice.ask("columns.means"), None).refusal.code == "not-approved"
        answerer.log.close()

    def test_commas_are_several_words(self, atoll, asked):
        folder, *_ = asked
        words = ["--operations", "describe.*, null.*", "null.ping,", "--columns", "width,species"]
        assert atoll("node", "approve", "1", "--folder", str(folder.path), *words).status == 0
        (rule,) = read_policy(folder.policy.read_text())
        assert rule.operations == ("describe.*", "null.*", "null.ping")
        assert rule.columns == ("width", "species")

    def test_limits_are_written_as_they_are_read(self, atoll, asked):
        folder, *_ = asked
        limits = [
            "--operations",
            "null.*",
            "describe.rows",
            "--columns",
            "width",
            "--min-rows",
            "5",
            "--min-nodes",
            "2",
        ]
        limits += ["--rounds-per-day", "9", "--bytes-per-day", "1 MB", "--until", "2030-05-01", "--json"]
        told = atoll("node", "approve", "1", "--folder", str(folder.path), *limits).data()["allowed"]
        (rule,) = read_policy(folder.policy.read_text())
        assert json.loads(json.dumps(rule._asdict())) == told
        assert (rule.bytes_per_day, rule.min_nodes, rule.operations) == (10**6, 2, ("null.*", "describe.rows"))


class TestLog:
    def test_in_words_as_data_and_verified(self, atoll, asked):
        folder = asked[0]
        said = atoll("node", "log", "--folder", str(folder.path))
        assert said.out.count("not-approved") == 2
        data = atoll("node", "log", "--folder", str(folder.path), "--json", "--last", "1").data()
        assert [e["op"] for e in data["entries"]] == ["null.ping"]
        said = atoll("node", "log", "--verify", "--folder", str(folder.path))
        assert said.status == 0
        assert "none altered" in said.out
        assert atoll("node", "log", "--verify", "--json", "--folder", str(folder.path)).data()["ok"] is True

    def test_an_altered_log_is_told(self, atoll, asked):
        folder = asked[0]
        folder.log.write_bytes(folder.log.read_bytes().replace(b"null.ping", b"null.pong"))
        said = atoll("node", "log", "--verify", "--folder", str(folder.path))
        assert said.status == 1
        assert "line" in said.err


class TestStatus:
    def test_in_words_and_as_data(self, atoll, asked):
        folder = asked[0]
        said = atoll("node", "status", "--folder", str(folder.path))
        for words in ("does not run", "iris.csv, to predict species", "allowed     nothing", "1 wait"):
            assert words in said.out, words
        data = atoll("node", "status", "--folder", str(folder.path), "--json").data()
        assert (data["process"], data["requests"], data["policy"]) == (None, 1, "sound")
        folder.policy.write_text("[[allow")
        assert "everything is refused" in atoll("node", "status", "--folder", str(folder.path)).out


class TestService:
    def test_the_unit(self, atoll, folder):
        said = atoll("node", "service", "--folder", str(folder.path), "--user")
        assert said.out.startswith("[Unit]")


class TestLeaving:
    def test_the_key_goes_and_the_log_stays(self, atoll, asked):
        folder = asked[0]
        assert atoll("node", "leave", "--yes", "--folder", str(folder.path)).status == 0
        assert not any((folder / name).exists() for name in ("key", "policy.toml", "profile.json", "node.toml"))
        assert verify(folder.log)
        assert atoll("node", "status", "--folder", str(folder.path)).status == 2


class TestRunning:
    def start(self, folder):
        return subprocess.Popen(
            [sys.executable, "-m", "atoll", "node", "run", str(folder.path)], stderr=subprocess.PIPE, text=True
        )

    @pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_it_ends_in_good_order(self, folder, sent, status):
        running = self.start(folder)
        try:
            assert "answers https://coordinator:1" in running.stderr.readline()
            assert folder.runs() == running.pid
            second = self.start(folder)
            assert "runs already" in second.communicate(timeout=60)[1]
            assert second.returncode == 1
            running.send_signal(sent)
            assert running.wait(30) == status
        finally:
            running.kill()
            running.communicate()
        assert verify(folder.log)
        assert b'"event":"stopped"' in folder.log.read_bytes().splitlines()[-1]

    def test_after_a_kill_it_runs_again(self, folder):
        for _ in range(2):
            running = self.start(folder)
            running.stderr.readline()
            time.sleep(0.2)
            running.kill()
            running.communicate()
        assert verify(folder.log)
        assert folder.runs() is None


def test_a_file_that_is_read_is_the_one_that_was_named(tmp_path):
    assert csv(tmp_path / "iris.csv").read_text().startswith("width,height,species")
