"""A coordinator, nodes, an asker and an owner, each a process, killed with SIGKILL at every step that is persisted.

Scenes (`silo.matrix.scenes`) are first played undisturbed; what they reach is recorded, and must be exactly what is
listed here. Then they are played with one kill each: which process, and which of the times that it reaches the step, is
drawn by the seed. Whoever died is started again, and everything must come out the same (`silo.matrix.aftermath`).
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import atoll
from silo.matrix.aftermath import check
from silo.matrix.roles import NODES, table
from silo.matrix.scenes import OWNER, SCENES
from silo.matrix.stage import Kill, Stage
from silo.matrix.zygote import Life, Zygote

pytestmark = pytest.mark.timeout(600)  # a scene says itself when it takes too long

SEEDS = 10

STEPS = {
    ("study", "coordinator"): """
        answer.stored blob.placed blob.removed exchange.closed exchange.submitted fold.stored fold.written state.saved
        upload.appended upload.begun upload.finished""",
    ("study", "driver"): "submitted outcome saved uploaded",
    ("study", "node"): """
        answer.computed answer.sent answer.uploaded log.answered memory.slot memory.version task.fetched""",
    ("bounded", "coordinator"): """
        address.written admin.written answer.refused certificate.written database.made invite.stored key.written
        lease.stored login.stored member.added member.joined node.hello node.seen port.written rounds.told run.ended
        run.opened tls_key.written""",
    ("bounded", "driver"): "run.opened run.ended member.key.written member.profile.written",
    ("bounded", "node"): """
        data.written joined.profile log.hello log.joined log.policy log.started log.stopped log.undelivered
        policy.written seen.written member.key.written member.profile.written""",
    ("late", "coordinator"): "deadline.stored",
    ("late", "node"): "log.uncounted",
    ("allowed", "coordinator"): "refusal.stored",
    ("allowed", "node"): "log.refused requests.written",
    ("allowed", OWNER): "node.policy.written node.requests.written",
    ("farewell", "coordinator"): "member.revoked node.away run.forgotten session.opened swept",
    ("farewell", OWNER): "node.log.left",
}
"""By scene and kind of process; a name without a kind begins with that of its process."""

ELSEWHERE = {
    "coordinator.session.ended": "no request ends a session yet; it ends with its time, or with its member",
    "coordinator.event.stored": "no request leads there",
    "coordinator.exchange.abandoned": "after a file was lost, or another version wrote it: test_broker.py",
    "node.log.repaired": "after a line was cut, which a kill between two steps does not do: node/test_log.py",
    "node.log.shortened": "after somebody cut the log: node/test_log.py",
}
"""Steps that no kill of one process leads to, and why."""

SAMPLE = {
    "coordinator.exchange.submitted", "coordinator.fold.written", "coordinator.exchange.closed", "driver.saved",
    "coordinator.upload.finished", "coordinator.member.joined", "node.answer.uploaded", "node.log.answered",
    "node.memory.slot", "driver.submitted", "coordinator.address.written",
}  # fmt: skip
"""Killed once where there is no time for all."""

_WHOLE = re.compile(r"(coordinator|node|driver|member)\.")
MATRIX = [
    (scene, kind, word if _WHOLE.match(word) and word.count(".") == 2 else f"{kind}.{word}")
    for (scene, kind), words in STEPS.items()
    for word in words.split()
]


def kind_of(name: str) -> str:
    return "node" if name in NODES else name


class Theatre:
    """One zygote, and what is known of undisturbed scenes."""

    def __init__(self, zygote: Zygote, place: Path) -> None:
        self.zygote, self.place = zygote, place
        self.kills = self.lives = 0
        self._recorded: dict[str, Counter[tuple[str, str]]] = {}
        self._shards: dict[tuple[str, tuple[str, ...]], bytes] = {}
        self.tables = place / "tables"
        self.tables.mkdir()
        for name in NODES:
            table(name, self.tables / f"{name}.csv")

    def play(self, scene: str, kill: Kill | None = None, seed: int = 0) -> Stage:
        """A scene from beginning to end, and what must be so then."""
        place = Path(tempfile.mkdtemp(dir=self.place))
        stage = Stage(self.zygote, place, self.tables, kill, seed)
        self.lives += 1
        try:
            SCENES[scene](stage)
            check(scene, stage, self.shards)
            return stage
        finally:
            stage.stop()

    def recorded(self, scene: str) -> Counter[tuple[str, str]]:
        """How often each process reaches each step, undisturbed."""
        if scene not in self._recorded:
            stage = self.play(scene)
            assert not stage.killed()
            self._recorded[scene] = Counter(stage.steps())
            shutil.rmtree(stage.place)
        return self._recorded[scene]

    def killed(self, scene: str, kind: str, step: str, seed: int) -> None:
        """A scene with one kill. How often a step is reached depends on who is faster: so it may take another try."""
        rng = np.random.default_rng([zlib.crc32(f"{scene} {kind} {step}".encode()), seed])
        times = {name: n for (name, at), n in self.recorded(scene).items() if at == step and kind_of(name) == kind}
        name = str(rng.choice(sorted(times)))
        at = int(rng.integers(1, times[name] + 1))
        while True:
            kill = Kill(name, step, at)
            print(f"seed {seed}: {kill}")
            stage = self.play(scene, kill, seed)
            if stage.died:
                assert stage.killed() == [(name, step)]
                self.kills += 1
                shutil.rmtree(stage.place)
                return
            assert at > 1, f"{kill} was not reached"
            at //= 2

    def shards(self, script: str, names: tuple[str, ...]) -> bytes:
        """What comes of a script over rows that are here."""
        if (script, names) not in self._shards:
            stage = Stage(self.zygote, Path(tempfile.mkdtemp(dir=self.place)), self.tables)
            stage.begin("shards", "shards", lambda: [script, str(stage.place / "result"), *names])
            stage.done("shards")
            self._shards[script, names] = (stage.place / "result").read_bytes()
        return self._shards[script, names]


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place,
        Zygote() as zygote,
    ):
        found = Theatre(zygote, Path(place))
        yield found
        print(f"\nkill matrix: {len(MATRIX)} steps, {found.kills} kills, {found.lives} scenes")


def test_every_step_that_is_reached_is_listed(theatre):
    reached = {(kind_of(name), step) for scene in SCENES for name, step in theatre.recorded(scene)}
    listed = [(kind, step) for _, kind, step in MATRIX]
    assert len(set(listed)) == len(listed) >= 25
    known = {step for _, step in listed}
    assert {(kind, step) for kind, step in reached if step not in known} == set()
    assert set(listed) <= reached


def test_every_step_of_the_source_is_listed():
    found = set()
    source = Path(atoll.__file__).parent
    for path in [*(source / "silo").rglob("*.py"), *(source / "cli").rglob("*.py")]:
        text = path.read_text()
        found |= set(re.findall(r'reached\("([a-z_.]+)"\)', text))
        found |= {f"coordinator.{s}" for s in re.findall(r'_(?:writing|steps\.append)\("([a-z_.]+)"', text)}
        if "node" in path.parts or path.stem == "node":
            found |= {f"node.log.{s}" for s in re.findall(r'append\(\s*"([a-z]+)",', text)}
    assert found == {step for _, _, step in MATRIX} | set(ELSEWHERE)


@pytest.mark.parametrize(("scene", "kind", "step"), [s for s in MATRIX if s[2] in SAMPLE])
def test_killed_once(theatre, scene, kind, step):
    theatre.killed(scene, kind, step, SEEDS)


@pytest.mark.thorough
@pytest.mark.parametrize(("scene", "kind", "step"), MATRIX)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_at_every_step(theatre, scene, kind, step, seed):
    theatre.killed(scene, kind, step, seed)


def test_nobody_outlives_the_zygote(tmp_path):
    with Zygote() as zygote:
        life = Life("sleep", "sleeper", ["60"], str(tmp_path), str(tmp_path / "steps"), str(tmp_path / "log"))
        pid = zygote.begin(life)
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
