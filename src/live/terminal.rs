//! The terminal that the picture is on: one thread writes to it, and whatever happens it is left as it was found.
//!
//! The picture is the last thing on the screen and the cursor rests, hidden, at its first column. So a terminal that breaks its lines anew
//! when its size changes takes the cursor along, and clearing from there on clears the picture and nothing else. What is told is written
//! there, above the new picture, and scrolls by as if there were none.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use super::{
    glyphs::Glyphs,
    keeper::{Keeper, LEAVE_WITHIN},
    line::Line,
    render::Canvas,
    scene::{Phase, Scene},
};
use crate::{
    clock::{Clock, Time},
    deliver::{Press, Printed},
};

/// So many log lines may wait for a terminal that is held (Ctrl-S). Others are left out then, and counted.
const LOGS: usize = 256;
/// Room for all else that may wait: a batch of events, a look, an end.
const OTHERS: usize = 16;
/// Times move on.
const EVERY: Duration = Duration::from_secs(1);
/// The events stay in sight above the picture.
const EVENTS_IN_SIGHT: usize = 3;

/// From the first column to the end of the screen. Not in one: where that is the whole screen, some terminals keep what is cleared and let
/// it scroll by.
const CLEAR: &str = "\x1b[K\x1b[C\x1b[J\r";

pub(super) enum Job {
    Print {
        lines: Vec<String>,
        answer: oneshot::Sender<Printed>,
    },
    Log(Vec<u8>),
    /// The scene or the terminal's size may be another.
    Look,
    /// Takes the picture away until the process goes on.
    Suspend(SyncSender<()>),
    /// The terminal may be ours again, and anything may be on it.
    Resume,
    /// Draws for the last time.
    End(SyncSender<()>),
}

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub colour: bool,
    pub glyphs: Glyphs,
}

/// What draws.
pub(super) type Render = fn(&Scene, Time, Canvas) -> Vec<Line>;

/// A way to the terminal. When the last one is gone, the terminal is left.
#[derive(Debug, Clone)]
pub struct Terminal {
    desk: Desk,
    tenure: Arc<Tenure>,
}

/// Ends with the last way to the terminal.
#[derive(Debug)]
struct Tenure(Arc<Keeper>);

impl Drop for Tenure {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Where work for the thread is left. However long the terminal takes nothing, what waits there is bounded.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    jobs: SyncSender<Job>,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    scene: Mutex<Option<Scene>>,
    /// A look is among the jobs already.
    look: AtomicBool,
    logs: AtomicUsize,
    missed: AtomicUsize,
}

impl Desk {
    pub(super) fn look(&self) {
        if !self.waiting.look.swap(true, Ordering::SeqCst) && self.jobs.try_send(Job::Look).is_err() {
            self.waiting.look.store(false, Ordering::SeqCst);
        }
    }

    pub(super) fn resume(&self) {
        // Full of what will be drawn anyway.
        let _ = self.jobs.try_send(Job::Resume);
    }

    /// Has something done and waits for it, but not for long.
    pub(super) fn insist(&self, job: impl FnOnce(SyncSender<()>) -> Job) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.jobs.try_send(job(done)).is_ok() {
            let _ = is_done.recv_timeout(LEAVE_WITHIN);
        }
    }

    /// False where nobody takes it any more.
    fn log(&self, line: &[u8]) -> bool {
        let waiting = &self.waiting;
        if waiting.logs.fetch_add(1, Ordering::SeqCst) < LOGS {
            match self.jobs.try_send(Job::Log(line.to_vec())) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(_)) => {}
            }
        }
        waiting.logs.fetch_sub(1, Ordering::SeqCst);
        waiting.missed.fetch_add(1, Ordering::SeqCst);
        true
    }
}

impl Terminal {
    pub(super) fn start(keeper: Arc<Keeper>, style: Style, clock: Clock, render: Render) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(LOGS + OTHERS);
        let waiting = Arc::<Waiting>::default();
        let mut screen = Screen {
            keeper: Arc::clone(&keeper),
            style,
            clock,
            render,
            scene: Scene::default(),
            picture: vec![],
            size: keeper.size(),
            hidden: false,
            waiting: Arc::clone(&waiting),
        };
        thread::Builder::new().name("terminal".into()).spawn(move || screen.run(&queue))?;
        Ok(Self { desk: Desk { jobs, waiting }, tenure: Arc::new(Tenure(keeper)) })
    }

    pub(super) fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// The picture from now on. One that can't be drawn before the next has come is left out.
    pub fn show(&self, scene: Scene) {
        *self.desk.waiting.scene.lock().unwrap_or_else(PoisonError::into_inner) = Some(scene);
        self.desk.look();
    }

    /// Whether it has been closed, as far as somebody has tried to write to it since.
    pub fn is_gone(&self) -> bool {
        self.tenure.0.is_gone()
    }

    /// Writes a log line above the picture; false where the terminal has been left, and it has to go where it went before.
    pub(super) fn logger(&self) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
        // None that keeps the terminal from being left: logs go on to the very end.
        let (desk, keeper) = (self.desk.clone(), Arc::clone(&self.tenure.0));
        move |line| !keeper.is_over() && desk.log(line)
    }

    /// Draws for the last time and leaves the terminal: the picture stays where it is, and what comes next stands below it.
    pub fn end(&self) {
        if !self.tenure.0.is_over() {
            self.desk.insist(Job::End);
            self.tenure.0.leave();
        }
    }
}

