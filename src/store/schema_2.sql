-- The state, version 2: what is in a message that carries several events, and when a receiver in trouble is asked again.
-- A released step is never edited.

-- The deliveries up to this one, from the oldest of the lane on, are one message: fixed before its first attempt.
ALTER TABLE lanes ADD COLUMN sealed INTEGER;
-- 1: the receiver refused that message for its size or shape; it goes as plain text.
ALTER TABLE lanes ADD COLUMN plain INTEGER NOT NULL DEFAULT 0;

-- While the receiver is being probed: nothing is tried before this moment.
ALTER TABLE sinks ADD COLUMN probe_at INTEGER;
