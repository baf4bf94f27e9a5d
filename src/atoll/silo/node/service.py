"""A systemd unit for a node."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from atoll.silo.node.folder import Folder
from atoll.silo.node.sources import Source

__all__ = ["unit"]

_HARDENING = """\
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallArchitectures=native
SystemCallFilter=@system-service
CapabilityBoundingSet=
UMask=0077
"""

_USER_LEAVES = ("PrivateDevices", "ProtectClock", "ProtectHostname", "ProtectKernel", "ProtectProc", "Capability")


def unit(folder: Folder, *, user: bool = False) -> str:
    """The text of a unit that answers for a node and starts it again when it ends with an error.

    It may do nothing else: only the node's folder is writable.

    Parameters
    ----------
    folder : Folder
        Of the node.
    user : bool
        Whether it is a unit of this user, for ``systemctl --user``.

    Returns
    -------
    str
    """
    path, profile = folder.path.absolute(), folder.profile
    hardening = "".join(
        line for line in _HARDENING.splitlines(keepends=True) if not (user and line.startswith(_USER_LEAVES))
    )
    owner = "" if user else f"User={_user()}\n"
    home = "" if user else f"ProtectHome={_home(path, folder.data())}\n"
    target = "default.target" if user else "multi-user.target"
    after = "" if user else "After=network-online.target\nWants=network-online.target\n"
    return f"""\
[Unit]
Description=Atoll node {profile.name} of {profile.url}
{after}StartLimitIntervalSec=600
StartLimitBurst=20

[Service]
Type=exec
ExecStart={_quoted(sys.executable)} -m atoll node run {_quoted(str(path))}
Restart=on-failure
RestartSec=5
TimeoutStopSec=30
{owner}ReadWritePaths={_quoted(str(path))}
{home}{hardening}
[Install]
WantedBy={target}
"""


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if any(c.isspace() or c in "\"'\\" for c in text) else text


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _home(path: Path, sources: dict[str, Source]) -> str:
    """Homes may be read where the node's folder, its rows or its interpreter lie in one."""
    used = [path, Path(sys.executable), *(file for source in sources.values() for file in source.files)]
    homes = ("/home/", "/root", "/run/user/")
    return "read-only" if any(str(p).startswith(homes) for p in used) else "yes"
