"""``atoll login``: make this machine known to a coordinator."""

from __future__ import annotations

from argparse import Namespace

from atoll.cli import show
from atoll.errors import InvalidData, explain

__all__ = ["execute"]


def execute(args: Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : Namespace
        As the parser read them.

    Returns
    -------
    int
        Exit status 0.
    """
    from atoll.silo.joining import join

    if args.TOKEN is None:
        hint = "atoll login URL TOKEN, with what atoll coordinator invite NAME --role researcher printed"
        raise InvalidData(explain("the token is missing", hint=hint))
    profile = join(args.TOKEN, url=args.URL, home=args.home)
    if args.json:
        show.emit_json(
            {
                "name": profile.name, "role": profile.role, "url": profile.url, "federation": profile.federation,
                "key": profile.key.fingerprint, "folder": str(profile.folder),
            }
        )  # fmt: skip
        return 0
    lines = [
        f"logged in:  {profile.name}, {profile.role}", f"at:         {profile.url}",
        f"federation: {profile.federation}", f"your key:   {profile.key.fingerprint}",
    ]  # fmt: skip
    if profile.role in ("researcher", "admin"):
        lines += ["", f"next:       Federation.connect({profile.url!r}) in Python"]
    show.emit("\n".join(lines) + "\n")
    return 0
