"""Feed damaged input to everything of a silo that reads what others send: nothing but a SiloError or a WireError comes.

    python tests/fuzz/silo.py --cases 10000000 --seed 0 --only tokens,answers

What is fuzzed: tokens, problems, bodies as the coordinator reads them, answers as the client reads them, signed
requests and their numbers, paths and queries, URLs, tasks as a node reads them, contributions in memory and in files
(both ways must agree), and policies. The damage begins with something sound: bits are flipped, pieces are cut, doubled
or taken from another one, and half of the tokens get a sound checksum again. Memory is held by a limit on the whole
process, and one case in 64 is measured: what reading allocates stays within a multiple of the bytes received.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import resource
import runpy
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, get_origin

import msgspec
import numpy as np
import uvloop

from atoll import wire
from atoll.errors import WireError
from atoll.messages import Exchange, Rule
from atoll.silo import api, errors, home, tokens
from atoll.silo.client import Client
from atoll.silo.errors import SiloError
from atoll.silo.keys import Key
from atoll.silo.node.policy import read_policy, written
from atoll.silo.outlines import examine
from atoll.silo.server.requests import Request
from atoll.silo.server.routes import ROUTES, find
from atoll.silo.signing import Signer, Verifier, Windows
from atoll.silo.tasks import Blob, Task
from atoll.specs import Spec
from atoll.trees import Leaf, Tree, TreeSpec
from atoll.trees import check as check_tree

EVERY = 64
PER_BYTE = 512
FIXED = 1 << 16
HEADROOM = 1 << 29
NOW = 1_790_000_000.0
KEY = Key(bytes(range(32)))

Case = tuple[Any, int]
Read = Callable[[Any], object]


class Report(NamedTuple):
    """What a run of the fuzzer saw."""

    cases: int
    accepted: Counter[str]
    refused: Counter[str]
    seconds: float
    worst: float


class Target(NamedTuple):
    """Something that reads.

    `made` draws what is read, with its length in bytes; `read` reads it; it comes so `often` among the others.
    """

    made: Callable[[Random], Case]
    read: Read
    often: int


# Damage

TEXT = (
    b"0", b"-1", b"1e999", b"9" * 40, b"NaN", b"null", b"true", b'""', b"[]", b"{}", b"[" * 60, b'{"a":' * 40, b'"',
    b"\\", b"\\u0000", b"\\ud800", b"\xff", b"\x00", b"\xc3\x28", b"\xf0\x9f\x90\x9a", b",", b":", b";", b"=", b"%",
    b"%2f", b"%zz", b"../", b"\r\n", b"?", b"&", b"#", b" ", b"A" * 5000, b"1.5", b"18446744073709551616",
    b"-9223372036854775809",
)  # fmt: skip


def damage(data: bytes, other: bytes, random: Random) -> bytes:
    """The bytes with none to three damages."""
    changed = bytearray(data)
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 3))):
        at = random.randrange(len(changed) + 1)
        end = min(len(changed), at + random.randint(1, 12))
        match random.randrange(8):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end] * random.choice((1, 2, 40))
            case 4:
                changed[at:at] = random.choice(TEXT)
            case 5:
                changed[at:end] = random.choice(TEXT)
            case 6:
                start = random.randrange(len(other) + 1)
                changed[at:end] = other[start : start + random.randint(1, 40)]
            case _:
                changed[at:at] = random.randbytes(random.randint(1, 9))
    return bytes(changed)


# Tokens


def _sound(pin: str | None) -> tuple[bytes, bytes]:
    token = tokens.Token("https://silo.example:8443", "clinic-a", "node", bytes(range(20)), pin, KEY.public, 2e9)
    word = tokens.write(token)
    letters = word.removeprefix(tokens.PREFIX).upper()
    return word.encode(), base64.b32decode(letters + "=" * (-len(letters) % 8))[:-4]


WORDS = (_sound(None), _sound("ab" * 32))


def made_token(random: Random) -> Case:
    """A token, damaged before or after it got its checksum."""
    word, body = random.choice(WORDS)
    if random.random() < 0.5:
        text = damage(word, word.upper(), random).decode("utf-8", "surrogateescape")
        return text, len(text)
    body = damage(body, body[::-1], random)
    check = hashlib.sha256(b"atoll-token-1\n" + body).digest()[:4]
    text = tokens.PREFIX + base64.b32encode(body + check).decode().rstrip("=").lower()
    return text, len(text)


def read_token(text: str) -> None:
    """Read; what is a token can be written, and is the same again."""
    token = tokens.read(text)
    assert tokens.read(tokens.write(token)) == token


# Bodies


def bodies() -> dict[Any, list[bytes]]:
    """Sound bodies of every type of the interface."""
    blob, data = Blob("ab" * 32, 5), api.DataSet(name="iris", rows=50, columns=("a", "b"))
    work = api.Assignment(
        exchange="e1", owner="ada", run="r", number=3, position=0, task=blob, signature=bytes(64), key=KEY.public,
        each=blob, inline=b"task", seconds=2.5,
    )  # fmt: skip
    known: list[Any] = [
        api.About(federation="f", signing_key=KEY.public, version="1", protocol=1, wire=1, time=NOW),
        api.Join(token="atoll_x", key=KEY.public, version="1", protocol=1, nonce=bytes(16)),
        api.Joined(name="a", role="node", federation="f", signing_key=KEY.public, proof=bytes(64)),
        api.Invite(name="a", role="viewer", hours=3.5), api.Invitation(token="t", name="a", role="node", expires=NOW),
        api.Member(name="a", role="node", key="k", joined=NOW, revoked=None), data,
        api.Hello(versions={"atoll": "1", "numpy": "2"}, data=(data, data)),
        api.NodeStatus(name="a", state="here", seen=NOW, versions={"atoll": "1"}, data=(data,)), work,
        api.Work(tasks=(work, work), time=NOW), api.Refusal(code="not-approved", reason="no"), api.Named(blob=blob),
        api.Ack(state="late"), api.RunOpening(purpose="KNN", data="iris", nodes=("a", "b")),
        api.Opened(name="r", exchanges=4),
        api.Submission(number=1, digest="d", task=blob, signature=bytes(64), inline=b"x"),
        api.State(state="closed", missing=(1,), away=(), outcome=b"o", merged=blob, inline=b"i"),
        api.RunStatus(name="r", owner="a", purpose="p", data="iris", nodes=("a",), state="done", exchanges=2,
                      started=NOW, changed=NOW, note="ü"),
        api.Event(number=1, time=NOW, kind="k", who="a", what="w", run="r"),
        api.Login(url="https://h/login/x", expires=NOW),
    ]  # fmt: skip
    found: dict[Any, list[bytes]] = {}
    for body in known:
        found[type(body)] = [msgspec.json.encode(body)]
        found[list[type(body)]] = [msgspec.json.encode([body, body])]
    return found


def made_bodies() -> Callable[[Random], Case]:
    """Draws a type and a damaged body, of this type or another one."""
    sound = [(kind, body) for kind, all_of in bodies().items() for body in all_of]

    def made(random: Random) -> Case:
        kind, body = random.choice(sound)
        other = random.choice(sound)[1]
        data = damage(other if random.random() < 0.1 else body, other, random)
        return (kind, data), len(data)

    return made


class Stub(Client):
    """A client that was answered already."""

    def __init__(self) -> None:
        self.body = b""

    def _answered(self, question: Any, read: Any) -> Any:
        return self.body


STUB = Stub()


def read_answer(case: tuple[Any, bytes]) -> None:
    """Read an answer as the client does; what is one is the same again."""
    kind, STUB.body = case
    value = STUB.get("/v1/x", kind)
    assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value or b"nan" in case[1].lower()


LOOP = uvloop.new_event_loop()


def read_body(case: tuple[Any, bytes]) -> None:
    """Read a body as the coordinator does."""
    kind, data = case
    if get_origin(kind) is list:
        kind = kind.__args__[0]
    waiting = [{"type": "http.request", "body": data[i : i + 999], "more_body": True} for i in range(0, len(data), 999)]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    scope = {"method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": headers}
    LOOP.run_until_complete(Request(scope, receive).json(kind))


def made_problem(random: Random) -> Case:
    """A problem as plain values."""
    kind = random.choice(list(errors.codes.values()))
    body = msgspec.json.encode(errors.problem(kind("what\n  got: 5", more={"seconds": 1.5, "epoch": 5})))
    data = damage(body, body, random)
    try:
        return msgspec.json.decode(data), len(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data, len(data)


def read_problem(body: object) -> None:
    """Read; the error can be written again."""
    error = errors.from_problem(body)
    assert type(errors.from_problem(errors.problem(error))) is type(error)


# Requests

VERIFIER = Verifier({KEY.fingerprint: KEY.public}.get, lambda: NOW)
SIGNER = Signer(KEY, lambda: NOW)
HASH = hashlib.sha256(b"x").digest()
SIGNED = [
    (target, [(k.lower().encode(), v.encode()) for k, v in SIGNER.headers("POST", target, body).items()])
    for target in ("/v1/work?wait=30&have=", "/v1/answers/e1/0", "/")
    for body in (None, HASH, None, HASH)
]


def made_request(random: Random) -> Case:
    """A signed request with one damaged field, or path, or all as they were."""
    target, signed = random.choice(SIGNED)
    headers = list(signed)
    place = random.randrange(len(headers) + 1)
    if place == len(headers):
        target = damage(target.encode(), b"/v1/%2e%2e/?&=", random).decode("latin-1")
    else:
        name, value = headers[place]
        headers[place] = name, damage(value, headers[place - 1][1], random)
        if random.random() < 0.05:
            headers.append(headers[place])
    return (target, headers), sum(len(v) for _, v in headers) + len(target)


def read_request(case: tuple[str, list[tuple[bytes, bytes]]]) -> None:
    """Check and accept; what is accepted is what was signed, and is refused the second time."""
    target, headers = case
    claim = VERIFIER.check("POST", target, headers)
    assert any(target.rstrip("?") == one and set(headers) == set(fields) for one, fields in SIGNED), "a forgery"
    windows = Windows()
    lease = windows.accept(claim)
    assert lease is not None
    windows.confirm(lease)
    try:
        windows.accept(claim)
    except SiloError:
        return
    raise AssertionError("a request was accepted twice")


def made_path(random: Random) -> Case:
    """A method, a path and a query of the coordinator, damaged."""
    route = random.choice(ROUTES)
    path = route.path.replace("{", "").replace("}", "").encode()
    query = "&".join(f"{name}=1" for name in route.query).encode()
    path = damage(path, b"/v1/runs/%41/..%2f/0/1", random)
    query = damage(query, b"wait=30&have=a/1,b/2&after=5", random)
    method = random.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "X" * 50))
    return (method, path, query), len(path) + len(query)


def read_path(case: tuple[str, bytes, bytes]) -> None:
    """Find what answers, and read the query."""
    method, path, query = case
    raw = path.decode("ascii", "ignore").encode()
    scope = {"method": method, "path": "/", "raw_path": raw, "query_string": query, "headers": []}
    request = Request(scope, None)  # type: ignore[arg-type]
    route, _ = find(method, request.target.partition("?")[0])
    request.query(route.query)


def made_url(random: Random) -> Case:
    """A URL of a coordinator, damaged."""
    data = damage(b"https://silo.example:8443/atoll", b"http://[::1]:65536/x?y#z@", random).decode("latin-1")
    return data, len(data)


def read_url(url: str) -> None:
    """Find the folder of a profile; it stays inside."""
    place = home.Profile.place(url, url[::-1], "/home/x")
    assert ".." not in place.parts
    assert place.parts[:4] == ("/", "home", "x", "profiles")
    assert len(place.parts) == 6


# Tasks


def task() -> Task:
    """A sound task."""
    exchange = Exchange(
        "run", 3, 0, 7, "mean", {"k": 5}, {"queries": np.ones((2, 3))}, {}, (Spec("scale", {"by": 2}),), (0, 1),
        (-1, -1), Spec("sum"), (), Spec("star"), Rule(2.0, 0.5, "drop"), TreeSpec({"x": Leaf("<f8", (3,))}),
    )  # fmt: skip
    each = {0: Blob("ab" * 32, 5)}
    return Task("f", "ada", "k", "KNN", "iris", ("a", "b"), (0, 50), each, exchange, NOW, NOW + 60)


def made_task() -> Callable[[Random], Case]:
    """Draws a damaged task."""
    sound = wire.encode(task())

    def made(random: Random) -> Case:
        data = damage(sound, sound, random)
        return data, len(data)

    return made


def read_task(data: bytes) -> None:
    """Read a task; what is one has one encoding."""
    assert wire.encode(wire.decode(data, Task)) == data


# Contributions

DAMAGED = runpy.run_path(str(Path(__file__).with_name("fuzz_wire.py")))["damaged"]
PLACE = os.memfd_create("contribution")
CONTRACT = TreeSpec(
    {
        "x": Leaf("<f8", (3, 2)), "free": Leaf("<f4", (-1, 2)), "far": Leaf("<f8", (-1,), "inf"),
        "none": Leaf("<f8", (0, 4)), "n": Leaf("<i8", ()), "yes": Leaf("|b1", (5,)), "z": Leaf("<c16", (2,)),
        "words": Leaf("U", (-1,)), "weight": Leaf("<f8", (1,)),
    },
    max_weight=50.0,
    max_norm=1e6,
)  # fmt: skip


def contributions() -> list[bytes]:
    """Sound contributions, and some that are nearly so."""
    tree = {
        "x": np.arange(6.0).reshape(3, 2), "free": np.ones((4, 2), "f4"), "far": np.array([1.0, -2.0]),
        "none": np.zeros((0, 4)), "n": np.array(7), "yes": np.array([True, False, True, True, False]),
        "z": np.array([1 + 2j, 3]), "words": np.array(["setosa", "é", ""]), "weight": np.array([5.0]),
    }  # fmt: skip
    changes: list[dict[str, Any]] = [
        {}, {"free": np.zeros((0, 2), "f4")}, {"words": np.array([], "<U3")}, {"x": np.full((3, 2), np.nan)},
        {"far": np.array([np.nan])}, {"weight": np.array([-1.0])}, {"x": np.full((3, 2), 1e9)}, {"n": np.array(7.0)},
        {"far": np.array([np.inf])},
    ]  # fmt: skip
    return [wire.encode({**tree, **change}) for change in changes]


def made_contributions() -> Callable[[Random], Case]:
    """Draws a damaged contribution."""
    sound = contributions()

    def made(random: Random) -> Case:
        data = random.choice(sound)
        if random.random() < 0.9:
            data = DAMAGED(data, random.choice(sound), random)
        return data, len(data)

    return made


def read_contribution(data: bytes) -> None:
    """Read in memory and in a file; both accept the same."""
    os.ftruncate(PLACE, 0)
    os.pwrite(PLACE, data, 0)
    told: list[WireError | None] = []
    for read in (lambda: check_tree(wire.decode(data, Tree), CONTRACT), lambda: examine(FILE, CONTRACT)):
        try:
            read()
            told.append(None)
        except WireError as error:
            told.append(error)
    assert (told[0] is None) == (told[1] is None), f"in memory: {told[0]}; in a file: {told[1]}"
    if told[0] is not None:
        raise told[0]


FILE = Path(f"/proc/self/fd/{PLACE}")


# What owners write


POLICY = (
    b'# a comment\n[[allow]]\nwho = "alice"\nkey = "ed25519:abcde-fghij"\ndata = ["iris", "s*"]\n'
    b'operations = ["describe.*"]\ncolumns = ["a", 3]\nmin_rows = 5\nmin_nodes = 3\nrounds_per_day = 100\n'
    b'bytes_per_day = "1.5 GB"\nuntil = 2027-01-01\n\n[[allow]]\nwho = "*"\ndata = "iris"\noperations = "*"\n'
)


def made_policy(random: Random) -> Case:
    """A damaged policy."""
    data = damage(POLICY, POLICY, random)
    return data, len(data)


def read_owners(data: bytes) -> None:
    """Read a policy; every rule that was read can be written, and is the same again."""
    rules = read_policy(data)
    assert read_policy("".join(written(rule) + "\n" for rule in rules)) == rules


TARGETS: dict[str, Target] = {
    "tokens": Target(made_token, read_token, 2),
    "problems": Target(made_problem, read_problem, 8),
    "answers": Target(made_bodies(), read_answer, 8),
    "bodies": Target(made_bodies(), read_body, 2),
    "requests": Target(made_request, read_request, 2),
    "paths": Target(made_path, read_path, 2),
    "urls": Target(made_url, read_url, 2),
    "tasks": Target(made_task(), read_task, 8),
    "contributions": Target(made_contributions(), read_contribution, 1),
    "policies": Target(made_policy, read_owners, 1),
}


def check(read: Read, case: Any) -> str | None:
    """The code with which it was refused, None if it was read; anything else is raised."""
    try:
        read(case)
    except SiloError as error:
        return error.code
    except WireError:
        return "wire"
    return None


def measured(read: Read, case: Any, size: int) -> tuple[str | None, float]:
    """The same, and the bytes allocated at most, as a share of what is allowed."""
    tracemalloc.start()
    try:
        reason = check(read, case)
        return reason, tracemalloc.get_traced_memory()[1] / (FIXED + PER_BYTE * size)
    finally:
        tracemalloc.stop()


def fuzz(cases: int, seed: int, names: tuple[str, ...] = tuple(TARGETS)) -> Report:
    """Read so many damaged things; an AssertionError names seed, case and what was read."""
    random, accepted, refused = Random(seed), Counter[str](), Counter[str]()
    worst, start = 0.0, time.perf_counter()
    for number, name in zip(range(cases), _turns(names), strict=False):
        target = TARGETS[name]
        case, size = target.made(random)
        try:
            if random.randrange(EVERY) == 0:
                reason, share = measured(target.read, case, size)
                worst = max(worst, share)
                assert share <= 1, f"allocated {share:.1f} times what is allowed"
            else:
                reason = check(target.read, case)
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {number}, {name}: {error!r}\n{case!r}") from error
        if reason is None:
            accepted[name] += 1
        else:
            refused[f"{name}: {reason}"] += 1
    return Report(cases, accepted, refused, time.perf_counter() - start, worst)


def _turns(names: tuple[str, ...]) -> Iterator[str]:
    """What is fast comes more often."""
    most = max(TARGETS[name].often for name in names)
    while True:
        for turn in range(most):
            yield from (name for name in names if turn < TARGETS[name].often)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Feed damaged input to everything of a silo that reads.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(TARGETS), help="names of targets, by commas")
    options = parser.parse_args()
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(1) as beside:  # in the main thread, uvloop would prepare for signals in every case
        report = beside.submit(fuzz, options.cases, options.seed, tuple(options.only.split(","))).result()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"seed {options.seed}: {report.cases} cases in {report.seconds:.1f} s, ", end="")
    print(f"{report.cases / report.seconds:,.0f} a second")
    for name, count in sorted(report.accepted.items()):
        print(f"  {count:8d} {name}: sound")
    for reason, count in sorted(report.refused.items()):
        print(f"  {count:8d} {reason}")
    print(f"  worst allocation {report.worst:.0%} of {PER_BYTE} bytes per byte received + {FIXED}; ", end="")
    print(f"peak memory grew by {grown:.1f} MB")


if __name__ == "__main__":
    main()
