-- The state, version 4: the engine's own event behind one of ours. A released step is never edited.

-- As Velt's own push has it (JSON), where a sink asks for that; only there with the private part of what it came with.
ALTER TABLE events ADD COLUMN push TEXT;
