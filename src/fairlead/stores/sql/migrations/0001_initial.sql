-- SPDX-License-Identifier: Apache-2.0
-- The store's first schema (design, section 4). Times are Unix seconds, durations carry their unit.
-- `partition` leads every key that it is part of, so that the schema can be sharded.

-- The events, in the order of their positions. A look-up by source and id probes each partition once.
CREATE TABLE log (
    partition    INTEGER NOT NULL,
    pos          INTEGER NOT NULL,
    key          TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    subject      TEXT,
    time         TEXT,
    content_type TEXT,
    form         TEXT    NOT NULL,             -- how `data` is written in JSON: json, text or binary
    attributes   BLOB    NOT NULL,             -- every attribute, as the JSON object that came
    data         BLOB,                         -- the bytes that came
    digest       BLOB    NOT NULL,             -- BLAKE2b-128 of attributes and data, checked when read
    accepted_at  REAL    NOT NULL,
    PRIMARY KEY (partition, pos),
    UNIQUE (partition, source, id, key)
);

-- A lane's events; `accepted_at` rides along so that a time is found without touching the events.
CREATE INDEX log_lane ON log (partition, key, pos, accepted_at);

-- The append counters; never lowered, so a position is never used again.
CREATE TABLE partition_head (
    partition INTEGER NOT NULL PRIMARY KEY,
    pos       INTEGER NOT NULL
);

-- What was asked for. `record` is the whole subscription, secrets included.
CREATE TABLE subscription (
    id         TEXT    NOT NULL PRIMARY KEY,
    revision   INTEGER NOT NULL,
    state      TEXT    NOT NULL,               -- active, paused, stopped or disabled
    reason     TEXT,
    since      REAL    NOT NULL,               -- when `state` was entered
    created_at REAL    NOT NULL,
    record     BLOB    NOT NULL
) WITHOUT ROWID;

-- The greatest generation ever given to a name; outlives the subscription.
CREATE TABLE subscription_generation (
    id         TEXT    NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL
) WITHOUT ROWID;

-- What a revision wanted; a revision that changed nothing of it has the row of the one before.
CREATE TABLE subscription_matching (
    subscription TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    matching     BLOB    NOT NULL,
    PRIMARY KEY (subscription, revision)
) WITHOUT ROWID;

-- The fence: one subscription's share of one partition, its generation and its epoch.
CREATE TABLE channel (
    subscription TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    target       INTEGER NOT NULL,             -- index into the subscription's route
    reason       TEXT,
    switched_at  REAL,
    PRIMARY KEY (subscription, partition)
) WITHOUT ROWID;

-- Every position at or below low_water, or in done_ranges, is settled, filtered out or covered by a hold.
CREATE TABLE progress (
    subscription TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    low_water    INTEGER NOT NULL,
    scan_pos     INTEGER NOT NULL,             -- read so far; goes back in a replay only
    done_ranges  BLOB    NOT NULL,             -- JSON [[first, last], …], closed, ascending, above low_water
    PRIMARY KEY (subscription, partition)
) WITHOUT ROWID;

-- One held, parked or slow lane: the events of `key` from head_pos up to scan_pos.
CREATE TABLE hold (
    subscription TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    key          TEXT    NOT NULL,
    head_pos     INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,             -- failed attempts of the head that count
    ready_at     REAL    NOT NULL,
    state        TEXT    NOT NULL,             -- held, parked or slow
    since        REAL    NOT NULL,             -- the head's first failure
    last_outcome BLOB,                         -- JSON
    last_at      REAL,
    PRIMARY KEY (subscription, partition, key)
) WITHOUT ROWID;

-- Which revision's filter is in force from which position on.
CREATE TABLE filter_revision (
    subscription TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    from_pos     INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    PRIMARY KEY (subscription, partition, from_pos)
) WITHOUT ROWID;

-- Every event not delivered on purpose, in the generation in which it was not.
CREATE TABLE skip (
    subscription TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    partition    INTEGER NOT NULL,
    pos          INTEGER NOT NULL,
    key          TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    reason       TEXT    NOT NULL,             -- operator, exhausted or retention
    by           TEXT    NOT NULL,
    at           REAL    NOT NULL,
    PRIMARY KEY (subscription, generation, partition, pos)
) WITHOUT ROWID;

CREATE INDEX skip_lane ON skip (subscription, generation, partition, key, pos);

-- Who owns which partition. One SQLite file has one owner, which takes every lease when it starts.
CREATE TABLE lease (
    partition  INTEGER NOT NULL PRIMARY KEY,
    owner      TEXT,
    epoch      INTEGER NOT NULL,
    expires_at REAL
);

CREATE TABLE node (
    id      TEXT NOT NULL PRIMARY KEY,
    seen_at REAL NOT NULL
) WITHOUT ROWID;

-- What people look at. First-try successes of one flush and channel share a row: `packed` lists them.
CREATE TABLE attempt (
    number       INTEGER PRIMARY KEY,          -- 1024 × this + place in `packed` numbers one attempt
    subscription TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    first_pos    INTEGER NOT NULL,
    last_pos     INTEGER NOT NULL,
    key          TEXT,                         -- null in a packed row
    attempt      INTEGER NOT NULL,
    target       INTEGER NOT NULL,
    started_at   REAL    NOT NULL,             -- of a packed row, its newest
    duration_ms  INTEGER NOT NULL,
    outcome      TEXT    NOT NULL,
    status       INTEGER,
    detail       TEXT    NOT NULL,
    packed       BLOB                          -- JSON [[pos, key, target, started_at, duration_ms, status], …]
);

CREATE INDEX attempt_of ON attempt (subscription);
CREATE INDEX attempt_failed ON attempt (subscription) WHERE outcome <> 'delivered';

-- API keys, hashed.
CREATE TABLE api_key (
    id           TEXT NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    digest       BLOB NOT NULL UNIQUE,
    grants       BLOB NOT NULL,                -- JSON
    created_at   REAL NOT NULL,
    expires_at   REAL,
    last_used_at REAL
);

-- What a source sent and could not be taken as an event.
CREATE TABLE reject (
    id          TEXT    NOT NULL PRIMARY KEY,
    source      TEXT    NOT NULL,
    received_at REAL    NOT NULL,
    reason      TEXT    NOT NULL,
    headers     BLOB    NOT NULL,              -- JSON
    body        BLOB    NOT NULL,
    size_bytes  INTEGER NOT NULL               -- as it came; `body` may be cut
);

-- Small texts that are remembered for the bridges and the node.
CREATE TABLE note (
    source  TEXT NOT NULL,
    subject TEXT NOT NULL,
    text    TEXT NOT NULL,
    PRIMARY KEY (source, subject)
) WITHOUT ROWID;

-- What was fixed when the store was made.
CREATE TABLE setting (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
