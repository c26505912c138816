//! What to watch: the line format of the watch file and of standard input, and the file itself, followed through every way of changing it.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{plain, velt::model::ExecutionId};

/// A line has at most this many bytes.
const LINE_MAX: usize = 1024;
/// A file changed so recently may change again within the same time stamp: it is read once more.
const FRESH: Duration = Duration::from_secs(2);

/// An execution to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: ExecutionId,
    /// Free text beside the ID, carried into events and messages.
    pub label: Option<Box<str>>,
}

impl From<ExecutionId> for Entry {
    fn from(id: ExecutionId) -> Self {
        Self { id, label: None }
    }
}

/// A list of IDs as text, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// In the order of the file; the first of two equal IDs counts.
    pub entries: Vec<Entry>,
    pub problems: Vec<Problem>,
}

/// A line that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    pub what: String,
}

/// Reads lines of `ID [label]`; blank lines, `#` comments, CRLF and a byte order mark are accepted.
pub fn parse(text: &[u8]) -> List {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut list = List::default();
    let mut seen = HashSet::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        match parse_line(line) {
            Ok(None) => {}
            Ok(Some(entry)) => {
                if seen.insert(entry.id.clone()) {
                    list.entries.push(entry);
                }
            }
            Err(what) => list.problems.push(Problem { line: index + 1, what }),
        }
    }
    list
}

fn parse_line(line: &[u8]) -> Result<Option<Entry>, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LINE_MAX {
        return Err(format!("a line has at most {LINE_MAX} bytes, this one has {}", line.len()));
    }
    let line = str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (id, label) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let id = id.parse::<ExecutionId>().map_err(|error| error.to_string())?;
    let label = label.trim();
    Ok(Some(Entry { id, label: (!label.is_empty()).then(|| label.into()) }))
}

/// The watch file, looked at every second: replaced by rename, behind a symlink that moves, half written, gone.
///
/// Looking beats being told: inotify goes silent after a file's first atomic rename and misses network file systems.
#[derive(Debug, Clone)]
pub struct WatchFile {
    path: PathBuf,
    seen: Option<Stamp>,
    /// The bytes of the last look: two looks must agree on a last line without an end.
    content: Vec<u8>,
    /// Whether the unterminated last line of `content` has been counted.
    tail_counted: bool,
    missing: bool,
}

/// What tells a changed file from an unchanged one without reading it. Of the file that the path leads to, not of a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a look at the watch file found.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    Unchanged,
    /// The list as it is now.
    Changed(List),
    /// Gone or unreadable, and it was not before: the last list stays in force.
    Vanished(String),
}

