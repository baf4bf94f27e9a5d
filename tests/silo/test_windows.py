"""Nothing is carried out twice: windows of numbers, and leases that survive a restart."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.silo.errors import Malformed, Replayed, SiloError, StaleEpoch
from atoll.silo.signing import Claim, Window, Windows


def claim(epoch: int, sequence: int, keyid: str = "k") -> Claim:
    return Claim(keyid, epoch, sequence, 1_790_000_000, None)


def test_a_window_takes_each_number_once_in_any_order() -> None:
    rng = random.Random(5)
    for _ in range(20):
        numbers = list(range(1, 400))
        for i in range(len(numbers) - 1):
            j = min(len(numbers) - 1, i + rng.randrange(40))
            numbers[i], numbers[j] = numbers[j], numbers[i]
        window = Window()
        for n in numbers:
            window.accept(n)
        for n in rng.sample(numbers, 50):
            with pytest.raises(Replayed):
                window.accept(n)


def test_how_far_behind_a_number_may_be() -> None:
    window = Window()
    window.accept(2000)
    window.accept(2000 - 1023)
    with pytest.raises(Replayed):
        window.accept(2000 - 1024)
    window.accept(2001)
    with pytest.raises(Replayed):
        window.accept(2000 - 1023)
    window.accept(2**63 - 1)
    with pytest.raises(Replayed):
        window.accept(2001)


@given(st.lists(st.integers(1, 3000) | st.integers(1, 30), max_size=200), st.integers(0, 50))
def test_a_window_against_a_set(numbers: list[int], ceiling: int) -> None:
    window, accepted = Window(ceiling), {ceiling}
    for n in numbers:
        if n <= ceiling:
            expected: type[SiloError] | None = StaleEpoch
        elif n in accepted or n <= max(accepted) - 1024:
            expected = Replayed
        else:
            expected = None
        if expected is None:
            window.accept(n)
            accepted.add(n)
        else:
            with pytest.raises(expected):
                window.accept(n)


def test_a_lease_is_asked_for_until_it_is_stored() -> None:
    windows = Windows()
    first, second = windows.accept(claim(10, 1)), windows.accept(claim(10, 2))
    assert first is not None
    assert second == first
    windows.confirm(first)
    assert [windows.accept(claim(10, n)) for n in range(3, 4098)] == [None] * 4095
    third = windows.accept(claim(10, 4098))
    assert third not in (None, first)


def test_a_restart_refuses_whatever_may_have_been_accepted() -> None:
    windows = Windows()
    lease = windows.accept(claim(10, 1))
    assert lease is not None
    windows.confirm(lease)
    for n in range(2, 50):
        assert windows.accept(claim(10, n)) is None
    again = Windows({lease.keyid: lease.state})
    for n in (1, 2, 49, 50, 4097):
        with pytest.raises(StaleEpoch) as told:
            again.accept(claim(10, n))
        assert told.value.more == {"epoch": 10}
    with pytest.raises(StaleEpoch):
        Windows({lease.keyid: lease.state}).accept(claim(10, 4097))
    fresh = again.accept(claim(11, 1))
    assert fresh is not None
    assert again.accept(claim(10, 4098)) is not None


def test_a_restart_between_lease_and_confirmation() -> None:
    """The request was not carried out, so it may come again; what was stored refuses it, which costs an epoch."""
    lease = Windows().accept(claim(10, 1))
    assert lease is not None
    assert Windows().accept(claim(10, 1)) is not None
    with pytest.raises(StaleEpoch):
        Windows({lease.keyid: lease.state}).accept(claim(10, 1))


def test_sixteen_processes_of_one_member_at_a_time() -> None:
    windows = Windows()
    for epoch in range(100, 116):
        assert windows.accept(claim(epoch, 1)) is not None
    for epoch in range(100, 116):
        assert windows.accept(claim(epoch, 2)) is not None
    assert windows.accept(claim(200, 1)) is not None
    for old in (1, 99, 100):
        with pytest.raises(StaleEpoch) as told:
            windows.accept(claim(old, 3))
        assert told.value.more == {"epoch": 200}
    assert windows.accept(claim(101, 3)) is not None
    with pytest.raises(Replayed):
        windows.accept(claim(101, 3))


def test_an_epoch_below_all_sixteen_is_refused_and_stays_so_after_a_restart() -> None:
    windows = Windows()
    for epoch in range(100, 117):
        lease = windows.accept(claim(epoch, 1))
    assert lease is not None
    again = Windows({lease.keyid: lease.state})
    for w in (windows, again):
        with pytest.raises(StaleEpoch):
            w.accept(claim(100, 9000))
        with pytest.raises(StaleEpoch):
            w.accept(claim(50, 1))


def test_an_epoch_that_comes_late_below_sixteen_others_is_not_opened() -> None:
    windows = Windows()
    for epoch in range(100, 116):
        windows.accept(claim(epoch, 1))
    with pytest.raises(StaleEpoch):
        windows.accept(claim(50, 1))
    with pytest.raises(StaleEpoch):
        windows.accept(claim(50, 1))
    assert windows.accept(claim(100, 2)) is not None


def test_members_do_not_know_of_each_other() -> None:
    windows = Windows()
    assert windows.accept(claim(10, 1, "a")) is not None
    assert windows.accept(claim(10, 1, "b")) is not None
    with pytest.raises(Replayed):
        windows.accept(claim(10, 1, "a"))
    windows.forget("a")
    assert windows.accept(claim(10, 1, "a")) is not None


@given(st.data())
def test_nothing_is_accepted_twice_whatever_is_replayed_and_killed(data: st.DataObject) -> None:
    windows, stored, carried_out = Windows(), {}, set()
    for _ in range(data.draw(st.integers(1, 60))):
        act = data.draw(st.sampled_from(["send", "send", "send", "restart"]))
        if act == "restart":
            windows = Windows(stored)
            continue
        told = claim(data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 2, 3, 4097, 4098, 9000])))
        try:
            lease = windows.accept(told)
        except (Replayed, StaleEpoch):
            continue
        if lease is not None:
            if data.draw(st.booleans()):
                continue  # killed before it was stored, or the disk was full
            stored = stored | {lease.keyid: lease.state}
            windows.confirm(lease)
        assert told not in carried_out
        carried_out.add(told)


@pytest.mark.parametrize("state", [b"", b"\xc1", b"\x92\x01", b"\x92\x01\x81\xa1\xff\x01", b"null"], ids=bytes.hex)
def test_a_state_that_cannot_be_read(state: bytes) -> None:
    with pytest.raises(Malformed, match="stored state"):
        Windows({"k": state})
