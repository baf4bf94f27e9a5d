"""What happens to addresses from which too much fails: they wait, their neighbours and members do not."""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atoll.silo import api, errors
from atoll.silo.errors import Malformed
from atoll.silo.keys import Key
from atoll.silo.server import Coordinator
from atoll.silo.server.failures import ADDRESSES, Failures, group
from silo.serving import Caller, admin, join, joined, running

WRONG = errors.BadSignature("it does not fit")


class Time:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def asked(peer: str = "192.0.2.1", *, forwarded: str | None = None, member: str | None = None) -> Any:
    """As much of a request as is looked at."""
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return SimpleNamespace(peer=peer, headers=headers, member=member)


def test_so_much_may_fail_at_once_and_then_so_much_a_minute() -> None:
    clock = Time()
    failures, request = Failures(30, clock=clock), asked()
    for _ in range(30):
        assert failures.wait(request) == 0
        failures.count(request, WRONG)
    assert failures.wait(request) == pytest.approx(2.0)
    with pytest.raises(errors.Rate, match=r"192\.0\.2\.1") as caught:
        failures.refuse(request)
    assert caught.value.more == {"seconds": 2}
    clock.now += 1.5
    assert failures.wait(request) == pytest.approx(0.5)
    clock.now += 0.5
    assert failures.wait(request) == 0
    failures.count(request, WRONG)
    assert failures.wait(request) == pytest.approx(2.0)
    clock.now += 3600
    for _ in range(30):
        failures.refuse(request)
        failures.count(request, WRONG)
    assert failures.wait(request) > 0
    assert failures.wait(asked("192.0.2.2")) == 0


@pytest.mark.parametrize("seed", range(5))
def test_never_more_than_was_promised_in_any_stretch_of_time(seed: int) -> None:
    chance, clock = random.Random(seed), Time()
    failures, request, passed = Failures(60, clock=clock), asked(), []
    for _ in range(2000):
        clock.now += chance.choice((0.0, 0.0, 0.01, 0.5, 5.0))
        if failures.wait(request) == 0:
            failures.count(request, WRONG)
            passed.append(clock.now)
    for start in range(len(passed)):
        for end in range(start, min(start + 300, len(passed))):
            most = 60 + (passed[end] - passed[start]) + 1
            assert end - start + 1 <= most, f"seed {seed}"


@pytest.mark.parametrize(
    "error",
    [errors.Clock("c"), errors.Replayed("r"), errors.StaleEpoch("s"), errors.Revoked("r"), errors.Rate("r"),
     errors.Unavailable("u"), errors.DiskFull("d"), errors.Internal("i")],
    ids=lambda error: error.code,
)  # fmt: skip
def test_what_was_signed_well_or_is_not_the_senders_fault_is_no_failure(error: errors.SiloError) -> None:
    failures = Failures(1)
    failures.count(asked(), error)
    assert len(failures) == 0


def test_what_members_do_is_no_failure() -> None:
    failures = Failures(1)
    failures.count(asked(member="bay"), errors.NotFound("no such run"))
    assert len(failures) == 0


def test_as_many_addresses_are_remembered_as_said_and_the_oldest_is_forgotten() -> None:
    failures = Failures(1, clock=Time())
    for number in range(ADDRESSES + 10):
        failures.count(asked(f"198.51.{number // 256}.{number % 256}"), WRONG)
    assert len(failures) == ADDRESSES
    assert failures.wait(asked("198.51.0.9")) == 0
    assert failures.wait(asked("198.51.0.10")) > 0
    failures.count(asked("198.51.0.10"), WRONG)
    failures.count(asked("203.0.113.1"), WRONG)
    assert failures.wait(asked("198.51.0.10")) > 0
    assert failures.wait(asked("198.51.0.11")) == 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
     ("2001:db8:1:2::9", "2001:db8:1:2::/64"), ("", ""), ("unix", "unix"), ("x" * 500, "x" * 64)],
)  # fmt: skip
def test_a_customer_has_one_address_or_one_network(address: str, expected: str) -> None:
    assert group(address) == expected


def test_behind_a_proxy_the_address_is_the_last_one_that_it_writes_or_there_is_none() -> None:
    silent = Failures(1, behind_proxy=True)
    silent.count(asked("127.0.0.1", forwarded="192.0.2.1"), WRONG)
    assert len(silent) == 0
    told = Failures(1, behind_proxy=True, forwarded=True)
    told.count(asked("127.0.0.1", forwarded="203.0.113.9, 192.0.2.1"), WRONG)
    assert told.wait(asked("127.0.0.1", forwarded="198.51.100.7, 192.0.2.1")) > 0
    assert told.wait(asked("127.0.0.1", forwarded="203.0.113.9")) == 0
    assert told.wait(asked("127.0.0.1")) == 0
    direct = Failures(1)
    direct.count(asked("192.0.2.1", forwarded="203.0.113.9"), WRONG)
    assert direct.wait(asked("192.0.2.1", forwarded="198.51.100.7")) > 0


