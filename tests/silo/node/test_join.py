"""How a machine becomes a node: the right coordinator, versions that fit, and a folder that is whole."""

from __future__ import annotations

import time

import pytest

from atoll import wire
from atoll.silo import api, durable, errors, joining, tokens
from atoll.silo.home import Profile
from atoll.silo.keys import Key
from atoll.silo.node.folder import Folder, default_home
from atoll.silo.node.join import check_versions, join, read_allowance
from atoll.silo.node.log import entries
from atoll.silo.node.policy import Rule, read_policy
from atoll.silo.node.service import unit
from atoll.silo.node.sources import Source
from silo.node.fakes import COORDINATOR

SOURCES = {"iris": Source(file="/d/iris.csv", target="species")}


def about(**changes):
    plain = {
        "federation": COORDINATOR.fingerprint, "signing_key": COORDINATOR.public, "version": "0.1.0",
        "protocol": api.PROTOCOL, "wire": wire.VERSION, "time": time.time(),
    }  # fmt: skip
    return api.About(**{**plain, **changes})


def token(name="b", role="node", url="https://coordinator:1"):
    secret, end = b"s" * tokens.SECRET_BYTES, time.time() + 1000
    return tokens.write(tokens.Token(url, name, role, secret, None, COORDINATOR.public, end))


@pytest.fixture(autouse=True)
def coordinator(monkeypatch, tmp_path):
    """A coordinator that takes any token."""
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(joining, "about", lambda url, certificate=None: about())

    def accept(text, *, url, node, folder):
        read = tokens.read(text)
        path = folder / "key"
        key = Key.load(path) if path.exists() else Key.make()
        return Profile.create(
            folder, url=url, name=read.name, role="node", federation=COORDINATOR.fingerprint,
            signing_key=COORDINATOR.public, certificate=None, key=key,
        )  # fmt: skip

    monkeypatch.setattr(joining, "join", accept)


class TestJoining:
    def test_a_folder_that_allows_nothing(self, tmp_path):
        folder = join("https://coordinator:1/", token(), SOURCES)
        assert folder.path == default_home() / "b" == tmp_path / "home" / "nodes" / "b"
        assert folder.data() == SOURCES
        assert read_policy(folder.policy.read_text()) == ()
        assert folder.path.stat().st_mode & 0o077 == 0
        for name in ("key", "node.toml", "policy.toml", "log.jsonl", "profile.json"):
            assert (folder / name).stat().st_mode & 0o077 == 0, name
        entry = next(entries(folder.log))
        assert (entry["event"], entry["key"]) == ("joined", folder.profile.key.fingerprint)
        assert Folder.find().path == folder.path
        assert Folder.find("b").path == folder.path

    def test_what_is_allowed_from_the_start(self):
        folder = join(None, token(), SOURCES, allow=[read_allowance("alice:iris:describe.*,neighbors.*")])
        assert read_policy(folder.policy.read_text()) == (Rule("alice", "", ("iris",), ("describe.*", "neighbors.*")),)

    def test_a_kill_at_every_step(self, tmp_path):
        steps = []
        stop, rules = durable.watch(steps.append), (Rule("*", "", ("*",), ("*",)),)
        join(None, token(), SOURCES, folder=tmp_path / "dry", allow=rules)
        stop()
        assert len(steps) >= 4
        for at in range(len(steps)):
            left = iter(range(at, -1, -1))

            def kill(step, left=left):
                if next(left) == 0:
                    raise KeyboardInterrupt

            stop, place = durable.watch(kill), tmp_path / str(at)
            with pytest.raises(KeyboardInterrupt):
                join(None, token(), SOURCES, folder=place, allow=rules)
            stop()
            key = Key.load(place / "key").public
            folder = join(None, token(), SOURCES, folder=place, allow=rules)
            assert folder.profile.key.public == key
            assert read_policy(folder.policy.read_text()) == rules
            assert folder.data() == SOURCES

    def test_again_adds_data_and_keeps_the_policy(self):
        join(None, token(), SOURCES, allow=[read_allowance("alice:iris:*")])
        folder = join(None, token(), {"wine": Source(file="/d/wine.csv")})
        assert folder.data().keys() == {"iris", "wine"}
        assert len(read_policy(folder.policy.read_text())) == 1

    def test_the_folder_of_another_node(self, tmp_path):
        join(None, token("a"), SOURCES, folder=tmp_path / "x")
        with pytest.raises(errors.Conflict, match="another node"):
            join(None, token("b"), SOURCES, folder=tmp_path / "x")

    def test_a_folder_that_others_may_read(self, tmp_path):
        (tmp_path / "open").mkdir(mode=0o755)
        (tmp_path / "open" / "file").touch()
        with pytest.raises(errors.UnsafeFile):
            join(None, token(), SOURCES, folder=tmp_path / "open")

    @pytest.mark.parametrize("text", ["", "atoll_", "hello", "atoll_aaaa", token()[:-1], token()[:-3] + "zzz"])
    def test_a_token_that_is_none(self, text):
        with pytest.raises(errors.TokenMistyped):
            join(None, text, SOURCES)

    @pytest.mark.parametrize("kind", [errors.Proof, errors.TokenUsed, errors.TokenExpired, errors.TokenUnknown])
    def test_what_the_coordinator_refuses_leaves_no_node(self, monkeypatch, kind):
        def refuse(*_, **__):
            raise kind("no")

        monkeypatch.setattr(joining, "join", refuse)
        with pytest.raises(kind):
            join(None, token(), SOURCES)
        with pytest.raises(errors.NotFound):
            Folder.find()


