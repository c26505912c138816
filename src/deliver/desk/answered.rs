//! What an attempt's answer leads to: accepted, tried again, plainer, a dead letter, or the end of the sink. Nothing here waits or sends.

use std::{sync::Arc, time::Duration};

use super::{Desk, Door};
use crate::{
    clock::Time,
    deliver::{
        Reason, Sending, Verdict,
        acts::{Fate, Then, Tried},
        failing::{self, Recovered, Tell},
        judge::{Words, judge},
        probing::{Failed, Probing, Turn},
        waits::{retry_wait, wait},
    },
    plain,
    store::{DeadReason, Form, Parcel, Settlement, Write},
};

impl Desk {
    pub(in crate::deliver) fn tried(&mut self, tried: Tried) {
        let Tried { parcel, sending, started, answer: came } = tried;
        self.attempts -= 1;
        let (wall, now) = (self.clock.now(), self.clock.elapsed());
        let judged = judge(&came);
        if judged.verdict != Verdict::Accepted {
            self.board.update(&self.name, |status| status.failures.add(Reason::of(&came)));
        }
        let answer = judged.answer;
        match judged.verdict {
            Verdict::Accepted => {
                let over = self.probing.accepted(started);
                let mut more = self.probe_write(over.is_some());
                if let Some(executions) = over.filter(|executions| !executions.is_empty()) {
                    let at = self.time.now(&self.clock);
                    more.push(Write::Hasten { sink: self.name.clone(), executions, at });
                }
                self.settle(&parcel, &Settlement::Accepted, Fate::Accepted, more);
                let recovered = failing::accepted(&mut self.failing, started, now);
                self.board.update(&self.name, |status| {
                    status.accepted += 1;
                    status.delivered += parcel.count() as u64;
                    parcel.ids().into_iter().for_each(|id| status.unaccepted.accepted(id));
                    if recovered.is_some() {
                        status.failing_since = None;
                        status.failed_attempts = 0;
                        status.last_answer = None;
                    }
                });
                if let Some(Recovered { attempts, lasted }) = recovered {
                    let (plural, lasted) = (if attempts == 1 { "" } else { "s" }, plain::duration(lasted));
                    tracing::info!(sink = %self.name, "sink {} takes events again after {attempts} attempt{plural}, {lasted}", self.name);
                }
            }
            Verdict::Retry { after } => {
                if let Some(after) = after {
                    self.orders.gate.close_until(now.saturating_add(after));
                }
                let wait = retry_wait(&sending.retry, &parcel).max(after.unwrap_or_default());
                self.failed(&parcel, &answer, &format!("will be tried again in {}", plain::duration(wait)));
                let again =
                    Settlement::Again { due_at: self.time.now(&self.clock).after(wait), answer: answer.to_string() };
                let more = self.probe(&parcel, &sending, started, after);
                self.settle(&parcel, &again, Fate::Again(now.saturating_add(wait)), more);
            }
            Verdict::Refused if sending.outlet.can_be_plainer(&parcel, &came) => {
                self.simplify(parcel, sending, &answer);
            }
            Verdict::Refused => {
                self.probing.refused(now);
                self.failed(&parcel, &answer, "is a dead letter now");
                self.bury(&parcel, DeadReason::Refused, answer.to_string());
            }
            Verdict::Gone => {
                self.failed(
                    &parcel,
                    &answer,
                    "stays queued; the sink is stopped until its configuration changes or a reload (SIGHUP)",
                );
                self.stop(&parcel, &sending, &answer, wall);
            }
        }
    }

    /// Counts a failure towards the sink's own trouble; gives what the state has to know of it.
    fn probe(&mut self, parcel: &Parcel, sending: &Sending, started: Duration, after: Option<Duration>) -> Vec<Write> {
        // A pass tries everything once, and is over.
        if self.orders.phase.due_by().is_some() {
            return vec![];
        }
        let failed = Failed { execution: parcel.execution(), attempts: parcel.attempts(), started };
        let wait = |probes| wait(&sending.retry, parcel, probes).max(after.unwrap_or_default());
        let turn = self.probing.failed(&failed, self.clock.elapsed(), wait);
        if turn == Turn::Began {
            // Loaded for a receiver that was thought to be well.
            self.lanes.put_back();
            let sink = &self.name;
            tracing::info!(%sink, "sink {sink} is tried with one event at a time until it takes one");
        }
        self.probe_write(turn != Turn::Nothing)
    }