def test_none_is_any_number() -> None:
    failures = Failures(0)
    for _ in range(100):
        failures.count(asked(), WRONG)
    assert failures.wait(asked()) == 0


def fails(by: Caller, way: str) -> str:
    """One more failure of a kind; its code."""
    secret = secrets.token_bytes(32)
    stranger = Caller(by.url, Key.make())
    try:
        match way:
            case "nobody":
                return stranger.ask("GET", "/v1/runs").code
            case "signature":
                signed = by.signed("GET", "/v1/runs")
                return stranger.ask("GET", "/v1/nodes", signed=signed).code
            case "join":
                return join(by, "atoll_" + "a" * 60).code
            case "login":
                return stranger.ask("GET", f"/login/{secret.hex()}", signed={}).code
            case "cookie":
                cookie = {"Cookie": f"__Host-atoll={secret.hex()}"}
                answer = stranger.ask("GET", "/v1/runs", signed={}, headers=cookie)
                return answer.code
    finally:
        stranger.close()
    raise ValueError(way)


@pytest.mark.parametrize("way", ["nobody", "join", "login", "cookie"])
def test_who_fails_too_often_waits_and_members_go_on(place: Path, way: str) -> None:
    with running(place / "c", failures=3) as coordinator:
        by = admin(coordinator)
        node = joined(by, "bay")
        codes = [fails(by, way) for _ in range(5)]
        assert "rate" not in codes[:3], codes
        assert codes[3:] == ["rate", "rate"]
        answer = by.ask("GET", "/login/" + "0" * 64, signed={})
        assert answer.code == "rate"
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert node.twin().ask("GET", "/v1/work").status == 200
        assert by.twin().ask("GET", "/v1/runs").status == 200
        assert by.twin().ask("GET", "/healthz", signed={}).status == 200
        assert by.twin().ask("GET", "/v1/about", signed={}).status == 200
        assert b'atoll_refusals_total{code="rate"} 3' in by.ask("GET", "/metrics").body
        assert b"atoll_addresses_failing 1" in by.ask("GET", "/metrics").body


def test_failures_under_a_members_name_count_but_keep_nobody_out(place: Path) -> None:
    with running(place / "c", failures=3) as coordinator:
        by = admin(coordinator)
        assert [fails(by, "signature") for _ in range(5)] == ["bad-signature"] * 5
        assert fails(by, "nobody") == "rate"
        assert by.ask("GET", "/v1/runs").status == 200


def test_who_was_revoked_is_no_member(place: Path) -> None:
    with running(place / "c", failures=3) as coordinator:
        by = admin(coordinator)
        node = joined(by, "bay")
        assert by.ask("DELETE", "/v1/members/bay").status == 200
        assert [node.ask("GET", "/v1/work").code for _ in range(5)] == ["revoked"] * 5
        for _ in range(3):
            fails(by, "nobody")
        assert node.ask("GET", "/v1/work").code == "rate"


def test_many_behind_one_address_join_and_come_back(place: Path) -> None:
    with running(place / "c", failures=3) as coordinator:
        by = admin(coordinator)
        nodes = [joined(by, f"n{number}") for number in range(12)]
        for node in nodes:
            assert node.ask("GET", "/v1/work").status == 200
    with running(place / "c", failures=3) as coordinator:
        for node in nodes:  # each with a count that the coordinator does not go on with
            again = Caller(coordinator.local_url, node.key)
            again.signer = node.signer
            assert again.ask("GET", "/v1/work").code == "stale-epoch"
            again.close()
        stranger = Caller(coordinator.local_url, Key.make())
        assert stranger.ask("GET", "/v1/work").code == "unauthenticated"


def test_the_client_waits_as_long_as_it_is_told(place: Path) -> None:
    from atoll.silo.joining import join as join_as

    with running(place / "c", failures=60) as coordinator:
        by = admin(coordinator)
        invitation = by.ask("POST", "/v1/invites", api.Invite(name="bay")).read(api.Invitation)
        codes = [fails(by, "nobody") for _ in range(70)]
        assert codes[-1] == "rate"
        began = time.monotonic()
        profile = join_as(invitation.token, node=True, folder=place / "bay")
        assert profile.name == "bay"
        assert time.monotonic() - began < 10


def test_what_is_forwarded_is_trusted_behind_a_proxy_only(place: Path) -> None:
    with pytest.raises(Malformed, match="behind-proxy"):
        Coordinator(place / "c", port=0, forwarded=True)
    settings = {"behind_proxy": True, "forwarded": True, "url": "https://silos.example.org", "failures": 2}
    with running(place / "c", **settings) as coordinator:
        by = admin(coordinator)

        def told(address: str) -> str:
            return by.ask("GET", "/login/00", signed={}, headers={"X-Forwarded-For": address}).code

        assert [told("192.0.2.1") for _ in range(3)] == ["token-unknown", "token-unknown", "rate"]
        assert told("192.0.2.1, 192.0.2.2") == "token-unknown"
        assert told("192.0.2.2, 192.0.2.1") == "rate"
