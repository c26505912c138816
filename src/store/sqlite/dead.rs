//! Dead letters: what is not tried any more by itself, until a person decides.
//!
//! Their events outlive retention (see `prune` in `executions.rs`); whatever lets go of one makes its execution be pruned again.

use rusqlite::{Connection, OptionalExtension, Result, Row, named_params};

use super::outbox::{self, Lane};
use crate::{
    clock::Time,
    store::{DeadFilter, DeadLetter, LetterId},
};

/// The columns of a [`DeadLetter`] and where they come from, in this order everywhere.
const LETTERS: &str = "d.id, s.name, x.execution_id, x.label, e.event_id, e.type, e.sequence, d.reason, d.attempts,
                       d.last_answer, d.enqueued_at, d.died_at, e.body
    FROM dead_letters d
    CROSS JOIN sinks s ON s.id = d.sink
    CROSS JOIN executions x ON x.id = d.execution
    CROSS JOIN events e ON e.id = d.event";

fn letter(row: &Row<'_>) -> Result<DeadLetter> {
    Ok(DeadLetter {
        id: LetterId(row.get(0)?),
        sink: row.get(1)?,
        execution: row.get(2)?,
        label: row.get(3)?,
        event_id: row.get(4)?,
        kind: row.get(5)?,
        sequence: row.get::<_, i64>(6)?.unsigned_abs(),
        reason: row.get(7)?,
        attempts: row.get(8)?,
        last_answer: row.get(9)?,
        enqueued_at: row.get(10)?,
        died_at: row.get(11)?,
    })
}

pub(super) fn list(connection: &Connection, filter: &DeadFilter) -> Result<Vec<DeadLetter>> {
    let mut letters = connection
        .prepare_cached(&format!(
            "SELECT {LETTERS}
             WHERE (:sink IS NULL OR s.name = :sink) AND (:execution IS NULL OR x.execution_id = :execution)
               AND (:before IS NULL OR d.died_at < :before)
             ORDER BY d.id DESC LIMIT :latest"
        ))?
        .query_map(
            named_params! {
                ":sink": filter.sink,
                ":execution": filter.execution,
                ":before": filter.died_before,
                // Less than nothing is no limit.
                ":latest": filter.latest.map_or(-1, |latest| i64::try_from(latest).unwrap_or(-1)),
            },
            letter,
        )?
        .collect::<Result<Vec<_>>>()?;
    letters.reverse();
    Ok(letters)
}

pub(super) fn one(connection: &Connection, id: LetterId) -> Result<Option<(DeadLetter, Box<str>)>> {
    connection
        .prepare_cached(&format!("SELECT {LETTERS} WHERE d.id = ?1"))?
        .query_row([id.0], |row| Ok((letter(row)?, row.get(12)?)))
        .optional()
}

/// Queues each anew, in the order given: the event is the same, its age and attempts start again.
pub(super) fn replay(transaction: &Connection, letters: &[LetterId], at: Time) -> Result<()> {
    for letter in letters {
        if let Some((lane, event)) = take(transaction, *letter)? {
            outbox::queue(transaction, &lane, event, at)?;
        }
    }
    Ok(())
}

pub(super) fn forget(transaction: &Connection, letters: &[LetterId]) -> Result<()> {
    letters.iter().try_for_each(|letter| take(transaction, *letter).map(|_| ()))
}

/// Removes a dead letter; gives whose it was and its event.
fn take(transaction: &Connection, LetterId(id): LetterId) -> Result<Option<(Lane, i64)>> {
    let taken = transaction
        .prepare_cached("DELETE FROM dead_letters WHERE id = ?1 RETURNING sink, execution, event")?
        .query_row([id], |row| Ok((Lane { sink: row.get(0)?, execution: row.get(1)? }, row.get(2)?)))
        .optional()?;
    if let Some((lane, _)) = &taken {
        // What this letter held past retention would else stay for as long as the execution is listed.
        transaction
            .prepare_cached("UPDATE executions SET pruned = 0 WHERE id = ?1 AND pruned = 1")?
            .execute([lane.execution])?;
    }
    Ok(taken)
}
