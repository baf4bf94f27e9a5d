"""How a machine becomes a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from atoll import wire
from atoll.errors import explain
from atoll.silo import api, errors, joining, tokens
from atoll.silo.durable import reached
from atoll.silo.files import private_folder, write_whole
from atoll.silo.home import Profile
from atoll.silo.node.folder import Folder, default_home
from atoll.silo.node.log import Log
from atoll.silo.node.policy import START, Rule, written
from atoll.silo.node.sources import Source

__all__ = ["check_versions", "join", "read_allowance"]


def join(
    url: str | None,
    token: str,
    data: Mapping[str, Source],
    *,
    folder: str | Path | None = None,
    allow: Iterable[Rule] = (),
) -> Folder:
    """Join a federation: make a key, show the token, make sure who the coordinator is, and write the folder.

    May be repeated after a kill, with the same token: the key is kept before the token is shown.

    Parameters
    ----------
    url : str or None
        Where the coordinator is reached from here; that of the token by default.
    token : str
        As it was pasted.
    data : mapping of str to Source
        What this node offers.
    folder : path-like, optional
        Where the node's folder goes; by default by its name, below `default_home`.
    allow : iterable of Rule
        What is allowed from the start.

    Returns
    -------
    Folder

    Raises
    ------
    SiloError
        If the token is mistyped, expired, used or for another kind of member, the coordinator is not the one that it
        names or of a version that does not fit, or another node lies in the folder.
    """
    read = tokens.read(token)
    place = Path(folder) if folder is not None else default_home() / read.name
    made = Folder(private_folder(place))
    profile = _profile(made)
    if profile is None:
        site = (url or read.url).rstrip("/")
        check_versions(joining.about(site, read.certificate), read.name)
        profile = joining.join(token, url=site, node=True, folder=place)
        reached("node.joined.profile")
    elif profile.name != read.name or profile.signing_key != read.signing_key:
        got, hint = f"node {profile.name!r} of {profile.url}", "name another folder"
        raise errors.Conflict(explain("another node lies in this folder", got=got, where=place, hint=hint))
    if not made.policy.exists():
        rules = "".join(written(rule, "allowed when joining") for rule in allow)
        write_whole(made.policy, (START + rules).encode(), mode=0o600)
        reached("node.policy.written")
    made.write_data({**_known(made), **data})
    log = Log(made.log)
    log.append("joined", name=profile.name, url=profile.url, federation=profile.federation, key=profile.key.fingerprint)
    log.close()
    return made


def _profile(folder: Folder) -> Profile | None:
    try:
        return folder.profile
    except errors.NotFound:
        return None


def _known(folder: Folder) -> dict[str, Source]:
    return folder.data() if (folder / "node.toml").exists() else {}


def check_versions(about: api.About, name: str) -> None:
    """See that both sides understand each other.

    Parameters
    ----------
    about : About
        What the coordinator runs on.
    name : str
        Of this node, for the message.

    Raises
    ------
    Version
        With a table of both sides and what to do.
    """
    rows = [
        ("protocol", api.PROTOCOL, about.protocol),
        ("wire format", wire.VERSION, about.wire),
    ]
    if all(ours == theirs for _, ours, theirs in rows):
        return
    table = [("atoll", metadata.version("atoll"), about.version), *rows]
    lines = [f"  {'':<14}{'this node':<14}coordinator"]
    lines += [f"  {what:<14}{ours!s:<14}{theirs}" for what, ours, theirs in table]
    newer = any(theirs > ours for _, ours, theirs in rows)
    hint = f"pip install 'atoll=={about.version}' here" if newer else "ask the admin to update the coordinator"
    what = explain(f"node {name!r} and the coordinator do not understand each other", hint=hint)
    raise errors.Version("\n".join([what, *lines]))


def read_allowance(text: str) -> Rule:
    """A rule as it is written on the command line: ``WHO:DATA:PATTERNS``, who by name or by key.

    Parameters
    ----------
    text : str
        Patterns are separated by commas.

    Returns
    -------
    Rule

    Raises
    ------
    Malformed
        If it cannot be read.

    Examples
    --------
    >>> from atoll.silo.node.join import read_allowance
    >>> read_allowance("alice:iris:describe.*,neighbors.*").operations
    ('describe.*', 'neighbors.*')
    """
    who, _, rest = text.strip().rpartition(":")
    who, _, data = who.rpartition(":")
    patterns = tuple(p.strip() for p in rest.split(",") if p.strip())
    if not (who and data and patterns):
        expected = "WHO:DATA:PATTERNS, such as alice:iris:describe.*,neighbors.*"
        raise errors.Malformed(explain("this allows nothing", got=text, expected=expected))
    if who.startswith("ed25519:"):
        return Rule("*", who, (data,), patterns)
    return Rule(who, "", (data,), patterns)
