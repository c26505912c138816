//! Printing on a thread of its own: writing blocks for as long as the reader likes, and no other sink may wait for that.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use super::{Press, Printed};

/// A stream that others have made non-blocking (a shared terminal) is asked again after this.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(20);

/// A stream of lines and the thread that writes it. The thread ends after this is dropped, or with the process if its reader never reads.
#[derive(Debug)]
pub struct Stdout {
    jobs: mpsc::SyncSender<Job>,
}

struct Job {
    lines: Vec<String>,
    answer: oneshot::Sender<Printed>,
}

impl Stdout {
    /// `out` should have no buffer of its own, see [`unbuffered`]: a buffer takes lines that it then can't get rid of.
    pub fn new(out: Box<dyn Write + Send>) -> io::Result<Self> {
        // One batch may wait; who prints waits for each answer, so more never do.
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let mut out = Lines { out, torn: vec![] };
        thread::Builder::new().name("stdout".into()).spawn(move || {
            for Job { lines, answer } in queue {
                // Nobody waits any more: it is printed all the same, and will be again.
                let _ = answer.send(out.print(&lines));
            }
        })?;
        Ok(Self { jobs })
    }
}

/// The process's standard output without the buffer that std puts before it.
pub fn unbuffered() -> io::Result<Box<dyn Write + Send>> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let own = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Box::new(std::fs::File::from(own)))
    }
    #[cfg(not(unix))]
    Ok(Box::new(io::stdout()))
}

impl Press for Stdout {
    fn print(&self, lines: Vec<String>) -> BoxFuture<'_, Printed> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.try_send(Job { lines, answer });
        async move {
            match sent {
                Ok(()) => answered.await.unwrap_or(Printed { whole: 0, error: Some(io::ErrorKind::Other) }),
                Err(mpsc::TrySendError::Full(_)) => Printed { whole: 0, error: Some(io::ErrorKind::WouldBlock) },
                Err(mpsc::TrySendError::Disconnected(_)) => Printed { whole: 0, error: Some(io::ErrorKind::Other) },
            }
        }
        .boxed()
    }
}

/// Writes lines and knows how far it came.
struct Lines {
    out: Box<dyn Write + Send>,
    /// The beginning of a line whose rest could not be written.
    torn: Vec<u8>,
}

impl Lines {
    fn print(&mut self, lines: &[String]) -> Printed {
        let mut bytes: Vec<u8> = Vec::with_capacity(lines.iter().map(String::len).sum::<usize>() + 1);
        // Where in `bytes` each line ends.
        let mut ends = Vec::with_capacity(lines.len());
        let torn = std::mem::take(&mut self.torn);
        for (index, line) in lines.iter().enumerate() {
            let mut line = line.as_bytes();
            if index == 0 && !torn.is_empty() {
                match line.strip_prefix(torn.as_slice()) {
                    Some(rest) => line = rest,
                    // Another line comes after the torn one: it must not be glued to it.
                    None => bytes.push(b'\n'),
                }
            }
            bytes.extend_from_slice(line);
            ends.push(bytes.len());
        }
        let (written, error) = self.write(&bytes);
        let mut whole = ends.partition_point(|end| *end <= written);
        let error = error.or_else(|| match self.out.flush() {
            Ok(()) => None,
            Err(error) => {
                // What a buffer has kept back is not known; repeating is allowed, losing is not.
                whole = 0;
                Some(error.kind())
            }
        });
        if written < bytes.len() {
            let start = if whole == 0 { 0 } else { ends[whole - 1] };
            self.torn = bytes[start..written].to_vec();
            if whole == 0 && !torn.is_empty() {
                self.torn = if bytes.first() == Some(&b'\n') && written > 0 {
                    bytes[1..written].to_vec()
                } else {
                    [torn.as_slice(), &bytes[..written]].concat()
                };
            }
        }
        Printed { whole, error }
    }

    /// How many bytes went out, and why not all.
    fn write(&mut self, bytes: &[u8]) -> (usize, Option<io::ErrorKind>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.write(&bytes[written..]) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero)),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(WOULD_BLOCK_PAUSE),
                Err(error) => return (written, Some(error.kind())),
            }
        }
        (written, None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes, then fails once, and so on.
    #[derive(Clone, Default)]
    struct Fitful {
        taken: Arc<Mutex<Vec<u8>>>,
        steps: Arc<Mutex<Vec<Result<usize, io::ErrorKind>>>>,
    }

    impl Write for Fitful {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = self.steps.lock().unwrap().pop().unwrap_or(Ok(usize::MAX));
            let count = step.map_err(io::Error::from)?.min(bytes.len());
            self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| format!("{text}\n")).collect()
    }

    #[test]
    fn tells_how_many_whole_lines_are_out() {
        let out = Fitful::default();
        *out.steps.lock().unwrap() = vec![Err(io::ErrorKind::BrokenPipe), Ok(5)];
        let mut press = Lines { out: Box::new(out.clone()), torn: vec![] };
        let printed = press.print(&lines(&["one", "two"]));
        assert_eq!(printed, Printed { whole: 1, error: Some(io::ErrorKind::BrokenPipe) });
        assert_eq!(*out.taken.lock().unwrap(), b"one\nt");
    }

    #[test]
    fn a_torn_line_is_ended_before_another_follows() {
        let out = Fitful::default();
        *out.steps.lock().unwrap() = vec![Err(io::ErrorKind::StorageFull), Ok(5)];
        let mut press = Lines { out: Box::new(out.clone()), torn: vec![] };
        press.print(&lines(&["one", "two"]));
        assert_eq!(press.print(&lines(&["other"])), Printed { whole: 1, error: None });
        assert_eq!(*out.taken.lock().unwrap(), b"one\nt\nother\n");
    }

    proptest! {
        #[test]
        fn what_is_out_in_the_end_is_every_line_once(
            texts in prop::collection::vec("[a-c]{0,6}", 1..12),
            steps in prop::collection::vec(prop_oneof![(1_usize..9).prop_map(Ok), Just(Err(io::ErrorKind::Other))], 0..40),
        ) {
            let out = Fitful::default();
            *out.steps.lock().unwrap() = steps;
            let mut press = Lines { out: Box::new(out.clone()), torn: vec![] };
            let lines: Vec<_> = texts.iter().map(|text| format!("{text}\n")).collect();
            let mut rest = &lines[..];
            while !rest.is_empty() {
                rest = &rest[press.print(rest).whole..];
            }
            prop_assert_eq!(String::from_utf8(out.taken.lock().unwrap().clone()).unwrap(), lines.concat());
        }
    }

    #[tokio::test]
    async fn a_reader_that_never_reads_blocks_only_its_own_thread() {
        struct Never;
        impl Write for Never {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let press = Stdout::new(Box::new(Never)).unwrap();
        let printing = press.print(lines(&["one"]));
        tokio::time::timeout(Duration::from_millis(20), printing).await.unwrap_err();
    }
}
