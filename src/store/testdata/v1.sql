-- A state as the first version left it. Never edited, so that states of that version go on to open.
PRAGMA application_id = 1447382103;
PRAGMA user_version = 1;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE identity (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    salt BLOB NOT NULL CHECK (length(salt) = 16)
) STRICT;
INSERT INTO identity VALUES(1,X'30313233343536373839616263646566');
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
INSERT INTO executions VALUES(1,'exec_1','Q2 launch copy','watching',-2,1777374504364,NULL,NULL,0);
INSERT INTO executions VALUES(2,'exec_2',NULL,'completed',17,1777374504364,1777374504364,NULL,1);
INSERT INTO executions VALUES(3,'exec_3',NULL,'not-found',NULL,1777374504364,1777374504364,1777374384364,0);
INSERT INTO executions VALUES(4,'exec_4',NULL,'watching',NULL,NULL,NULL,1777374504364,0);
CREATE TABLE memories (
    execution INTEGER PRIMARY KEY REFERENCES executions,
    memory    TEXT NOT NULL
) STRICT;
INSERT INTO memories VALUES(1,'{"execution":{"status":"running","startedAt":"2026-04-28T11:08:24.364Z","completedAt":null,"cancelledAt":null,"definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":null,"failureReason":null,"toldAt":"2026-04-28T11:08:24.364Z"},"steps":[{"stepId":"s1","nodeId":"human-legal","nodeType":"human","groupId":null,"status":"waiting","startedAt":null,"completedAt":null,"decision":null,"error":null,"entries":{"running":1,"waiting":1},"toldAt":"2026-04-28T11:08:24.364Z"}],"entries":{"execution.running":1},"nextSequence":3}');
INSERT INTO memories VALUES(2,'{"nextSequence":9}');
INSERT INTO memories VALUES(3,'{"entries":{"watch.abandoned":1},"nextSequence":2}');
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
INSERT INTO events VALUES(1,1,'evt_1',1,'step.running','{"id":"evt_1","type":"step.running","timestamp":"2026-04-28T11:08:24.364Z","data":{"executionId":"exec_1","definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":null,"label":"Q2 launch copy","sequence":1,"from":null,"to":"running","step":{"stepId":"s1","nodeId":"human-legal","nodeType":"human","groupId":null,"startedAt":null,"completedAt":null,"decision":null,"error":null},"execution":{"status":"running","startedAt":null,"completedAt":null,"cancelledAt":null,"failureReason":null,"steps":{"total":1,"running":1}},"observedAt":"2026-04-28T11:08:24.364Z","previousObservedAt":null,"initial":true,"final":false}}','{"decision": "approve"}');
INSERT INTO events VALUES(2,1,'evt_2',2,'step.waiting','{"id":"evt_2","type":"step.waiting","timestamp":"2026-04-28T11:08:24.364Z","data":{"executionId":"exec_1","definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":null,"label":"Q2 launch copy","sequence":2,"from":null,"to":"waiting","step":{"stepId":"s1","nodeId":"human-legal","nodeType":"human","groupId":null,"startedAt":null,"completedAt":null,"decision":null,"error":null},"execution":{"status":"running","startedAt":null,"completedAt":null,"cancelledAt":null,"failureReason":null,"steps":{"total":1,"waiting":1}},"observedAt":"2026-04-28T11:08:24.364Z","previousObservedAt":null,"initial":true,"final":false}}',NULL);
INSERT INTO events VALUES(3,3,'evt_3',1,'watch.abandoned','{"id":"evt_3","type":"watch.abandoned","timestamp":"2026-04-28T11:08:24.364Z","data":{"executionId":"exec_3","definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":null,"label":"Q2 launch copy","sequence":1,"from":null,"to":"waiting","step":{"stepId":"s1","nodeId":"human-legal","nodeType":"human","groupId":null,"startedAt":null,"completedAt":null,"decision":null,"error":null},"execution":{"status":"running","startedAt":null,"completedAt":null,"cancelledAt":null,"failureReason":null,"steps":{"total":1,"waiting":1}},"observedAt":"2026-04-28T11:08:24.364Z","previousObservedAt":null,"initial":true,"final":false}}',NULL);
CREATE TABLE sinks (
    id                 INTEGER PRIMARY KEY,
    name               TEXT NOT NULL UNIQUE,
    tries              INTEGER NOT NULL DEFAULT 0,  -- numbers the attempts, so that the latest answer can be found
    stopped_at         INTEGER,
    stop_reason        TEXT,
    stop_configuration TEXT
) STRICT;
INSERT INTO sinks VALUES(1,'approvals',4,NULL,NULL,NULL);
INSERT INTO sinks VALUES(2,'gone',1,1777374504364,'410 Gone','c0ffee');
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
INSERT INTO deliveries VALUES(7,1,1,1,2,1777374504364,4,'503 Service Unavailable');
INSERT INTO deliveries VALUES(8,1,1,2,0,1777374504364,NULL,NULL);
CREATE TABLE lanes (
    sink      INTEGER NOT NULL REFERENCES sinks,
    execution INTEGER NOT NULL REFERENCES executions,
    due_at    INTEGER NOT NULL,
    PRIMARY KEY (sink, execution)
) STRICT, WITHOUT ROWID;
INSERT INTO lanes VALUES(1,1,1777374509364);
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
INSERT INTO dead_letters VALUES(1,1,3,3,'refused',1,'400 Bad Request',1777374504364,1777374505364);
CREATE TABLE notes (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO notes VALUES('credentials','abc');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('deliveries',8);
INSERT INTO sqlite_sequence VALUES('dead_letters',1);
CREATE INDEX executions_ended ON executions (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX deliveries_sink ON deliveries (sink);
CREATE INDEX deliveries_lane ON deliveries (execution, sink);
CREATE INDEX deliveries_tried ON deliveries (sink, tried) WHERE tried IS NOT NULL;
CREATE INDEX lanes_due ON lanes (sink, due_at);
CREATE INDEX dead_letters_sink ON dead_letters (sink);
CREATE INDEX dead_letters_execution ON dead_letters (execution);
CREATE INDEX dead_letters_event ON dead_letters (event);
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
COMMIT;
