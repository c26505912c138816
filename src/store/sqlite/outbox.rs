//! What is still to be told: events, one delivery for each sink that wants them, and what became of it.
//!
//! A lane is the queue of one execution for one sink. Its row exists exactly while something is pending and tells when its oldest
//! delivery may be tried; everything else in a lane waits for that one, which is what keeps an execution's events in order.

use std::{collections::HashSet, num::NonZeroUsize};

use rusqlite::{Connection, OptionalExtension, Result, Row, named_params, params};

use super::columns::Json;
use crate::{
    clock::Time,
    route::SinkName,
    store::{
        DeadReason, Delivery, DeliveryId, Due, Form, Observation, OutboxFilter, Parcel, Queue, Settlement, Stopped,
        Undelivered,
    },
    velt::{model::ExecutionId, push::Push},
};

/// How much of an answer is kept.
const ANSWER: usize = 500;

/// Stores an observation's events and a delivery for each sink of each.
pub(super) fn enqueue(transaction: &Connection, execution: i64, observation: &Observation) -> Result<()> {
    for record in &observation.events {
        let event = &record.event;
        let new: Option<i64> = transaction
            .prepare_cached(
                "INSERT INTO events (execution, event_id, sequence, type, body, output, push) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (execution, event_id) DO NOTHING RETURNING id",
            )?
            .query_row(
                params![
                    execution,
                    event.id,
                    i64::try_from(event.data.sequence).unwrap_or(i64::MAX),
                    event.kind.to_string(),
                    event.to_json(),
                    record.output.as_deref().map(serde_json::value::RawValue::get),
                    record.push.as_ref().map(Push::to_json),
                ],
                |row| row.get(0),
            )
            .optional()?;
        // The same id has the same bytes: what was written first stands, and is told again at most.
        let id = match new {
            Some(id) => id,
            None => transaction
                .prepare_cached("SELECT id FROM events WHERE execution = ?1 AND event_id = ?2")?
                .query_row(params![execution, event.id], |row| row.get(0))?,
        };
        for sink in &record.sinks {
            let sink = sink_id(transaction, sink)?;
            let pending = new.is_none()
                && transaction
                    .prepare_cached("SELECT 1 FROM deliveries WHERE execution = ?1 AND sink = ?2 AND event = ?3")?
                    .exists([execution, sink, id])?;
            if pending {
                continue;
            }
            queue(transaction, &Lane { sink, execution }, id, observation.observed_at)?;
        }
    }
    Ok(())
}

