//! The task of a sink that prints: everything in the order of its commit, many lines at a time, settled after they are out.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};

use super::{
    Notice, Printed, Printing, Reason, Way, acts::store_pause, body, failing, failing::Failing, order::Orders,
    order::Phase, status::SinkState, text, worker::World,
};
use crate::{
    config::StdoutFormat,
    route::SinkName,
    store::{Commits, Delivery, Settlement, StoreError, Write},
};

/// How many events share a write, a flush and a settlement.
const BATCH: usize = 256;

/// How long a last settlement may take after the end of the grace.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Why waiting for something was cut short.
struct Stop;

struct Printer {
    name: SinkName,
    orders: watch::Receiver<Orders>,
    world: World,
    failing: Option<Failing>,
}

/// Prints what is committed for one sink until ordered to end.
pub(super) async fn print(name: SinkName, orders: watch::Receiver<Orders>, world: World) {
    let mut printer = Printer { name, orders, world, failing: None };
    let Err(Stop) = printer.run().await;
    printer.world.board.update(&printer.name, |status| {
        status.state = SinkState::Ended;
        status.in_flight = 0;
    });
}

impl Printer {
    async fn run(&mut self) -> Result<Infallible, Stop> {
        // Before the first look: what is committed from here on wakes.
        let mut committed = self.world.store.committed();
        let mut errors = 0_u32;
        loop {
            if self.phase() == Phase::Leaving {
                self.leave().await?;
            }
            committed.look();
            let batch = self.oldest().await?;
            let Some(printing) = self.printing() else { return Err(Stop) };
            if self.phase() == Phase::Leaving {
                // Ordered while the state was asked, which may have taken long: nothing new begins.
                continue;
            }
            if batch.is_empty() {
                self.idle(&mut committed).await?;
                continue;
            }
            self.board(|status| {
                status.state = SinkState::Working;
                status.pending = status.pending.max(batch.len() as u64);
                status.in_flight = batch.len();
            });
            let lines = batch.iter().map(|delivery| line(delivery, &printing)).collect();
            // Cut short, how far a slow reader has let it come is not known: it is printed again by the next run.
            let printed = self.until_stopped(printing.press.print(lines)).await?;
            self.settle(&batch[..printed.whole.min(batch.len())]).await?;
            self.judge(printed, batch.len(), &mut errors).await?;
        }
    }

    /// What the end of a batch means: on with the next, or a pause, or the end.
    async fn judge(&mut self, printed: Printed, asked: usize, errors: &mut u32) -> Result<(), Stop> {
        let now = self.world.clock.elapsed();
        let error = match printed.error {
            None if printed.whole >= asked => {
                *errors = 0;
                if failing::accepted(&mut self.failing, now, now).is_some() {
                    tracing::info!(sink = %self.name, "sink {} takes events again", self.name);
                    self.board(|status| {
                        status.failing_since = None;
                        status.failed_attempts = 0;
                        status.last_answer = None;
                    });
                }
                return Ok(());
            }
            error => error.unwrap_or(std::io::ErrorKind::WriteZero),
        };
        if error == std::io::ErrorKind::BrokenPipe {
            self.board(|status| {
                status.closed = true;
                status.state = SinkState::Ended;
            });
            self.tell(Notice::StdoutClosed);
            return Err(Stop);
        }
        let (since, answer) = (self.world.clock.now(), error.to_string());
        if failing::failed(&mut self.failing, &answer, now) == failing::Tell::Failing {
            tracing::warn!(sink = %self.name, "sink {} can't be written: {answer}; will be tried again", self.name);
        }
        self.board(|status| {
            status.failing_since.get_or_insert(since);
            status.last_answer = Some(answer);
            status.not_accepted += 1;
            status.failures.add(Reason::Other);
            status.failed_attempts += 1;
            status.in_flight = 0;
        });
        if self.phase().due_by().is_some() {
            // One pass tries once.
            return Err(Stop);
        }
        let pause = store_pause(*errors);
        *errors = errors.saturating_add(1);
        self.sleep(pause).await
    }

    /// The next batch; a store in passing trouble is asked again.
    async fn oldest(&mut self) -> Result<Vec<Delivery>, Stop> {
        let mut tries = 0;
        loop {
            let sink = self.name.clone();
            let store = self.world.store.clone();
            let asked = store.read(move |store| store.oldest(&sink, BATCH));
            match self.until_stopped(asked).await? {
                Ok(batch) => return Ok(batch),
                Err(error) => self.store_failed(&error, tries)?,
            }
            self.sleep(store_pause(tries)).await?;
            tries += 1;
        }
    }