    /// When the next probe is, for people who look into the state; what an earlier process said of it is replaced once.
    fn probe_write(&mut self, news: bool) -> Vec<Write> {
        if !news && std::mem::replace(&mut self.told.probe, true) {
            return vec![];
        }
        self.told.probe = true;
        let now = self.clock.elapsed();
        let at = self.probing.at().map(|at| self.time.now(&self.clock).after(at.saturating_sub(now)));
        vec![Write::ProbeAt { sink: self.name.clone(), at }]
    }

    /// Somebody has done something about the sink: it is tried as if nothing had been.
    pub(super) fn forget_probing(&mut self) {
        self.probing = Probing::default();
        self.told.probe = false;
    }

    /// The receiver doesn't like the form: the same events go again, plainer, by the same gate.
    fn simplify(&mut self, mut parcel: Parcel, sending: Arc<Sending>, answer: &Words) {
        let (sink, execution, event) = (&self.name, parcel.execution(), &parcel.first().event_id);
        let told = std::mem::replace(&mut self.told.plainer, true);
        if told {
            tracing::debug!(%sink, %execution, %event, %answer, "refused for its form; it goes again as plain text");
        } else {
            tracing::warn!(%sink, %execution, %event, "sink {sink} refused a message for its form: {answer}; it goes again as plain text");
        }
        self.board.update(sink, |status| parcel.ids().into_iter().for_each(|id| status.unaccepted.add(id)));
        let again = Settlement::Again { due_at: self.time.now(&self.clock), answer: answer.to_string() };
        let mut writes = settled(&parcel, &again);
        parcel.tried();
        writes.push(parcel.seal(Form::Plain));
        self.persist(writes, Then::Sealed { parcels: vec![parcel], sending });
    }

    fn stop(&mut self, parcel: &Parcel, sending: &Sending, answer: &Words, wall: Time) {
        self.door = Door::Closing;
        let again = Settlement::Again { due_at: self.time.now(&self.clock), answer: answer.to_string() };
        let stop = Write::StopSink {
            sink: self.name.clone(),
            reason: answer.to_string(),
            at: wall,
            configuration: sending.identity.salted(self.salt),
        };
        let mut writes = settled(parcel, &again);
        writes.push(stop);
        self.persist(writes, Then::Stopped { execution: parcel.execution().clone() });
    }

    /// Counts an attempt that was not accepted, and tells people if it is news.
    fn failed(&mut self, parcel: &Parcel, answer: &Words, what_now: &str) {
        let first = self.failing.is_none();
        let tell = failing::failed(&mut self.failing, &answer.what, self.clock.elapsed());
        let since = self.clock.now();
        self.board.update(&self.name, |status| {
            status.not_accepted += 1;
            status.failed_attempts += 1;
            parcel.ids().into_iter().for_each(|id| status.unaccepted.add(id));
            status.last_answer = Some(answer.to_string());
            if first {
                status.failing_since = Some(since);
            }
        });
        let (sink, execution, event) = (&self.name, parcel.execution(), &parcel.first().event_id);
        match tell {
            Tell::Failing => tracing::warn!(
                %sink, %execution, %event,
                "sink {sink} does not take events: {answer}; the event {what_now}"
            ),
            Tell::Nothing => tracing::debug!(%sink, %execution, %event, %answer, "not accepted; the event {what_now}"),
        }
    }

    fn bury(&mut self, parcel: &Parcel, reason: DeadReason, answer: String) {
        let at = self.clock.now();
        self.board.update(&self.name, |status| {
            status.dead += parcel.count() as u64;
            parcel.ids().into_iter().for_each(|id| status.unaccepted.dead(id));
        });
        let more = self.probe_write(false);
        self.settle(parcel, &Settlement::Dead { reason, answer, at }, Fate::Dead, more);
    }

    pub(super) fn expire(&mut self, parcel: &Parcel) {
        let sink = &self.name;
        let age = plain::duration(self.sending.retry.max_age);
        tracing::warn!(
            %sink, execution = %parcel.execution(), event = %parcel.first().event_id,
            "sink {sink} has not taken an event within {age}; it is a dead letter now"
        );
        // Without an answer of its own, the receiver's last one stands.
        self.bury(parcel, DeadReason::Expired, String::new());
    }

    fn settle(&mut self, parcel: &Parcel, settlement: &Settlement, fate: Fate, more: Vec<Write>) {
        let then = Then::Free { execution: parcel.execution().clone(), ids: parcel.ids(), fate };
        let mut writes = settled(parcel, settlement);
        writes.extend(more);
        self.persist(writes, then);
    }
}

/// The same for each delivery of a parcel, in one transaction.
fn settled(parcel: &Parcel, settlement: &Settlement) -> Vec<Write> {
    parcel.ids().into_iter().map(|delivery| Write::Settled { delivery, settlement: settlement.clone() }).collect()
}
