//! What is remembered: one row for each execution, its last snapshot beside it.

use std::{collections::HashSet, ops::ControlFlow};

use rusqlite::{Connection, OptionalExtension, Result, Row, named_params, params};

use super::outbox;
use crate::{
    clock::Time,
    store::{Known, Memory, Observation, Remembered, Standing},
    velt::model::ExecutionId,
};

/// How many executions a call of [`prune`] looks at: other calls wait for it.
const PRUNED_AT_ONCE: usize = 500;

/// Where the next call of [`prune`] goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    ended_at: i64,
    id: i64,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { ended_at: i64::MIN, id: i64::MIN }
    }
}

/// Commits a read: the execution, its memory, its events, their deliveries.
///
/// An end is final: whatever a later write says, the first one stands.
pub(super) fn observe(transaction: &Connection, observation: &Observation) -> Result<()> {
    let ended_at = (observation.standing != Standing::Watching).then_some(observation.observed_at);
    let execution: i64 = transaction
        .prepare_cached(
            "INSERT INTO executions (execution_id, label, standing, fingerprint, observed_at, ended_at)
             VALUES (:id, :label, :standing, :fingerprint, :observed_at, :ended_at)
             ON CONFLICT (execution_id) DO UPDATE SET
               label = excluded.label, fingerprint = excluded.fingerprint, observed_at = excluded.observed_at, pruned = 0,
               standing = iif(standing IN ('completed', 'failed', 'cancelled'), standing, excluded.standing),
               ended_at = CASE WHEN standing IN ('completed', 'failed', 'cancelled') THEN ended_at
                               WHEN standing = excluded.standing THEN coalesce(ended_at, excluded.ended_at)
                               ELSE excluded.ended_at END
             RETURNING id",
        )?
        .query_row(
            named_params! {
                ":id": observation.id,
                ":label": observation.label,
                ":standing": observation.standing,
                ":fingerprint": observation.fingerprint,
                ":observed_at": observation.observed_at,
                ":ended_at": ended_at,
            },
            |row| row.get(0),
        )?;
    remember(transaction, execution, &observation.memory)?;
    outbox::enqueue(transaction, execution, observation)
}

fn remember(transaction: &Connection, execution: i64, memory: &Memory) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO memories (execution, memory) VALUES (?1, ?2)
             ON CONFLICT (execution) DO UPDATE SET memory = excluded.memory",
        )?
        .execute(params![execution, memory])?;
    Ok(())
}

pub(super) fn label(transaction: &Connection, id: &ExecutionId, label: Option<&str>) -> Result<()> {
    transaction
        .prepare_cached("UPDATE executions SET label = ?2 WHERE execution_id = ?1")?
        .execute(params![id, label])?;
    Ok(())
}

