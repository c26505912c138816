//! Whether a write-ahead log that was left behind is whole. Looked at before SQLite opens it, and only read.
//!
//! SQLite takes a log as far as its checksums hold and ignores the rest without a word: after a crash it is right to do so, as what was
//! being written then was never committed. But damage looks the same to it, and then commits are gone unsaid. What tells the two apart:
//!
//! - The head of the log, 32 bytes, is written and synced before anything that follows it (`synchronous = FULL`). So a crash leaves a
//!   head that is not whole only where nothing follows it, and nothing is lost. Later, when all of the log has been copied into the
//!   database, the head is written anew in its place, in one write within one sector, which no disk tears.
//! - The index beside the log (`-shm`) says how many frames of this log are committed. A commit is synced before the index counts it, so
//!   whatever the index says is in the log, even if an index of long ago came back after a power failure. Frames behind that number may be a
//!   torn commit, or what is left of one that was taken back, and are nobody's loss. Without an index (a copy of the two other files)
//!   nothing tells where the commits end, and SQLite's word is taken.
//!
//! The formats are documented: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>, <https://www.sqlite.org/walformat.html>.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// The size of a log's head, and of a frame's.
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// The last bit says in which byte order the checksums count.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
const INDEX_VERSION: u32 = 3_007_000;

/// A process that is at work on the log may change it under this look. What is damaged stays so.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(10);

/// The file beside the database whose name ends so.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether this database has a log in which something may be committed.
pub(super) fn has_frames(database: &Path) -> bool {
    fs::metadata(beside(database, "-wal")).is_ok_and(|log| log.len() > HEAD as u64)
}

/// What is wrong with the log of this database, if something is.
pub(super) fn damage(database: &Path) -> io::Result<Option<String>> {
    let mut looks = 1;
    loop {
        let before = Index::of(database);
        let found = look(database, before.as_ref())?;
        // Frames that an index counts are written over only after it has begun to count anew.
        let still = Index::of(database).map(|index| index.salts) == before.map(|index| index.salts);
        match found {
            Some(_) if looks < LOOKS => thread::sleep(PAUSE),
            Some(why) if still => return Ok(Some(why)),
            // Whole; or somebody writes so busily that there is no looking, and who watches has looked at its start.
            _ => return Ok(None),
        }
        looks += 1;
    }
}

fn look(database: &Path, index: Option<&Index>) -> io::Result<Option<String>> {
    let file = match File::open(beside(database, "-wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // Nothing but a head, or a part of it: nothing was committed.
    if file.metadata()?.len() <= HEAD as u64 {
        return Ok(None);
    }
    let mut log = BufReader::with_capacity(1 << 16, file);
    let mut head = [0; HEAD];
    if !filled(&mut log, &mut head)? {
        return Ok(None);
    }
    let Some(head) = Head::read(&head) else {
        return Ok(Some("the head of its write-ahead log is not valid".into()));
    };
    let Some(index) = index.filter(|index| index.salts == head.salts) else { return Ok(None) };
    let (mut sums, mut frame) = (head.sums, vec![0; FRAME_HEAD + head.page_size]);
    for n in 1..=index.frames {
        let whole = filled(&mut log, &mut frame)? && {
            sums = head.sum(sums, &frame[..8]);
            sums = head.sum(sums, &frame[FRAME_HEAD..]);
            frame[8..16] == head.salts && [big(&frame[16..]), big(&frame[20..])] == sums
        };
        if !whole {
            let of = index.frames;
            return Ok(Some(format!("frame {n} of the {of} that are committed in its write-ahead log is not valid")));
        }
    }
    Ok(None)
}

/// Whether there was enough for the whole of it.
fn filled(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

/// The beginning of a log.
struct Head {
    big_endian: bool,
    page_size: usize,
    salts: [u8; 8],
    sums: [u32; 2],
}

impl Head {
    fn read(bytes: &[u8; HEAD]) -> Option<Self> {
        let magic = big(bytes);
        let page_size = usize::try_from(big(&bytes[8..])).ok()?;
        let mut head =
            Self { big_endian: magic & 1 == 1, page_size, salts: bytes[16..24].try_into().ok()?, sums: [0; 2] };
        head.sums = head.sum([0; 2], &bytes[..24]);
        let known = magic & !1 == MAGIC && big(&bytes[4..]) == VERSION;
        let sized = page_size.is_power_of_two() && (512..=65_536).contains(&page_size);
        (known && sized && head.sums == [big(&bytes[24..]), big(&bytes[28..])]).then_some(head)
    }

    /// The running checksum, over these bytes too.
    fn sum(&self, sums: [u32; 2], bytes: &[u8]) -> [u32; 2] {
        if self.big_endian { sum(sums, bytes, u32::from_be_bytes) } else { sum(sums, bytes, u32::from_le_bytes) }
    }
}

fn sum([mut a, mut b]: [u32; 2], bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(word([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(b);
        b = b.wrapping_add(word([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(a);
    }
    [a, b]
}

fn big(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// What an index says of its log.
struct Index {
    salts: [u8; 8],
    /// How many frames are committed.
    frames: u32,
}

impl Index {
    /// `None` where there is none that is whole. SQLite makes another one where this one is of no use.
    fn of(database: &Path) -> Option<Self> {
        const SIZE: usize = 48;
        let mut bytes = [0; 2 * SIZE];
        File::open(beside(database, "-shm")).and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
        // It is there twice, in this machine's byte order.
        let (one, other) = bytes.split_at(SIZE);
        let native = |at: usize| u32::from_ne_bytes([one[at], one[at + 1], one[at + 2], one[at + 3]]);
        let sums = sum([0; 2], &one[..40], u32::from_ne_bytes);
        let whole = one == other && native(0) == INDEX_VERSION && one[12] == 1 && sums == [native(40), native(44)];
        let salts = one[32..40].try_into().ok().filter(|_| whole)?;
        Some(Self { salts, frames: native(16) })
    }
}