impl Press for Terminal {
    fn print(&self, lines: Vec<String>) -> BoxFuture<'_, Printed> {
        let (answer, answered) = oneshot::channel();
        let sent = self.desk.jobs.try_send(Job::Print { lines, answer });
        async move {
            match sent {
                Ok(()) => answered.await.unwrap_or(Printed { whole: 0, error: Some(io::ErrorKind::Other) }),
                Err(TrySendError::Full(_)) => Printed { whole: 0, error: Some(io::ErrorKind::WouldBlock) },
                Err(TrySendError::Disconnected(_)) => Printed { whole: 0, error: Some(io::ErrorKind::Other) },
            }
        }
        .boxed()
    }
}

/// What runs on the thread.
struct Screen {
    keeper: Arc<Keeper>,
    style: Style,
    clock: Clock,
    render: Render,
    scene: Scene,
    /// As it is on the screen.
    picture: Vec<String>,
    /// Of the terminal when that was drawn.
    size: (usize, usize),
    hidden: bool,
    waiting: Arc<Waiting>,
}

impl Screen {
    fn run(&mut self, queue: &mpsc::Receiver<Job>) {
        let mut tick = Instant::now() + EVERY;
        loop {
            match queue.recv_timeout(tick.saturating_duration_since(Instant::now())) {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {
                    tick = Instant::now() + EVERY;
                    // A terminal that can't be written now may be later; who prints is told.
                    let _ = self.refresh();
                }
                Err(RecvTimeoutError::Disconnected) => return self.keeper.leave(),
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Print { lines, answer } => {
                let printed = match self.put(&lines.concat()) {
                    Ok(()) => Printed { whole: lines.len(), error: None },
                    // How far they came is not known: repeating is allowed, losing is not.
                    Err(error) => Printed { whole: 0, error: Some(error.kind()) },
                };
                // Nobody waits any more: it is printed all the same, and will be again.
                let _ = answer.send(printed);
            }
            Job::Log(line) => {
                self.waiting.logs.fetch_sub(1, Ordering::SeqCst);
                let _ = self.put(&String::from_utf8_lossy(&line));
            }
            Job::Look => {
                // Before the scene: one that comes now has a look of its own.
                self.waiting.look.store(false, Ordering::SeqCst);
                let scene = self.waiting.scene.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.scene = scene.unwrap_or_else(|| std::mem::take(&mut self.scene));
                let _ = self.refresh();
            }
            Job::Resume => {
                self.hidden = false;
                self.keeper.enter();
                self.picture.clear();
                let _ = self.refresh();
            }
            Job::Suspend(done) => {
                self.hidden = true;
                let _ = self.refresh();
                self.keeper.pause();
                let _ = done.send(());
            }
            Job::End(done) => {
                let scene = self.waiting.scene.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.scene = scene.unwrap_or_else(|| std::mem::take(&mut self.scene));
                self.scene.phase = Phase::Over;
                let _ = self.refresh();
                self.keeper.leave();
                self.hidden = true;
                let _ = done.send(());
            }
        }
    }

    /// Draws where something looks different now.
    fn refresh(&mut self) -> io::Result<()> {
        let size = self.keeper.size();
        let picture = self.draw(size);
        // Another size may have moved what is on the screen.
        let is_same = picture == self.picture && size == self.size;
        if is_same && self.waiting.missed.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        (self.picture, self.size) = (picture, size);
        self.put("")
    }

    /// Writes `above` where it scrolls by, and the picture as it was below it.
    fn put(&mut self, above: &str) -> io::Result<()> {
        let missed = match self.waiting.missed.swap(0, Ordering::SeqCst) {
            0 => String::new(),
            count => format!("({count} lines of the log were left out: the terminal took nothing)\n"),
        };
        let above = format!("{above}{missed}");
        let clear = if above.is_empty() && !self.picture.is_empty() { "" } else { CLEAR };
        // Line by line over what was there: where a terminal shows what is half done, nothing flickers.
        let picture = self.picture.join("\x1b[K\r\n");
        let back = match self.picture.len() {
            0 => "\x1b[?25h".to_owned(),
            1 => "\x1b[J".to_owned(),
            lines => format!("\x1b[J\x1b[{}A", lines - 1),
        };
        // All at once where the terminal knows how (2026); to the others it means nothing. What a terminal takes for wider than we do is
        // cut by it and moves nothing (7).
        let frame = format!("\x1b[?2026h\x1b[?25l\r{clear}{above}\x1b[?7l{picture}{back}\r\x1b[?7h\x1b[?2026l");
        self.keeper.write(frame.as_bytes(), self.picture.len(), above.as_bytes())
    }

    fn draw(&self, (width, height): (usize, usize)) -> Vec<String> {
        // In the background the terminal is another's: what is told is told, and nothing drawn.
        if self.hidden || self.keeper.is_over() || !self.keeper.is_in_foreground() {
            return vec![];
        }
        // A character in the last column makes some terminals go on in the next line.
        let canvas = Canvas {
            width: width.saturating_sub(1),
            height: height.saturating_sub(EVENTS_IN_SIGHT.min(height / 2).max(1)),
            glyphs: self.style.glyphs,
        };
        // OK because what panics only reads. What is told goes on without a picture.
        let lines = catch_unwind(AssertUnwindSafe(|| (self.render)(&self.scene, self.clock.now(), canvas)));
        let lines = lines.unwrap_or_else(|_| {
            self.keeper.leave();
            vec![]
        });
        lines.iter().map(|line| line.write(self.style.colour)).collect()
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
