//! The terminal that the picture is on: one thread writes to it, and whatever happens it is left as it was found.
//!
//! The picture is the last thing on the screen and the cursor rests, hidden, at its first column. So a terminal that breaks its lines anew
//! when its size changes takes the cursor along, and clearing from there on clears the picture and nothing else. What is told is written
//! there, above the new picture, and scrolls by as if there were none.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use super::{
    glyphs::Glyphs,
    keeper::Keeper,
    render::{Canvas, render},
    scene::Scene,
};
use crate::{
    clock::Clock,
    deliver::{Press, Printed},
};

/// So much may wait to be written. A terminal that is held (Ctrl-S) takes nothing: more logs are left out then, and counted.
const QUEUE: usize = 256;
/// Times move on.
const EVERY: Duration = Duration::from_secs(1);
/// Nobody waits longer for the terminal to be left well.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// A terminal that others have made non-blocking is asked again after this.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(20);
/// The events stay in sight above the picture.
const EVENTS_IN_SIGHT: usize = 3;

pub(super) enum Job {
    Print {
        lines: Vec<String>,
        answer: oneshot::Sender<Printed>,
    },
    Log(Vec<u8>),
    Show(Box<Scene>),
    /// Its size may be another, or it is ours again.
    Look,
    /// Takes the picture away until it is looked at again.
    Suspend(SyncSender<()>),
    /// Draws for the last time.
    End(SyncSender<()>),
}

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub colour: bool,
    pub glyphs: Glyphs,
}

/// A way to the terminal. When the last one is gone, the terminal is left.
#[derive(Debug, Clone)]
pub struct Terminal {
    jobs: SyncSender<Job>,
    missed: Arc<AtomicUsize>,
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

impl Terminal {
    pub(super) fn start(keeper: Arc<Keeper>, style: Style, clock: Clock) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let missed = Arc::<AtomicUsize>::default();
        let mut screen = Screen {
            out: keeper.stream()?,
            keeper: Arc::clone(&keeper),
            style,
            clock,
            scene: Scene::default(),
            picture: vec![],
            hidden: false,
            missed: Arc::clone(&missed),
        };
        thread::Builder::new().name("terminal".into()).spawn(move || screen.run(&queue))?;
        Ok(Self { jobs, missed, tenure: Arc::new(Tenure(keeper)) })
    }

    pub(super) fn jobs(&self) -> SyncSender<Job> {
        self.jobs.clone()
    }

    /// The picture from now on. One that can't be drawn at once is as good as the next.
    pub fn show(&self, scene: Scene) {
        let _ = self.jobs.try_send(Job::Show(Box::new(scene)));
    }

    /// Writes a log line above the picture; false where the terminal has been left, and it has to go where it went before.
    pub(super) fn logger(&self) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
        // None that keeps the terminal from being left: logs go on to the very end.
        let (jobs, keeper, missed) = (self.jobs.clone(), Arc::clone(&self.tenure.0), Arc::clone(&self.missed));
        move |line| {
            if keeper.is_over() {
                return false;
            }
            match jobs.try_send(Job::Log(line.to_vec())) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        }
    }

    /// Draws for the last time and leaves the terminal: the picture stays where it is, and what comes next stands below it.
    pub fn end(&self) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.jobs.try_send(Job::End(done)).is_ok() {
            let _ = is_done.recv_timeout(LEAVE_WITHIN);
        }
        self.tenure.0.leave();
    }
}

impl Press for Terminal {
    fn print(&self, lines: Vec<String>) -> BoxFuture<'_, Printed> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.try_send(Job::Print { lines, answer });
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
    out: File,
    keeper: Arc<Keeper>,
    style: Style,
    clock: Clock,
    scene: Scene,
    /// As it is on the screen.
    picture: Vec<String>,
    hidden: bool,
    missed: Arc<AtomicUsize>,
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
                    let _ = self.draw(b"", false);
                }
                Err(RecvTimeoutError::Disconnected) => return self.keeper.leave(),
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Print { lines, answer } => {
                let printed = match self.draw(lines.concat().as_bytes(), false) {
                    Ok(()) => Printed { whole: lines.len(), error: None },
                    // How far they came is not known: repeating is allowed, losing is not.
                    Err(error) => Printed { whole: 0, error: Some(error.kind()) },
                };
                // Nobody waits any more: it is printed all the same, and will be again.
                let _ = answer.send(printed);
            }
            Job::Log(line) => drop(self.draw(&line, false)),
            Job::Show(scene) => {
                self.scene = *scene;
                let _ = self.draw(b"", false);
            }
            Job::Look => {
                self.hidden = false;
                self.keeper.enter();
                let _ = self.draw(b"", true);
            }
            Job::Suspend(done) => {
                self.hidden = true;
                let _ = self.draw(b"", true);
                self.keeper.pause();
                let _ = done.send(());
            }
            Job::End(done) => {
                self.scene.stopped = true;
                let _ = self.draw(b"", true);
                self.keeper.leave();
                self.hidden = true;
                let _ = done.send(());
            }
        }
    }

    /// Writes `above` where it scrolls by, and the picture below it; `anew` also where nothing seems to have changed.
    fn draw(&mut self, above: &[u8], anew: bool) -> io::Result<()> {
        if self.keeper.is_over() {
            return write(&mut self.out, above);
        }
        let picture = self.lines();
        if above.is_empty() && picture == self.picture && !anew {
            return Ok(());
        }
        let missed = self.missed.swap(0, Ordering::Relaxed);
        let mut bytes: Vec<u8> = vec![];
        // All at once where the terminal knows how; to the others it means nothing.
        bytes.extend_from_slice(b"\x1b[?2026h\x1b[?25l\r\x1b[J");
        bytes.extend_from_slice(above);
        if missed > 0 {
            bytes.extend_from_slice(format!("({missed} lines of the log were left out)\n").as_bytes());
        }
        // What a terminal takes for wider than we do is cut by it, and moves nothing.
        bytes.extend_from_slice(b"\x1b[?7l");
        bytes.extend_from_slice(picture.join("\r\n").as_bytes());
        if picture.len() > 1 {
            bytes.extend_from_slice(format!("\x1b[{}A", picture.len() - 1).as_bytes());
        }
        bytes.extend_from_slice(b"\r\x1b[?7h");
        if picture.is_empty() {
            bytes.extend_from_slice(b"\x1b[?25h");
        }
        bytes.extend_from_slice(b"\x1b[?2026l");
        self.keeper.drawn(picture.len());
        self.picture = picture;
        write(&mut self.out, &bytes)
    }

    fn lines(&self) -> Vec<String> {
        // In the background the terminal is another's: what is told is told, and nothing drawn.
        if self.hidden || !self.keeper.is_in_foreground() {
            return vec![];
        }
        let (width, height) = self.keeper.size();
        // A character in the last column makes some terminals go on in the next line.
        let canvas = Canvas {
            width: width.saturating_sub(1),
            height: height.saturating_sub(EVENTS_IN_SIGHT.min(height / 2).max(1)),
            glyphs: self.style.glyphs,
        };
        let lines = render(&self.scene, self.clock.now(), canvas);
        lines.iter().map(|line| line.write(self.style.colour)).collect()
    }
}

fn write(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(WOULD_BLOCK_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