pub(super) fn not_found_since(transaction: &Connection, id: &ExecutionId, since: Option<Time>) -> Result<()> {
    if since.is_some() {
        transaction
            .prepare_cached("INSERT INTO executions (execution_id, standing) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![id, Standing::Watching])?;
    }
    transaction
        .prepare_cached("UPDATE executions SET not_found_since = ?2 WHERE execution_id = ?1")?
        .execute(params![id, since])?;
    Ok(())
}

pub(super) fn resume(transaction: &Connection, ids: &[ExecutionId]) -> Result<()> {
    let mut resume = transaction.prepare_cached(
        "UPDATE executions SET standing = 'watching', ended_at = NULL, not_found_since = NULL, fingerprint = NULL
         WHERE execution_id = ?1 AND standing IN ('not-found', 'refused')",
    )?;
    for id in ids {
        resume.execute([id])?;
    }
    Ok(())
}

/// The columns of a [`Known`], in its order.
fn known(row: &Row<'_>) -> Result<Known> {
    Ok(Known {
        id: row.get(0)?,
        standing: row.get(1)?,
        fingerprint: row.get(2)?,
        observed_at: row.get(3)?,
        not_found_since: row.get(4)?,
        discovered: row.get::<_, Option<String>>(5)?.map(String::into_boxed_str),
        label: row.get(6)?,
    })
}

pub(super) fn roster(connection: &Connection) -> Result<Vec<Known>> {
    connection
        .prepare_cached(
            "SELECT execution_id, standing, fingerprint, observed_at, not_found_since, discovered, label FROM executions ORDER BY id",
        )?
        .query_map([], known)?
        .collect()
}

/// Of these, what is known.
pub(super) fn some(connection: &Connection, ids: &[ExecutionId]) -> Result<Vec<Known>> {
    let mut one = connection.prepare_cached(
        "SELECT execution_id, standing, fingerprint, observed_at, not_found_since, discovered, label
         FROM executions WHERE execution_id = ?1",
    )?;
    ids.iter().filter_map(|id| one.query_row([id], known).optional().transpose()).collect()
}

pub(super) fn discovered(transaction: &Connection, definition: &str, ids: &[ExecutionId]) -> Result<()> {
    let mut mark = transaction.prepare_cached(
        "INSERT INTO executions (execution_id, standing, discovered) VALUES (?1, ?2, ?3)
         ON CONFLICT (execution_id) DO UPDATE SET discovered = coalesce(discovered, excluded.discovered)",
    )?;
    for id in ids {
        mark.execute(params![id, Standing::Watching, definition])?;
    }
    Ok(())
}

pub(super) fn recall(connection: &Connection, id: &ExecutionId) -> Result<Option<Memory>> {
    connection
        .prepare_cached(
            "SELECT m.memory FROM executions x JOIN memories m ON m.execution = x.id WHERE x.execution_id = ?1",
        )?
        .query_row([id], |row| row.get(0))
        .optional()
}

/// The columns of a [`Remembered`] and where they come from, in this order everywhere.
const REMEMBERED: &str =
    "x.execution_id, x.standing, x.fingerprint, x.observed_at, x.not_found_since, x.discovered, x.label,
           m.memory,
           (SELECT count(DISTINCT d.event) FROM deliveries d WHERE d.execution = x.id)
    FROM executions x LEFT JOIN memories m ON m.execution = x.id";

fn remembered_row(row: &Row<'_>) -> Result<Remembered> {
    Ok(Remembered {
        known: known(row)?,
        memory: row.get::<_, Option<Memory>>(7)?.unwrap_or_default(),
        undelivered: row.get::<_, i64>(8)?.unsigned_abs(),
    })
}

pub(super) fn everything(connection: &Connection) -> Result<Vec<Remembered>> {
    connection
        .prepare_cached(&format!("SELECT {REMEMBERED} ORDER BY x.execution_id"))?
        .query_map([], remembered_row)?
        .collect()
}

pub(super) fn each(connection: &Connection, visit: &mut dyn FnMut(Remembered) -> ControlFlow<()>) -> Result<()> {
    let mut all = connection.prepare_cached(&format!("SELECT {REMEMBERED} ORDER BY x.execution_id"))?;
    for one in all.query_map([], remembered_row)? {
        if visit(one?).is_break() {
            break;
        }
    }
    Ok(())
}

pub(super) fn remembered(connection: &Connection, id: &ExecutionId) -> Result<Option<Remembered>> {
    connection
        .prepare_cached(&format!("SELECT {REMEMBERED} WHERE x.execution_id = ?1"))?
        .query_row([id], remembered_row)
        .optional()
}

pub(super) fn story(connection: &Connection, id: &ExecutionId) -> Result<Vec<Box<str>>> {
    connection
        .prepare_cached(
            "SELECT e.body FROM executions x JOIN events e ON e.execution = x.id WHERE x.execution_id = ?1
             ORDER BY e.sequence, e.id",
        )?
        .query_map([id], |row| row.get(0))?
        .collect()
}

/// One execution past retention.
struct Old {
    id: i64,
    execution: ExecutionId,
    standing: Standing,
    pruned: bool,
    dead_letters: bool,
}

/// See [`crate::store::Store::prune`]. Gives where to go on, `None` at the end.
pub(super) fn prune(
    transaction: &Connection,
    from: Cursor,
    before: Time,
    listed: &HashSet<ExecutionId>,
) -> Result<Option<Cursor>> {
    let mut next = from;
    let mut looked_at = 0;
    let mut old = vec![];
    {
        let mut candidates = transaction.prepare_cached(
            "SELECT x.id, x.execution_id, x.standing, x.pruned, x.ended_at,
                    EXISTS (SELECT 1 FROM deliveries d WHERE d.execution = x.id),
                    EXISTS (SELECT 1 FROM dead_letters d WHERE d.execution = x.id)
             FROM executions x
             WHERE x.ended_at >= ?1 AND x.ended_at < ?2 AND (x.ended_at > ?1 OR x.id > ?3)
             ORDER BY x.ended_at, x.id LIMIT ?4",
        )?;
        let limit = i64::try_from(PRUNED_AT_ONCE).unwrap_or(i64::MAX);
        let mut rows = candidates.query(params![from.ended_at, before, from.id, limit])?;
        while let Some(row) = rows.next()? {
            looked_at += 1;
            next = Cursor { ended_at: row.get(4)?, id: row.get(0)? };
            let undelivered: bool = row.get(5)?;
            if !undelivered {
                old.push(Old {
                    id: row.get(0)?,
                    execution: row.get(1)?,
                    standing: row.get(2)?,
                    pruned: row.get(3)?,
                    dead_letters: row.get(6)?,
                });
            }
        }
    }
    for old in old {
        if !listed.contains(&old.execution) && !old.dead_letters {
            forget(transaction, old.id)?;
        } else if !old.pruned {
            mark(transaction, &old)?;
        }
    }
    Ok((looked_at == PRUNED_AT_ONCE).then_some(next))
}

fn forget(transaction: &Connection, execution: i64) -> Result<()> {
    for sql in [
        "DELETE FROM events WHERE execution = ?1",
        "DELETE FROM memories WHERE execution = ?1",
        "DELETE FROM executions WHERE id = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([execution])?;
    }
    Ok(())
}

/// Leaves the outcome and the next sequence, and the events that dead letters hold on to.
fn mark(transaction: &Connection, old: &Old) -> Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM events WHERE execution = ?1 AND id NOT IN (SELECT event FROM dead_letters WHERE execution = ?1)",
        )?
        .execute([old.id])?;
    // What was given up may be polled again: its memory numbers what is told then, or an id would come twice with other bytes.
    if matches!(old.standing, Standing::Ended(_)) {
        let memory = transaction
            .prepare_cached("SELECT memory FROM memories WHERE execution = ?1")?
            .query_row([old.id], |row| row.get::<_, Memory>(0))
            .optional()?;
        if let Some(Memory { next_sequence, .. }) = memory {
            remember(transaction, old.id, &Memory { next_sequence, ..Memory::default() })?;
        }
    }
    transaction.prepare_cached("UPDATE executions SET pruned = 1 WHERE id = ?1")?.execute([old.id])?;
    Ok(())
}