    /// Makes durable that these are out. What is out is never printed again because this failed in passing.
    async fn settle(&mut self, done: &[Delivery]) -> Result<(), Stop> {
        if done.is_empty() {
            return Ok(());
        }
        let settled = |delivery: &Delivery| Write::Settled { delivery: delivery.id, settlement: Settlement::Accepted };
        let writes: Vec<_> = done.iter().map(settled).collect();
        let mut tries = 0;
        loop {
            let write = self.world.store.clone();
            let write = write.write(writes.clone());
            tokio::pin!(write);
            let result = match self.until_stopped(&mut write).await {
                Ok(result) => result,
                Err(stop) => {
                    // OK to leave: the write was taken, and what it could not settle is printed again by the next run.
                    let _ = timeout(LAST_WRITES, write).await;
                    return Err(stop);
                }
            };
            match result {
                Ok(()) => break,
                Err(error) => self.store_failed(&error, tries)?,
            }
            self.sleep(store_pause(tries)).await?;
            tries += 1;
        }
        let count = done.len() as u64;
        self.board(|status| {
            status.accepted += count;
            status.delivered += count;
            status.pending = status.pending.saturating_sub(count);
            status.in_flight = 0;
        });
        Ok(())
    }

    fn store_failed(&self, error: &StoreError, tries: u32) -> Result<(), Stop> {
        if !error.is_passing() {
            self.tell(Notice::Store(error.clone()));
            return Err(Stop);
        }
        if tries == 0 {
            tracing::warn!(sink = %self.name, "sink {} waits for the state: {error}", self.name);
        }
        Ok(())
    }

    /// Nothing to print: until something is committed, or orders end it.
    async fn idle(&mut self, committed: &mut Commits) -> Result<(), Stop> {
        self.board(|status| {
            status.state = SinkState::Idle;
            status.pending = 0;
            status.in_flight = 0;
        });
        match self.phase() {
            Phase::Running => {}
            Phase::Finishing { .. } => return Err(Stop),
            Phase::Leaving => return Ok(()),
        }
        tokio::select! {
            biased;
            changed = self.orders.changed() => changed.map_err(|_| Stop),
            () = committed.next() => Ok(()),
        }
    }

    async fn leave(&mut self) -> Result<(), Stop> {
        let mut tries = 0;
        loop {
            let writes = vec![Write::RemoveSink { sink: self.name.clone(), at: self.world.clock.now() }];
            match self.world.store.write(writes).await {
                Ok(()) => return Err(Stop),
                Err(error) => self.store_failed(&error, tries)?,
            }
            self.sleep(store_pause(tries)).await?;
            tries += 1;
        }
    }

    /// `future`, unless the deadline of an ordered end comes first.
    async fn until_stopped<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(future);
        loop {
            let deadline = self.phase().deadline();
            tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    changed.map_err(|_| Stop)?;
                    self.orders.borrow_and_update();
                }
                done = &mut future => return Ok(done),
                () = sleep_until(self.world.clock.instant(deadline.unwrap_or_default())), if deadline.is_some() => return Err(Stop),
            }
        }
    }

    async fn sleep(&mut self, pause: Duration) -> Result<(), Stop> {
        self.until_stopped(tokio::time::sleep(pause)).await
    }

    fn phase(&self) -> Phase {
        self.orders.borrow().phase
    }

    fn printing(&self) -> Option<Arc<Printing>> {
        match &self.orders.borrow().way {
            Way::Print(printing) => Some(Arc::clone(printing)),
            // OK because a sink that changes its way gets another task.
            Way::Send(_) => None,
        }
    }

    fn board(&self, change: impl FnOnce(&mut super::status::Status)) {
        self.world.board.update(&self.name, change);
    }

    fn tell(&self, notice: Notice) {
        // Full only if nobody has listened to many before: those tell enough.
        let _ = self.world.notices.try_send(notice);
    }
}

pub(super) fn line(delivery: &Delivery, printing: &Printing) -> String {
    match printing.format {
        StdoutFormat::Json => format!("{}\n", body::json(delivery, printing.include_output)),
        StdoutFormat::Text | StdoutFormat::Live => format!("{}\n", text::line(&delivery.json)),
    }
}