/// A new delivery at the end of the queue; a lane that is there keeps its time.
pub(super) fn queue(transaction: &Connection, lane: &Lane, event: i64, at: Time) -> Result<()> {
    transaction
        .prepare_cached("INSERT INTO deliveries (sink, execution, event, enqueued_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![lane.sink, lane.execution, event, at])?;
    transaction
        .prepare_cached("INSERT INTO lanes (sink, execution, due_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![lane.sink, lane.execution, at])?;
    Ok(())
}

/// The sink's number, made where it has none.
fn sink_id(transaction: &Connection, sink: &SinkName) -> Result<i64> {
    let found = transaction.prepare_cached("SELECT id FROM sinks WHERE name = ?1")?.query_row([sink], |row| row.get(0));
    match found.optional()? {
        Some(id) => Ok(id),
        None => transaction
            .prepare_cached("INSERT INTO sinks (name) VALUES (?1) RETURNING id")?
            .query_row([sink], |row| row.get(0)),
    }
}

/// What became of a delivery. One that is gone was settled before, or removed: there is nothing to do.
pub(super) fn settle(transaction: &Connection, delivery: DeliveryId, settlement: &Settlement) -> Result<()> {
    let DeliveryId(id) = delivery;
    let lane: Option<Lane> = transaction
        .prepare_cached("SELECT sink, execution FROM deliveries WHERE id = ?1")?
        .query_row([id], |row| Ok(Lane { sink: row.get(0)?, execution: row.get(1)? }))
        .optional()?;
    let Some(lane) = lane else { return Ok(()) };
    let is_head = lane.head(transaction)?.is_some_and(|(head, _)| head == id);
    match settlement {
        Settlement::Again { due_at, answer } => {
            let tries: i64 = transaction
                .prepare_cached("UPDATE sinks SET tries = tries + 1 WHERE id = ?1 RETURNING tries")?
                .query_row([lane.sink], |row| row.get(0))?;
            transaction
                .prepare_cached(
                    "UPDATE deliveries SET attempts = attempts + 1, tried = ?2, last_answer = ?3 WHERE id = ?1",
                )?
                .execute(params![id, tries, plain(answer)])?;
            if is_head {
                lane.due(transaction, *due_at)?;
            }
            return Ok(());
        }
        Settlement::Accepted => {}
        Settlement::Dead { reason, answer, at } => {
            // A refusal is the answer to an attempt; the other ends come without one.
            let attempt = i64::from(*reason == DeadReason::Refused);
            bury(transaction, "d.id = :which", id, attempt, *reason, &plain(answer), *at)?;
        }
    }
    transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id])?;
    if is_head {
        match lane.head(transaction)? {
            // Its own age, not the head's: lanes that wait at once are served in the order of their commits.
            // What was sealed ends with its oldest: a parcel is settled whole, and what comes next is another.
            Some((_, enqueued_at)) => lane.turn(transaction, enqueued_at)?,
            None => lane.close(transaction)?,
        }
    }
    Ok(())
}

/// Makes a lane's deliveries from its oldest to `last` one parcel.
pub(super) fn seal(transaction: &Connection, first: DeliveryId, last: DeliveryId, form: Form) -> Result<()> {
    transaction
        .prepare_cached(
            "UPDATE lanes SET sealed = ?2, plain = ?3
             FROM (SELECT sink, execution FROM deliveries WHERE id = ?1) d
             WHERE lanes.sink = d.sink AND lanes.execution = d.execution
               AND ?1 = (SELECT h.id FROM deliveries h WHERE h.execution = d.execution AND h.sink = d.sink ORDER BY h.id LIMIT 1)",
        )?
        .execute(params![first.0, last.0, form == Form::Plain])?;
    Ok(())
}

/// Says when a sink in trouble is asked again; changes nothing where it was said before.
pub(super) fn probe_at(transaction: &Connection, sink: &SinkName, at: Option<Time>) -> Result<()> {
    transaction
        .prepare_cached("UPDATE sinks SET probe_at = ?2 WHERE name = ?1 AND probe_at IS NOT ?2")?
        .execute(params![sink, at])?;
    Ok(())
}

/// What would wait for longer than until `at` doesn't.
pub(super) fn hasten(transaction: &Connection, sink: &SinkName, executions: &[ExecutionId], at: Time) -> Result<()> {
    let mut hasten = transaction.prepare_cached(
        "UPDATE lanes SET due_at = ?3
         WHERE sink = (SELECT id FROM sinks WHERE name = ?1) AND due_at > ?3
           AND execution = (SELECT id FROM executions WHERE execution_id = ?2)",
    )?;
    for execution in executions {
        hasten.execute(params![sink, execution, at])?;
    }
    Ok(())
}

/// Copies deliveries into the dead letters; `which` is a condition of this file. Without an answer, the last one stands.
fn bury(
    transaction: &Connection,
    which: &'static str,
    value: i64,
    attempt: i64,
    reason: DeadReason,
    answer: &str,
    at: Time,
) -> Result<()> {
    transaction
        .prepare_cached(&format!(
            "INSERT INTO dead_letters (sink, execution, event, reason, attempts, last_answer, enqueued_at, died_at)
             SELECT d.sink, d.execution, d.event, :reason, d.attempts + :attempt, coalesce(nullif(:answer, ''), d.last_answer),
                    d.enqueued_at, :at
             FROM deliveries d WHERE {which} ORDER BY d.id"
        ))?
        .execute(named_params! {
            ":which": value, ":reason": reason.as_str(), ":attempt": attempt, ":answer": answer, ":at": at,
        })?;
    Ok(())
}