class TestVersions:
    def test_that_fit(self):
        check_versions(about(version="9.9.9"), "b")

    @pytest.mark.parametrize(
        ("changes", "hint"),
        [
            ({"protocol": api.PROTOCOL + 1, "version": "0.2.0"}, "pip install 'atoll==0.2.0'"),
            ({"wire": wire.VERSION + 1, "version": "0.2.0"}, "pip install 'atoll==0.2.0'"),
            ({"protocol": api.PROTOCOL - 1}, "ask the admin"),
        ],
    )
    def test_that_do_not_are_shown_side_by_side(self, monkeypatch, changes, hint):
        monkeypatch.setattr(joining, "about", lambda url, certificate=None: about(**changes))
        with pytest.raises(errors.Version) as caught:
            join(None, token(), SOURCES)
        for said in ("this node", "coordinator", "protocol", "wire format", hint):
            assert said in str(caught.value)


class TestAllowances:
    def test_by_key(self):
        key = Key.make().fingerprint
        assert read_allowance(f"{key}:iris:*") == Rule("*", key, ("iris",), ("*",))

    @pytest.mark.parametrize(
        "text", ["", "alice", "alice:iris", ":iris:*", "alice::*", "alice:iris:", "alice:iris: , "]
    )
    def test_that_allow_nothing(self, text):
        with pytest.raises(errors.Malformed):
            read_allowance(text)


class TestFolders:
    def test_none_and_several(self):
        with pytest.raises(errors.NotFound, match="atoll node join"):
            Folder.find()
        join(None, token("a"), SOURCES)
        join(None, token("b"), SOURCES)
        with pytest.raises(errors.NotFound, match="which node"):
            Folder.find()
        assert Folder.find("a").profile.name == "a"
        with pytest.raises(errors.NotFound, match="no node here"):
            Folder.find("c")


class TestService:
    @pytest.mark.parametrize("user", [False, True])
    def test_a_unit(self, tmp_path, user):
        folder = join(None, token(), SOURCES, folder=tmp_path / 'a folder with "100%"')
        text = unit(folder, user=user)
        assert f"WantedBy={'default' if user else 'multi-user'}.target" in text
        assert "-m atoll node run" in text
        assert '\\"100%%\\""' in text
        assert ("User=" in text) != user
        for hardening in ("NoNewPrivileges=yes", "ProtectSystem=strict", "UMask=0077", "Restart=on-failure"):
            assert hardening in text
        assert all("=" in line or line.startswith("[") or not line for line in text.splitlines())
