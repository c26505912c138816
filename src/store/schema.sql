-- The state, version 1. A person may look into it: sqlite3 state.db 'SELECT * FROM pending'.
-- Times are milliseconds since 1970; the views spell them out.
-- Changes come as further steps (see MIGRATIONS in sqlite/open.rs); this file is never edited once it was released.

-- Drawn once: salts what is derived from secrets.
CREATE TABLE identity (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    salt BLOB NOT NULL CHECK (length(salt) = 16)
) STRICT;
INSERT INTO identity VALUES (1, randomblob(16));

-- Small rows, read whole at every start: what is big about an execution stands in `memories`.
CREATE TABLE executions (
    id              INTEGER PRIMARY KEY,
    execution_id    TEXT NOT NULL UNIQUE,
    label           TEXT,
    standing        TEXT NOT NULL,              -- watching, completed, failed, cancelled, not-found, refused
    fingerprint     INTEGER,
    observed_at     INTEGER,
    ended_at        INTEGER,                    -- null while it is watched
    not_found_since INTEGER,
    pruned          INTEGER NOT NULL DEFAULT 0  -- 1: past retention, only a mark is left
) STRICT;
CREATE INDEX executions_ended ON executions (ended_at) WHERE ended_at IS NOT NULL;

-- The last snapshot, and what numbers the next event (JSON).
CREATE TABLE memories (
    execution INTEGER PRIMARY KEY REFERENCES executions,
    memory    TEXT NOT NULL
) STRICT;

-- What was told or is to be told: `body` is the event's JSON, byte for byte; `output` the step's output where a sink asks for it.
CREATE TABLE events (
    id        INTEGER PRIMARY KEY,
    execution INTEGER NOT NULL REFERENCES executions,
    event_id  TEXT NOT NULL,
    sequence  INTEGER NOT NULL,
    type      TEXT NOT NULL,
    body      TEXT NOT NULL,
    output    TEXT,
    UNIQUE (execution, event_id)
) STRICT;

CREATE TABLE sinks (
    id                 INTEGER PRIMARY KEY,
    name               TEXT NOT NULL UNIQUE,
    tries              INTEGER NOT NULL DEFAULT 0,  -- numbers the attempts, so that the latest answer can be found
    stopped_at         INTEGER,
    stop_reason        TEXT,
    stop_configuration TEXT
) STRICT;

-- One row for each event that a sink has not taken yet. Ids only grow: they are the order of the commits.
-- `event` is no foreign key: checking it would cost an index on the busiest table, and events only go with an execution that
-- has no deliveries.
CREATE TABLE deliveries (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    sink        INTEGER NOT NULL REFERENCES sinks,
    execution   INTEGER NOT NULL REFERENCES executions,
    event       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    enqueued_at INTEGER NOT NULL,
    tried       INTEGER,
    last_answer TEXT
) STRICT;
CREATE INDEX deliveries_sink ON deliveries (sink);
CREATE INDEX deliveries_lane ON deliveries (execution, sink);
CREATE INDEX deliveries_tried ON deliveries (sink, tried) WHERE tried IS NOT NULL;

-- One row exactly while an execution has something pending for a sink: when its oldest delivery may be tried.
-- Finding what is due costs no look at the queues behind it.
CREATE TABLE lanes (
    sink      INTEGER NOT NULL REFERENCES sinks,
    execution INTEGER NOT NULL REFERENCES executions,
    due_at    INTEGER NOT NULL,
    PRIMARY KEY (sink, execution)
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_due ON lanes (sink, due_at);

CREATE TABLE dead_letters (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    sink        INTEGER NOT NULL REFERENCES sinks,
    execution   INTEGER NOT NULL REFERENCES executions,
    event       INTEGER NOT NULL REFERENCES events,
    reason      TEXT NOT NULL,                  -- refused, expired, sink-removed
    attempts    INTEGER NOT NULL,
    last_answer TEXT,
    enqueued_at INTEGER NOT NULL,
    died_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_sink ON dead_letters (sink);
CREATE INDEX dead_letters_execution ON dead_letters (execution);
CREATE INDEX dead_letters_event ON dead_letters (event);

CREATE TABLE notes (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- For people.
CREATE VIEW pending AS
SELECT d.id, s.name AS sink, x.execution_id, x.label, e.sequence, e.type, e.event_id, d.attempts,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.enqueued_at / 1000.0, 'unixepoch') AS enqueued,
       strftime('%Y-%m-%dT%H:%M:%fZ', l.due_at / 1000.0, 'unixepoch') AS due,
       d.last_answer
FROM deliveries d
JOIN sinks s ON s.id = d.sink
JOIN executions x ON x.id = d.execution
JOIN events e ON e.id = d.event
JOIN lanes l ON l.sink = d.sink AND l.execution = d.execution
ORDER BY d.id;

CREATE VIEW dead AS
SELECT d.id, s.name AS sink, x.execution_id, x.label, e.sequence, e.type, e.event_id, d.reason, d.attempts,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.enqueued_at / 1000.0, 'unixepoch') AS enqueued,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.died_at / 1000.0, 'unixepoch') AS died,
       d.last_answer
FROM dead_letters d
JOIN sinks s ON s.id = d.sink
JOIN executions x ON x.id = d.execution
JOIN events e ON e.id = d.event
ORDER BY d.id;
