"""The tables. A change here needs a new `VERSION` and a step in `MIGRATIONS`."""

from __future__ import annotations

__all__ = ["MIGRATIONS", "TABLES", "VERSION"]

VERSION = 3

MIGRATIONS: dict[int, str] = {
    1: "ALTER TABLE exchanges ADD COLUMN metrics TEXT NOT NULL DEFAULT '{}';",
    2: "ALTER TABLE exchanges ADD COLUMN needed INTEGER NOT NULL DEFAULT 1;",
}
"""From a version to the next: statements."""

TABLES = """
CREATE TABLE members (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, key TEXT NOT NULL UNIQUE, public BLOB NOT NULL,
    joined REAL NOT NULL, revoked REAL
) STRICT;
CREATE TABLE invites (
    hash TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, expires REAL NOT NULL, made REAL NOT NULL,
    made_by TEXT NOT NULL, used REAL, used_key TEXT
) STRICT;
CREATE TABLE logins (hash TEXT PRIMARY KEY, name TEXT NOT NULL, expires REAL NOT NULL, used REAL) STRICT;
CREATE TABLE sessions (hash TEXT PRIMARY KEY, name TEXT NOT NULL, expires REAL NOT NULL) STRICT;
CREATE TABLE leases (key TEXT PRIMARY KEY, state BLOB NOT NULL) STRICT;
CREATE TABLE nodes (name TEXT PRIMARY KEY, hello BLOB, seen REAL) STRICT;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL,
    data TEXT NOT NULL, nodes TEXT NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL DEFAULT '', started REAL NOT NULL,
    changed REAL NOT NULL, saved TEXT, saved_size INTEGER, saved_inline BLOB, UNIQUE (owner, name)
) STRICT;
CREATE INDEX by_saved ON runs (saved) WHERE saved IS NOT NULL;
CREATE TABLE exchanges (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, number INTEGER NOT NULL, digest TEXT NOT NULL,
    key BLOB NOT NULL, task TEXT NOT NULL, task_size INTEGER NOT NULL,
    task_inline BLOB, signature BLOB NOT NULL, expires REAL NOT NULL, op TEXT NOT NULL, step INTEGER NOT NULL,
    leaves TEXT NOT NULL, n INTEGER NOT NULL, state TEXT NOT NULL, submitted REAL NOT NULL, deadline REAL,
    closed REAL, note TEXT NOT NULL, outcome BLOB, merged TEXT, merged_size INTEGER,
    merged_inline BLOB, metrics TEXT NOT NULL DEFAULT '{}',
    needed INTEGER NOT NULL DEFAULT 1, UNIQUE (run, number)
) STRICT;
CREATE INDEX unfinished ON exchanges (state) WHERE state IN ('open', 'closing');
CREATE INDEX by_state ON exchanges (run, state);
CREATE INDEX by_task ON exchanges (task) WHERE state IN ('open', 'closing');
CREATE INDEX by_merged ON exchanges (merged) WHERE merged IS NOT NULL;
CREATE TABLE asked (
    exchange INTEGER NOT NULL REFERENCES exchanges (id) ON DELETE CASCADE, position INTEGER NOT NULL,
    node TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, bytes INTEGER NOT NULL DEFAULT 0, at REAL,
    own TEXT, own_size INTEGER, PRIMARY KEY (exchange, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX waiting ON asked (node) WHERE state = 'open';
CREATE INDEX by_own ON asked (own) WHERE own IS NOT NULL;
CREATE TABLE parts (
    exchange INTEGER NOT NULL REFERENCES exchanges (id) ON DELETE CASCADE, lo INTEGER NOT NULL, hi INTEGER NOT NULL,
    expanded INTEGER NOT NULL, inline BLOB, blob TEXT, PRIMARY KEY (exchange, lo)
) STRICT;
CREATE TABLE sent (
    node TEXT NOT NULL, run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, op TEXT NOT NULL,
    times INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (node, run, op)
) STRICT, WITHOUT ROWID;
CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE refs (
    digest TEXT NOT NULL REFERENCES blobs (digest), kind TEXT NOT NULL, holder TEXT NOT NULL, made REAL NOT NULL,
    PRIMARY KEY (digest, kind, holder)
) STRICT, WITHOUT ROWID;
CREATE INDEX held ON refs (kind, holder);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL, who TEXT NOT NULL,
    what TEXT NOT NULL, run TEXT NOT NULL
) STRICT;
"""
