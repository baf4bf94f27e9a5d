"""The owner's log: nothing in it can be changed unnoticed, and nothing is lost by a kill."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading

import pytest

from atoll.silo.errors import ChainBroken, DiskFull
from atoll.silo.node import log as module
from atoll.silo.node.log import FIRST, Log, backwards, entries, verify


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def written(path, n=6):
    log = Log(path)
    for i in range(n):
        log.append("answered", op="neighbors.nearest", bytes=i * 1000, who="ålice \u2028")
    log.close()


class TestAppending:
    def test_entries_are_chained_and_counted(self, path):
        log = Log(path)
        first, second = log.append("joined", name="a"), log.append("refused", code="not-approved")
        assert (first["n"], second["n"]) == (0, 1)
        assert first["before"] == FIRST
        assert second["before"] == first["hash"]
        assert verify(path).entries == 2
        assert verify(path).last == second["hash"]
        assert path.stat().st_mode & 0o077 == 0
        log.close()

    def test_it_goes_on_where_it_was(self, path):
        written(path, 3)
        log = Log(path)
        assert log.append("started")["n"] == 3
        log.close()
        assert verify(path).entries == 4

    def test_two_writers_take_turns(self, path):
        a, b = Log(path), Log(path)
        for i in range(20):
            (a if i % 3 else b).append("answered", i=i)
        assert verify(path).entries == 20
        a.close(), b.close()

    def test_threads_and_processes_take_turns(self, path):
        code = (
            f"from atoll.silo.node.log import Log\nlog = Log({str(path)!r})\nfor i in range(30): log.append('x', i=i)"
        )
        log = Log(path)
        child = subprocess.Popen([sys.executable, "-c", code])
        threads = [threading.Thread(target=lambda: [log.append("y") for _ in range(20)]) for _ in range(3)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert child.wait(60) == 0
        assert verify(path).entries == 90
        log.close()

    def test_a_full_disk_leaves_the_log_as_it_was(self, path, monkeypatch):
        written(path, 2)
        log, before = Log(path), path.read_bytes()

        def full(file, data):
            os.write(file, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(module, "_write", full)
            with pytest.raises(DiskFull, match="nothing leaves"):
                log.append("answered", bytes=5)
        assert path.read_bytes() == before
        assert log.append("answered")["n"] == 2
        assert verify(path).entries == 3
        log.close()


class TestReading:
    @pytest.mark.parametrize("block", [1, 7, 100, 1 << 16])
    @pytest.mark.parametrize("n", [0, 1, 2, 9])
    def test_backwards_is_forwards_reversed(self, path, monkeypatch, n, block):
        monkeypatch.setattr(module, "_BLOCK", block)
        lines = [b"x" * i + b"\n" for i in range(n)]
        path.write_bytes(b"".join(lines) + b"cut")
        assert list(backwards(path)) == lines[::-1]

    def test_entries_as_far_back_as_asked(self, path):
        now = 1_800_000_000.0
        times = iter([now - 100, now - 50, now - 10])
        log = Log(path, clock=lambda: next(times))
        for name in "abc":
            log.append(name)
        assert [e["event"] for e in entries(path, now - 60)] == ["c", "b"]
        assert [e["event"] for e in entries(path)] == ["c", "b", "a"]
        assert list(entries(path.parent / "none")) == []
        log.close()


class TestTampering:
    def test_any_byte(self, path):
        written(path, 4)
        data = path.read_bytes()
        seed = random.randrange(1 << 30)
        print("seed", seed)
        rng = random.Random(seed)
        for at in range(len(data)):
            other = rng.choice([b for b in range(256) if b != data[at]])
            path.write_bytes(data[:at] + bytes([other]) + data[at + 1 :])
            with pytest.raises(ChainBroken):
                verify(path)
        path.write_bytes(data)
        assert verify(path).entries == 4

    @pytest.mark.parametrize("line", range(6))
    def test_a_line_taken_out(self, path, line):
        written(path)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:line] + lines[line + 1 :]))
        with pytest.raises(ChainBroken):
            verify(path)

    @pytest.mark.parametrize("line", range(6))
    def test_a_line_twice(self, path, line):
        written(path)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: line + 1] + lines[line:]))
        with pytest.raises(ChainBroken):
            verify(path)

    def test_lines_in_another_order(self, path):
        written(path)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
        with pytest.raises(ChainBroken, match="line 3"):
            verify(path)

    def test_all_lines_taken_out(self, path):
        written(path)
        path.write_bytes(b"")
        with pytest.raises(ChainBroken, match="once had 6 entries"):
            verify(path)

    def test_a_shortened_log_is_gone_on_with_and_says_so(self, path):
        written(path)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
        Log(path).close()
        found = verify(path)
        assert found.entries == 4
        assert "had 6 entries once, and only 3" in found.notes[0]

    def test_a_log_that_ends_in_garbage_is_refused(self, path):
        written(path)
        path.write_bytes(path.read_bytes() + b"garbage\n")
        with pytest.raises(ChainBroken, match="last line"):
            Log(path)


class TestKills:
    def test_a_line_cut_short_is_repaired_and_noted(self, path):
        written(path)
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        head = path.with_suffix(".head")
        before = b"".join(lines[:-1])
        previous = verify_head(lines[-2])
        for cut in range(1, len(lines[-1])):
            path.write_bytes(whole[:-cut])
            head.write_bytes(previous)  # a kill leaves the head behind
            assert verify(path).entries == 5
            Log(path).close()
            found = verify(path)
            assert found.entries == 6
            assert path.read_bytes().startswith(before)
            assert "cut short" in found.notes[0]

    def test_without_a_head_file(self, path):
        written(path)
        path.with_suffix(".head").unlink()
        assert verify(path).entries == 6
        path.with_suffix(".head").write_bytes(b"nonsense")
        assert verify(path).entries == 6


def verify_head(line):
    entry = module._read(line)
    return f"{entry['n']:020d} {entry['hash']}\n".encode()
