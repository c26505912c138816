//! The socket beside the state: another process of the same user asks what only the daemon knows.
//!
//! One line of JSON each way. Who asks is bounded in number, time and size, and nothing here touches the state: however many ask,
//! the daemon goes on. The file lies where the state lies and is replaced at a start, since only who holds the state serves it.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    config::StatePath,
    overview::outlook::{Asker, Outlook, Scope},
};

/// Of what is said here. A later one may add fields; what it says otherwise gets another number.
const VERSION: u32 = 1;

/// So many may ask at once; the next ones wait before they are let in.
const AT_ONCE: usize = 8;

/// From the first byte to the last.
const EXCHANGE: Duration = Duration::from_secs(5);

/// A question that names as many executions as are answered for, with the longest of IDs, and some room.
const QUESTION_MAX: u64 = 256 * 1024;

/// Who asks reads no more than this.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    version: u32,
    #[serde(default)]
    outlook: Scope,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answered {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outlook: Option<Outlook>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Where the daemon of this state listens: beside the real file, as two names of one state mean one daemon.
pub fn path(state: &Path) -> PathBuf {
    let mut path = fs::canonicalize(state).unwrap_or_else(|_| state.into()).into_os_string();
    path.push(".sock");
    path.into()
}

/// Serves until it is dropped; then the file is gone.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    serving: JoinHandle<()>,
}

impl Socket {
    /// The one beside a state. Without it, only `status` knows less.
    pub(super) fn beside(state: &StatePath, asker: Asker) -> Option<Self> {
        let StatePath::File(state) = state else { return None };
        let path = path(state);
        match Self::open(path.clone(), asker) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::info!(
                    "`velt-watch status` will show what the state knows, and no more: no socket at {}: {error}",
                    path.display()
                );
                None
            }
        }
    }

    /// Who calls holds the state: whatever lies at `path` is left over from a process that was killed.
    pub(super) fn open(path: PathBuf, asker: Asker) -> io::Result<Self> {
        // Under another name until it is for the owner alone: nobody else gets in between.
        let unfinished = path.with_extension("sock-new");
        let forget = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        forget(&unfinished)?;
        let listener = UnixListener::bind(&unfinished)?;
        let placed = fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = placed {
            let _ = forget(&unfinished);
            return Err(error);
        }
        let serving = tokio::spawn(serve(listener, asker));
        Ok(Self { path, serving })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, asker: Asker) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let asker = asker.clone();
                tokio::spawn(async move {
                    // Whoever hangs up or dawdles gets no answer; there is nobody to tell.
                    let _ = timeout(EXCHANGE, exchange(stream, &asker)).await;
                    drop(place);
                });
            }
            // Out of descriptors, most likely: it is over before long, and others need them more.
            Err(error) => {
                tracing::debug!("nobody could be let in to the socket beside the state: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn exchange(mut stream: UnixStream, asker: &Asker) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = vec![];
    tokio::io::BufReader::new(read.take(QUESTION_MAX)).read_until(b'\n', &mut line).await?;
    let mut answer = serde_json::to_vec(&answer(&line, asker).await)?;
    answer.push(b'\n');
    write.write_all(&answer).await?;
    write.shutdown().await
}

async fn answer(line: &[u8], asker: &Asker) -> Answered {
    let refuse = |error: String| Answered { version: VERSION, outlook: None, error: Some(error) };
    match serde_json::from_slice::<Asked>(line) {
        Ok(question) if question.version != VERSION => {
            refuse(format!("version {} is not spoken here, only {VERSION}", question.version))
        }
        Ok(question) => match asker.ask(question.outlook).await {
            Some(outlook) => Answered { version: VERSION, outlook: Some(outlook), error: None },
            None => refuse("it is stopping, or has no time to answer".into()),
        },
        Err(_) if !line.ends_with(b"\n") => refuse("the question is no line, or a too long one".into()),
        Err(error) => refuse(format!("the question can't be understood: {error}")),
    }
}

/// Asks the daemon that listens at `path`. `None` where nobody does.
pub fn ask(path: &Path, scope: Scope, patience: Duration) -> io::Result<Option<Outlook>> {
    let stream = match net::UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        // Longer than a socket's path may be: then there is none.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut asked = serde_json::to_vec(&Asked { version: VERSION, outlook: scope })?;
    asked.push(b'\n');
    (&stream).write_all(&asked)?;
    let mut line = vec![];
    BufReader::new((&stream).take(ANSWER_MAX)).read_until(b'\n', &mut line)?;
    let answered: Answered = serde_json::from_slice(&line)?;
    match answered {
        Answered { outlook: Some(outlook), .. } => Ok(Some(outlook)),
        Answered { error, .. } => Err(io::Error::other(error.unwrap_or_else(|| "no answer".into()))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        clock::Clock,
        watch::{
            outlook::{self as watching, Polling},
            run::Command,
        },
    };

    fn outlook(requests: u64) -> watching::Outlook {
        let polling = Polling { requests, ..Polling::default() };
        watching::Outlook { polling, executions: vec![], next: None }
    }

    /// A watcher that counts who asks.
    fn asker() -> Asker {
        let (commands, mut inbox) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut asked = 0;
            while let Some(command) = inbox.recv().await {
                let Command::Outlook(_, answer) = command else { continue };
                asked += 1;
                let _ = answer.send(outlook(asked));
            }
        });
        Asker::new(commands, Vec::new, &Clock::system())
    }

    async fn asks(path: &Path) -> io::Result<Option<Outlook>> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || ask(&path, Scope::Nobody, Duration::from_secs(20))).await.unwrap()
    }

    async fn says(path: &Path, line: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(line).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_its_owner_and_is_gone_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db.sock");
        assert!(asks(&path).await.unwrap().is_none(), "nobody is there");
        let socket = Socket::open(path.clone(), asker()).unwrap();
        let answer = asks(&path).await.unwrap().unwrap();
        assert_eq!((answer.watch.polling.requests, answer.daemon.pid), (1, std::process::id()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists() && asks(&path).await.unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing else is left");
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db.sock");
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(path.exists() && asks(&path).await.unwrap().is_none(), "a file, and nobody behind it");
        let _socket = Socket::open(path.clone(), asker()).unwrap();
        assert!(asks(&path).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_no_question_gets_an_answer_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db.sock");
        let _socket = Socket::open(path.clone(), asker()).unwrap();
        let long = vec![b'['; usize::try_from(QUESTION_MAX).unwrap()];
        for (line, part) in [
            (&b"{\"version\":2}\n"[..], "version 2 is not spoken here, only 1"),
            (b"GET / HTTP/1.1\r\n", "can't be understood"),
            (b"", "no line"),
            (&long, "too long"),
        ] {
            let answer = says(&path, line).await;
            assert!(answer.contains(part) && answer.starts_with("{\"version\":1,"), "{answer}");
        }
        assert!(says(&path, b"{\"version\":1}\n").await.contains("\"requests\":1"), "nobody is a question, too");
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_only_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db.sock");
        let _socket = Socket::open(path.clone(), asker()).unwrap();
        let mut silent = vec![];
        for _ in 0..AT_ONCE + 3 {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        // Every place is taken until the time of those who say nothing is over.
        assert!(asks(&path).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_for_a_socket_is_an_error_here_and_nobody_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(150));
        assert!(Socket::open(path.clone(), asker()).is_err());
        assert!(asks(&path).await.unwrap().is_none());
    }
}