/// The queue of one execution for one sink.
pub(super) struct Lane {
    pub(super) sink: i64,
    pub(super) execution: i64,
}

impl Lane {
    /// The oldest delivery, and when it was committed.
    fn head(&self, connection: &Connection) -> Result<Option<(i64, Time)>> {
        connection
            .prepare_cached(
                "SELECT id, enqueued_at FROM deliveries WHERE execution = ?1 AND sink = ?2 ORDER BY id LIMIT 1",
            )?
            .query_row([self.execution, self.sink], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn due(&self, transaction: &Connection, at: Time) -> Result<()> {
        transaction
            .prepare_cached("UPDATE lanes SET due_at = ?3 WHERE sink = ?1 AND execution = ?2")?
            .execute(params![self.sink, self.execution, at])?;
        Ok(())
    }

    /// Another delivery is the oldest.
    fn turn(&self, transaction: &Connection, at: Time) -> Result<()> {
        transaction
            .prepare_cached(
                "UPDATE lanes SET due_at = ?3, sealed = NULL, plain = 0 WHERE sink = ?1 AND execution = ?2",
            )?
            .execute(params![self.sink, self.execution, at])?;
        Ok(())
    }

    fn close(&self, transaction: &Connection) -> Result<()> {
        transaction
            .prepare_cached("DELETE FROM lanes WHERE sink = ?1 AND execution = ?2")?
            .execute([self.sink, self.execution])?;
        Ok(())
    }
}

/// A receiver's answer as it is kept: short, on one line.
fn plain(answer: &str) -> String {
    answer.chars().filter(|c| !c.is_control()).take(ANSWER).collect()
}

pub(super) fn stop(
    transaction: &Connection,
    sink: &SinkName,
    reason: &str,
    at: Time,
    configuration: &str,
) -> Result<()> {
    let sink = sink_id(transaction, sink)?;
    transaction
        .prepare_cached("UPDATE sinks SET stopped_at = ?2, stop_reason = ?3, stop_configuration = ?4 WHERE id = ?1")?
        .execute(params![sink, at, plain(reason), configuration])?;
    Ok(())
}

pub(super) fn start(transaction: &Connection, sink: &SinkName) -> Result<()> {
    transaction
        .prepare_cached(
            "UPDATE sinks SET stopped_at = NULL, stop_reason = NULL, stop_configuration = NULL, probe_at = NULL
             WHERE name = ?1",
        )?
        .execute([sink])?;
    Ok(())
}

/// Leaving the configuration is a change of it, so a stop ends with it.
pub(super) fn remove(transaction: &Connection, sink: &SinkName, at: Time) -> Result<()> {
    start(transaction, sink)?;
    let sink = sink_id(transaction, sink)?;
    bury(transaction, "d.sink = :which", sink, 0, DeadReason::SinkRemoved, "", at)?;
    transaction.prepare_cached("DELETE FROM deliveries WHERE sink = ?1")?.execute([sink])?;
    transaction.prepare_cached("DELETE FROM lanes WHERE sink = ?1")?.execute([sink])?;
    Ok(())
}

/// The columns of a [`Delivery`], in this order everywhere.
fn delivery(row: &Row<'_>) -> Result<Delivery> {
    Ok(Delivery {
        due_at: row.get(0)?,
        execution: row.get(1)?,
        id: DeliveryId(row.get(2)?),
        event_id: row.get(3)?,
        json: row.get(4)?,
        output: row.get::<_, Option<Json>>(5)?.map(|Json(output)| output),
        attempts: row.get(6)?,
        enqueued_at: row.get(7)?,
        push: row.get(8)?,
    })
}

/// The lanes of a sink with the oldest delivery of each, by their due time: no sorting, no look at what is behind the heads.
pub(super) const DUE: &str =
    "SELECT l.due_at, x.execution_id, d.id, e.event_id, e.body, e.output, d.attempts, d.enqueued_at, e.push,
            l.sealed, l.plain, l.sink, l.execution
         FROM lanes l
         CROSS JOIN executions x ON x.id = l.execution
         CROSS JOIN deliveries d ON d.id = (SELECT h.id FROM deliveries h
                                            WHERE h.execution = l.execution AND h.sink = l.sink ORDER BY h.id LIMIT 1)
         CROSS JOIN events e ON e.id = d.event
         WHERE l.sink = (SELECT id FROM sinks WHERE name = ?1)
         ORDER BY l.due_at, l.execution";

/// Walks the lanes by their due time until `limit` are taken; the index gives them in that order, so what is not due is never touched.
pub(super) fn due(
    connection: &Connection,
    sink: &SinkName,
    now: Time,
    busy: &HashSet<ExecutionId>,
    limit: usize,
    most: NonZeroUsize,
) -> Result<Due> {
    let mut due = Due::default();
    let mut lanes = connection.prepare_cached(DUE)?;
    let mut rows = lanes.query([sink])?;
    while let Some(row) = rows.next()? {
        if busy.contains(row.get_ref(1)?.as_str()?) {
            continue;
        }
        let at: Time = row.get(0)?;
        if at > now || due.parcels.len() == limit {
            due.next_at = Some(at);
            break;
        }
        let head = delivery(row)?;
        due.parcels.push(if most.get() == 1 { head.into() } else { parcel(connection, row, head, most)? });
    }
    Ok(due)
}

/// What follows `head` in its lane: what was sealed with it, or else as many as a message may carry.
fn parcel(connection: &Connection, row: &Row<'_>, head: Delivery, most: NonZeroUsize) -> Result<Parcel> {
    let (last, plain, sink, execution): (Option<i64>, bool, i64, i64) =
        (row.get(9)?, row.get(10)?, row.get(11)?, row.get(12)?);
    let limit = if last.is_some() { -1 } else { i64::try_from(most.get() - 1).unwrap_or(i64::MAX) };
    let rest = connection
        .prepare_cached(
            "SELECT ?6, ?7, d.id, e.event_id, e.body, e.output, d.attempts, d.enqueued_at, e.push
             FROM deliveries d CROSS JOIN events e ON e.id = d.event
             WHERE d.execution = ?1 AND d.sink = ?2 AND d.id > ?3 AND d.id <= ?4 ORDER BY d.id LIMIT ?5",
        )?
        .query_map(
            params![execution, sink, head.id.0, last.unwrap_or(i64::MAX), limit, head.due_at, head.execution],
            delivery,
        )?
        .collect::<Result<_>>()?;
    Ok(Parcel::new(head, rest, last.map(|_| if plain { Form::Plain } else { Form::Full })))
}

pub(super) fn oldest(connection: &Connection, sink: &SinkName, limit: usize) -> Result<Vec<Delivery>> {
    connection
        .prepare_cached(
            "SELECT l.due_at, x.execution_id, d.id, e.event_id, e.body, e.output, d.attempts, d.enqueued_at, e.push
             FROM deliveries d
             CROSS JOIN lanes l ON l.sink = d.sink AND l.execution = d.execution
             CROSS JOIN executions x ON x.id = d.execution
             CROSS JOIN events e ON e.id = d.event
             WHERE d.sink = (SELECT id FROM sinks WHERE name = ?1)
             ORDER BY d.id LIMIT ?2",
        )?
        .query_map(params![sink, i64::try_from(limit).unwrap_or(i64::MAX)], delivery)?
        .collect()
}

pub(super) fn undelivered(connection: &Connection, filter: &OutboxFilter, limit: usize) -> Result<Vec<Undelivered>> {
    connection
        .prepare_cached(
            "SELECT s.name, x.execution_id, e.event_id, e.type, e.sequence, d.attempts, d.last_answer, d.enqueued_at, l.due_at
             FROM deliveries d
             CROSS JOIN sinks s ON s.id = d.sink
             CROSS JOIN executions x ON x.id = d.execution
             CROSS JOIN lanes l ON l.sink = d.sink AND l.execution = d.execution
             CROSS JOIN events e ON e.id = d.event
             WHERE (:sink IS NULL OR d.sink = (SELECT id FROM sinks WHERE name = :sink))
               AND (:execution IS NULL OR d.execution = (SELECT id FROM executions WHERE execution_id = :execution))
             ORDER BY d.id LIMIT :limit",
        )?
        .query_map(
            named_params! {
                ":sink": filter.sink, ":execution": filter.execution, ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
            },
            |row| {
                Ok(Undelivered {
                    sink: row.get(0)?,
                    execution: row.get(1)?,
                    event_id: row.get(2)?,
                    kind: row.get(3)?,
                    sequence: row.get::<_, i64>(4)?.unsigned_abs(),
                    attempts: row.get(5)?,
                    last_answer: row.get(6)?,
                    enqueued_at: row.get(7)?,
                    due_at: row.get(8)?,
                })
            },
        )?
        .collect()
}

pub(super) fn pending(connection: &Connection, sink: &SinkName) -> Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM deliveries WHERE sink = (SELECT id FROM sinks WHERE name = ?1)")?
        .query_row([sink], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

/// From the three columns at `first`; a sink is stopped when the first of them is set.
fn stopped_at(row: &Row<'_>, first: usize) -> Result<Option<Stopped>> {
    let Some(at) = row.get(first)? else { return Ok(None) };
    Ok(Some(Stopped { at, reason: row.get(first + 1)?, configuration: row.get(first + 2)? }))
}

pub(super) fn stopped(connection: &Connection, sink: &SinkName) -> Result<Option<Stopped>> {
    connection
        .prepare_cached("SELECT stopped_at, stop_reason, stop_configuration FROM sinks WHERE name = ?1")?
        .query_row([sink], |row| stopped_at(row, 0))
        .optional()
        .map(Option::flatten)
}

pub(super) fn queues(connection: &Connection) -> Result<Vec<Queue>> {
    let mut sinks = connection.prepare_cached(
        "SELECT s.name,
                (SELECT count(*) FROM deliveries d WHERE d.sink = s.id),
                (SELECT d.enqueued_at FROM deliveries d WHERE d.sink = s.id ORDER BY d.id LIMIT 1),
                -- Nothing is tried before a probe; with nothing to try, there is none either.
                max((SELECT min(l.due_at) FROM lanes l WHERE l.sink = s.id), coalesce(s.probe_at, 0)),
                -- With nothing left to try, the latest dead letter's: why they died is what people ask.
                coalesce(
                    (SELECT d.last_answer FROM deliveries d WHERE d.sink = s.id AND d.tried IS NOT NULL ORDER BY d.tried DESC LIMIT 1),
                    (SELECT nullif(d.last_answer, '') FROM dead_letters d WHERE d.sink = s.id ORDER BY d.id DESC LIMIT 1)),
                (SELECT count(*) FROM deliveries d WHERE d.sink = s.id AND d.tried IS NOT NULL),
                (SELECT count(*) FROM dead_letters d WHERE d.sink = s.id),
                s.stopped_at, s.stop_reason, s.stop_configuration
         FROM sinks s ORDER BY s.name",
    )?;
    let queues = sinks.query_map([], |row| {
        Ok(Queue {
            sink: row.get(0)?,
            pending: row.get::<_, i64>(1)?.unsigned_abs(),
            oldest: row.get(2)?,
            next_at: row.get(3)?,
            last_answer: row.get(4)?,
            tried: row.get::<_, i64>(5)?.unsigned_abs(),
            dead: row.get::<_, i64>(6)?.unsigned_abs(),
            stopped: stopped_at(row, 7)?,
        })
    })?;
    queues.filter(|queue| queue.as_ref().map_or(true, |q| q.pending > 0 || q.dead > 0 || q.stopped.is_some())).collect()
}