impl WatchFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seen: None, content: vec![], tail_counted: true, missing: false }
    }

    /// The same file, looked at anew: what it held at the last look is remembered.
    #[must_use]
    pub fn anew(self, before: Option<Self>) -> Self {
        match before {
            Some(before) if before.path == self.path => Self { seen: None, ..before },
            _ => self,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first look, at start: a missing file is an error here.
    pub fn open(&mut self) -> io::Result<()> {
        self.read().map(drop)
    }

    /// What the last look found, parsed: of a million lines, that takes longer than reading them.
    pub fn list(&self) -> List {
        parse(self.settled())
    }

    /// Whether an unterminated last line still waits for a second look.
    pub fn is_unsettled(&self) -> bool {
        !self.tail_counted
    }

    /// Whether the last look found nothing to read.
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    /// Looks again. Reads the file only when something about it changed.
    pub fn look(&mut self) -> Look {
        match self.read() {
            Ok(changed) => {
                self.missing = false;
                if changed { Look::Changed(self.list()) } else { Look::Unchanged }
            }
            Err(error) => {
                self.seen = None;
                if std::mem::replace(&mut self.missing, true) {
                    Look::Unchanged
                } else {
                    Look::Vanished(error.to_string())
                }
            }
        }
    }

    /// Whether something that counts is new.
    fn read(&mut self) -> io::Result<bool> {
        let stamp = Stamp::of(&self.path)?;
        if self.seen == Some(stamp) && self.tail_counted && !stamp.is_fresh() {
            return Ok(false);
        }
        let content = fs::read(&self.path)?;
        let first = self.seen.is_none() && !self.missing && self.content.is_empty();
        self.seen = Some(stamp);
        if content == self.content && !first {
            if self.tail_counted {
                return Ok(false);
            }
            // The second look agrees: the writer has stopped there.
            self.tail_counted = true;
            return Ok(true);
        }
        let tail = content.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        // A last line that counted already is not half written: its ID must not leave and come back with each edit.
        let counted = |line: &[u8]| self.settled().split(|byte| *byte == b'\n').any(|known| known == line);
        self.tail_counted = tail.is_empty() || counted(tail);
        self.content = content;
        Ok(true)
    }

    /// The content as far as it counts.
    fn settled(&self) -> &[u8] {
        if self.tail_counted {
            return &self.content;
        }
        let end = self.content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        &self.content[..end]
    }

    /// `FILE:LINE: what` for a warning.
    pub fn describe(&self, problem: &Problem) -> String {
        format!("{}:{}: {}; the line is skipped", self.path.display(), problem.line, plain::escape(&problem.what))
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        // A pipe would block, and gives its content only once; a device may never end.
        if !metadata.is_file() {
            return Err(io::Error::other("is no regular file (IDs from a pipe are read with `-`)"));
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let modified = Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0));
        now.saturating_sub(modified) < FRESH
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(list: &List) -> Vec<&str> {
        list.entries.iter().map(|entry| entry.id.as_str()).collect()
    }

    fn opened(file: &mut WatchFile) -> List {
        file.open().unwrap();
        file.list()
    }

    fn changed(look: Look) -> Vec<String> {
        match look {
            Look::Changed(list) => ids(&list).into_iter().map(str::to_owned).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn labels_comments_and_line_ends_of_all_kinds() {
        let list =
            parse(b"\xef\xbb\xbf# fleet\r\nexec_1  Q2 launch copy \r\n\n  exec_2\nexec_1 again\n\texec_3\tx # y");
        assert_eq!(ids(&list), ["exec_1", "exec_2", "exec_3"]);
        assert_eq!(list.entries[0].label.as_deref(), Some("Q2 launch copy"), "the first of two equal IDs counts");
        assert_eq!(list.entries[2].label.as_deref(), Some("x # y"));
        assert_eq!(list.problems, []);
    }

    #[test]
    fn bad_lines_are_told_by_number_and_the_others_count() {
        let long = format!("exec_9 {}", "x".repeat(LINE_MAX));
        let text = [b"exec_1\nexec/2\n\xff\xfe\n", long.as_bytes(), b"\nexec_3\n"].concat();
        let list = parse(&text);
        assert_eq!(ids(&list), ["exec_1", "exec_3"]);
        assert_eq!(list.problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_file_is_followed_through_rename_symlink_and_absence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, "a\n").unwrap();
        let mut file = WatchFile::new(&path);
        assert_eq!(ids(&opened(&mut file)), ["a"]);
        assert_eq!(file.look(), Look::Unchanged);

        fs::write(&path, "a\nb\n").unwrap();
        assert_eq!(changed(file.look()), ["a", "b"]);

        fs::write(folder.path().join("new"), "b\nc\n").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(changed(file.look()), ["b", "c"]);

        fs::write(folder.path().join("one"), "one\n").unwrap();
        fs::write(folder.path().join("two"), "two\n").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("one", &link).unwrap();
        let mut linked = WatchFile::new(&link);
        assert_eq!(ids(&opened(&mut linked)), ["one"]);
        std::os::unix::fs::symlink("two", folder.path().join("next")).unwrap();
        fs::rename(folder.path().join("next"), &link).unwrap();
        assert_eq!(changed(linked.look()), ["two"]);

        fs::remove_file(&path).unwrap();
        assert!(matches!(file.look(), Look::Vanished(_)));
        assert_eq!(file.look(), Look::Unchanged, "warned about once");
        fs::write(&path, "b\nc\n").unwrap();
        assert_eq!(file.look(), Look::Unchanged, "back with what it held");
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.look(), Look::Vanished(_)), "gone again is news again");
        fs::write(&path, "d\n").unwrap();
        assert_eq!(changed(file.look()), ["d"]);
    }

    #[test]
    fn half_a_line_counts_once_two_looks_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, "a\nexec_12").unwrap();
        let mut file = WatchFile::new(&path);
        assert_eq!(ids(&opened(&mut file)), ["a"]);
        assert!(file.is_unsettled());
        fs::write(&path, "a\nexec_1234").unwrap();
        assert_eq!(changed(file.look()), ["a"], "still being written");
        assert_eq!(changed(file.look()), ["a", "exec_1234"]);
        assert_eq!(file.look(), Look::Unchanged);
        fs::write(&path, "a\nexec_1234\n").unwrap();
        assert_eq!(changed(file.look()), ["a", "exec_1234"]);
    }

    #[test]
    fn a_last_line_without_an_end_that_counted_stays_through_edits_and_reloads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, "a\nb").unwrap();
        let mut file = WatchFile::new(&path);
        file.open().unwrap();
        assert_eq!(changed(file.look()), ["a", "b"]);
        fs::write(&path, "c\na\nb").unwrap();
        assert_eq!(changed(file.look()), ["c", "a", "b"]);
        let mut again = WatchFile::new(&path).anew(Some(file));
        assert_eq!(ids(&opened(&mut again)), ["c", "a", "b"]);
        fs::write(&path, "c\na\nb2").unwrap();
        assert_eq!(changed(again.look()), ["c", "a"], "another line is new");
    }

    #[test]
    fn a_pipe_is_refused_instead_of_waited_for() {
        assert!(WatchFile::new("/dev/zero").open().is_err());
    }

    #[test]
    fn a_missing_file_and_a_folder_are_errors_at_start() {
        let folder = tempfile::tempdir().unwrap();
        assert!(WatchFile::new(folder.path().join("none")).open().is_err());
        assert!(WatchFile::new(folder.path()).open().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let list = parse(&bytes);
            let lines = bytes.split(|byte| *byte == b'\n').count();
            prop_assert!(list.entries.len() + list.problems.len() <= lines);
        }
    }
}
