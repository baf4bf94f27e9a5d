"""What a task declares that its run may ask: shown to the owner with the first question, and never a permission."""

from __future__ import annotations

import pytest

from atoll import wire
from atoll.silo.errors import Digest
from atoll.silo.node.answering import Answerer
from atoll.silo.node.check import Me, read_task
from atoll.silo.node.policy import Rule
from atoll.silo.node.requests import approve, described, open_requests
from silo.node.fakes import COORDINATOR, Driver, node

ASKS = ("describe.labels", "describe.schema", "neighbors.nearest")


def asked(answerer, driver, op, asks=ASKS, **more):
    starts = () if op == "describe.rows" else (0, 10, 20)
    task = driver.task(driver.exchange(op, **more), starts=starts, asks=asks)
    answer = answerer.answer(driver.assign(task), lambda blob: pytest.fail("nothing is fetched"))
    return answer.refusal.code if answer.refusal else "answered"


@pytest.fixture
def driver():
    return Driver()


@pytest.fixture
def folder(tmp_path):
    return node(tmp_path)


@pytest.fixture
def answerer(folder):
    made = Answerer(folder, Me("b", COORDINATOR.fingerprint))
    yield made
    made.log.close()


def test_the_first_refusal_shows_everything_and_one_approval_is_enough(folder, answerer, driver):
    assert asked(answerer, driver, "describe.rows") == "not-approved"
    (request,) = open_requests(folder)
    assert {op: wish.times for op, wish in request.operations.items()} == {"describe.rows": 1, **dict.fromkeys(ASKS, 0)}
    words = described(request)
    assert "describe.rows, asked once" in words
    assert "neighbors.nearest, announced: to be asked next\n    leaves   for each query" in words
    assert words.index("describe.rows") < words.index("describe.labels"), "what was asked stands first"
    rule = approve(folder, request.id)
    assert rule.operations == ("describe.labels", "describe.rows", "describe.schema", "neighbors.nearest")
    assert asked(answerer, driver, "describe.rows") == "answered"
    assert asked(answerer, driver, "describe.schema", settings={"classes": True}) == "answered"
    assert open_requests(folder) == []


def test_a_declaration_allows_nothing(folder, answerer, driver):
    assert asked(answerer, driver, "describe.schema", ("describe.schema", "*", "describe.*")) == "not-approved"
    (request,) = open_requests(folder)
    assert list(request.operations) == ["describe.schema"], "patterns are not operations"
    approve(folder, request.id)
    assert asked(answerer, driver, "describe.rows", ("describe.rows",)) == "not-approved"


def test_what_is_allowed_already_is_not_shown_again(tmp_path, driver):
    rules = [driver.rule("neighbors.*"), driver.rule("describe.labels", until=1.0),
             Rule("bob", "", ("iris",), ("describe.schema",))]  # fmt: skip
    folder = node(tmp_path, allow=rules)
    answerer = Answerer(folder, Me("b", COORDINATOR.fingerprint))
    assert asked(answerer, driver, "describe.rows") == "not-approved"
    (request,) = open_requests(folder)
    assert sorted(request.operations) == ["describe.labels", "describe.rows", "describe.schema"]
    answerer.log.close()


def test_what_was_announced_counts_once_it_is_asked(folder, answerer, driver):
    asked(answerer, driver, "describe.rows")
    asked(answerer, driver, "describe.schema")
    (request,) = open_requests(folder)
    assert request.operations["describe.schema"].times == 1
    assert request.operations["describe.schema"].nodes == 1
    asked(answerer, driver, "describe.rows")
    (request,) = open_requests(folder)
    assert request.operations["describe.schema"].times == 1, "announced again, it is still what was asked"


def test_a_limit_is_no_reason_to_show_more(tmp_path, driver):
    folder = node(tmp_path, allow=[driver.rule("describe.rows", min_nodes=3)])
    answerer = Answerer(folder, Me("b", COORDINATOR.fingerprint))
    assert asked(answerer, driver, "describe.rows") == "too-few-nodes"
    (request,) = open_requests(folder)
    assert list(request.operations) == ["describe.rows"]
    answerer.log.close()


def test_a_long_declaration_fills_no_disk(folder, answerer, driver):
    junk = tuple(f"op.{i}" for i in range(5000))
    assert asked(answerer, driver, "describe.rows", (*junk, *ASKS)) == "not-approved"
    (request,) = open_requests(folder)
    assert list(request.operations) == ["describe.rows"]
    assert (folder / "requests.json").stat().st_size < 10_000


def test_a_declaration_is_signed_with_the_rest(driver):
    task = driver.task(driver.exchange("describe.rows"), starts=(), asks=ASKS)
    assignment = driver.assign(task)
    altered = wire.encode(task._replace(asks=("describe.rows",)))
    me = Me("b", COORDINATOR.fingerprint)
    assert read_task(assignment, assignment.inline, me, task.issued).task.asks == ASKS
    with pytest.raises(Digest):
        read_task(assignment, altered, me, task.issued)
