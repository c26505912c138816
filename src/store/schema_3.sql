-- The state, version 3: what a `[[discover]]` table found. A released step is never edited.

-- The definition whose list showed this execution first: over restarts, nothing else would say that it is watched.
ALTER TABLE executions ADD COLUMN discovered TEXT;
