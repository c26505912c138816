//! The API as a bench needs it: answers made beforehand, in which only the id and, for executions that move, statuses are written anew.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use crate::{
    process::now_us,
    wire::{self, Request, Service},
};

/// When every run and step began.
pub(crate) const BEGAN_MS: i64 = 1_777_374_504_364;

/// What an answer looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) steps: usize,
    /// Each step's output is as long as this asks for.
    pub(crate) bytes: usize,
}

/// As the goals have it: 20 steps, 6 kB.
pub(crate) const USUAL: Shape = Shape { steps: 20, bytes: 6_000 };
pub(crate) const SMALL: Shape = Shape { steps: 1, bytes: 600 };

pub(crate) fn id(n: usize) -> String {
    format!("exec_1777374504255_{n:08}")
}

pub(crate) fn step_id(n: usize) -> String {
    format!("step_human-review-{n:04}_1777374504364_a1b2c3")
}

impl Shape {
    /// An answer in two parts, to be put around an id.
    pub(crate) fn parts(self) -> (String, String) {
        let mut steps = String::new();
        let bare = self.steps * 270 + 330;
        let filler = "x".repeat(self.bytes.saturating_sub(bare) / self.steps.max(1));
        for n in 0..self.steps {
            let comma = if n == 0 { "" } else { "," };
            let step = step_id(n);
            write!(
                steps,
                r#"{comma}{{"stepId":"{step}","nodeId":"human-review-{n:04}","nodeType":"human","status":"waiting","groupId":"parallel-review","startedAt":{BEGAN_MS},"completedAt":null,"output":{{"summary":"{filler}"}},"error":null}}"#
            )
            .expect("a String takes every write");
        }
        (
            r#"{"result":{"executionId":""#.to_owned(),
            format!(
                r#"","status":"running","startedAt":{BEGAN_MS},"completedAt":null,"cancelledAt":null,"definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":"corr_campaign_42","idempotencyKey":"campaign-42-dispatch","failureReason":null,"steps":[{steps}]}}}}"#
            ),
        )
    }

    /// The whole answer for an execution that does not move.
    pub(crate) fn body(self, id: &str) -> String {
        let (before, after) = self.parts();
        format!("{before}{id}{after}")
    }
}

/// How executions move: with each read, so many of their steps change between waiting and running.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moves {
    /// Steps a read.
    pub(crate) each: u64,
    /// After so many reads an execution completes; 0 for never.
    pub(crate) reads: u64,
}

/// Both are as long as the other, so an answer can be changed in place.
const WORDS: [&[u8; 7]; 2] = [b"waiting", b"running"];

pub(crate) struct Api {
    before: Vec<u8>,
    after: Vec<u8>,
    /// Where each step's status stands in `after`.
    at: Vec<usize>,
    /// How the same answer ends when it tells an end.
    completed: Vec<u8>,
    moves: Option<Moves>,
    /// How often each execution that moves was read.
    read: HashMap<Vec<u8>, u64>,
    /// Everybody who was asked for, the first one first: what a list shows.
    there: Vec<Vec<u8>>,
    asked: HashSet<Vec<u8>>,
    /// Lists are refused, as by an API that has none: nothing but polls.
    unlisted: bool,
    /// Nothing moves for now.
    still: bool,
    /// How the ids begin that somebody waits for.
    awaited: Vec<u8>,
    numbers: Numbers,
}

/// What follows is how the ids begin that somebody waits for from now on; the longest pause counts anew.
pub(crate) const AWAIT: &str = "/await/";

#[derive(Debug, Default)]
struct Numbers {
    requests: u64,
    /// Steps that have changed.
    changes: u64,
    /// Reads that showed a change.
    changed_reads: u64,
    first_us: u64,
    last_us: u64,
    /// The longest time without a request.
    gap_us: u64,
    /// The first request for one of those that are awaited.
    awaited_us: u64,
}

impl Api {
    pub(crate) fn new(shape: Shape, moves: Option<Moves>) -> Self {
        let (before, after) = shape.parts();
        let key = "\"status\":\"waiting\"";
        let at = after.match_indices(key).map(|(at, _)| at + key.len() - 8).collect();
        let completed = after
            .replacen("running", "completed", 1)
            .replacen("\"completedAt\":null", "\"completedAt\":1777374842347", 1)
            .replace("\"status\":\"waiting\"", "\"status\":\"completed\"");
        Self {
            before: before.into(),
            after: after.into(),
            at,
            completed: completed.into(),
            moves,
            read: HashMap::new(),
            there: vec![],
            asked: HashSet::new(),
            unlisted: false,
            still: false,
            awaited: vec![],
            numbers: Numbers::default(),
        }
    }

    fn counted(&mut self, id: &[u8]) {
        let awaited = !self.awaited.is_empty() && id.starts_with(&self.awaited);
        if !self.asked.contains(id) {
            self.asked.insert(id.to_vec());
            self.there.push(id.to_vec());
        }
        let (now, numbers) = (now_us(), &mut self.numbers);
        numbers.requests += 1;
        if numbers.first_us == 0 {
            numbers.first_us = now;
        } else {
            numbers.gap_us = numbers.gap_us.max(now.saturating_sub(numbers.last_us));
        }
        numbers.last_us = now;
        if awaited && numbers.awaited_us == 0 {
            numbers.awaited_us = now;
        }
    }

    fn get(&mut self, id: &[u8], out: &mut Vec<u8>) {
        let Some(moves) = self.moves else {
            wire::head(out, "200 OK", self.before.len() + id.len() + self.after.len());
            for part in [&*self.before, id, &*self.after] {
                out.extend_from_slice(part);
            }
            return;
        };
        let reads = match self.read.get_mut(id) {
            Some(reads) => {
                if !self.still && (moves.reads == 0 || *reads < moves.reads) {
                    *reads += 1;
                    self.numbers.changes += moves.each;
                    self.numbers.changed_reads += 1;
                }
                *reads
            }
            // The first read shows the beginning.
            None => *self.read.entry(id.to_vec()).or_insert(0),
        };
        let over = moves.reads > 0 && reads == moves.reads;
        let after = if over { &self.completed } else { &self.after };
        wire::head(out, "200 OK", self.before.len() + id.len() + after.len());
        out.extend_from_slice(&self.before);
        out.extend_from_slice(id);
        let from = out.len();
        out.extend_from_slice(after);
        if !over {
            for (n, at) in self.at.iter().enumerate() {
                let turns = self.turns(n, reads * moves.each);
                out[from + at..from + at + 7].copy_from_slice(WORDS[usize::from(turns % 2 == 1)]);
            }
        }
    }

    fn is_over(&self, id: &[u8]) -> bool {
        let moves = self.moves.filter(|moves| moves.reads > 0);
        moves.is_some_and(|moves| self.read.get(id) == Some(&moves.reads))
    }

    /// A page of the list, the latest first: whom it shows began so many milliseconds after all.
    fn list(&self, body: &[u8], out: &mut Vec<u8>) {
        let before = digits(after(body, b"\"cursor\":\"")).map_or(self.there.len(), |cursor| {
            usize::try_from(cursor.saturating_sub(BEGAN_MS.unsigned_abs())).expect("a number of executions")
        });
        let size = digits(after(body, b"\"pageSize\":")).map_or(50, |size| usize::try_from(size).expect("a size"));
        let from = before.saturating_sub(size);
        let wanted = |over: bool| match after(body, b"\"status\":") {
            b"" => true,
            status => status.starts_with(b"\"running\"") && !over || status.starts_with(b"\"completed\"") && over,
        };
        let mut items = String::new();
        for (nth, id) in self.there.iter().enumerate().take(before).skip(from).rev() {
            let over = self.is_over(id);
            if !wanted(over) {
                continue;
            }
            let (comma, id) =
                (if items.is_empty() { "" } else { "," }, std::str::from_utf8(id).expect("an id in ASCII"));
            let status = if over { "completed" } else { "running" };
            let began = BEGAN_MS.unsigned_abs() + nth as u64;
            write!(
                items,
                r#"{comma}{{"executionId":"{id}","status":"{status}","startedAt":{began},"completedAt":null,"cancelledAt":null,"definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":"corr_campaign_42","failureReason":null,"steps":[]}}"#
            )
            .expect("a String takes every write");
        }
        let next = match from {
            0 => "null".to_owned(),
            from => format!("\"{}\"", BEGAN_MS.unsigned_abs() + from as u64),
        };
        wire::text(out, "200 OK", &format!(r#"{{"result":{{"items":[{items}],"nextCursor":{next}}}}}"#));
    }

    /// How often a step has changed when so many changes have been: they go round.
    fn turns(&self, step: usize, changes: u64) -> u64 {
        let steps = self.at.len() as u64;
        changes / steps + u64::from((step as u64) < changes % steps)
    }

    /// The engine's stream tells each waiting step as it begins to wait, and an end: the first of them before the first read.
    fn events(&self, id: &[u8], since: u64, out: &mut Vec<u8>) {
        let (moves, steps) = (self.moves.unwrap_or(Moves { each: 0, reads: 0 }), self.at.len() as u64);
        let reads = self.read.get(id).copied().unwrap_or(0);
        let over = moves.reads > 0 && reads == moves.reads;
        let last = steps + reads * moves.each;
        let id = std::str::from_utf8(id).expect("an id in ASCII");
        let mut events = String::new();
        let mut tell = |seq: u64, kind: &str, step: Option<usize>| {
            let step = step.map_or("null".to_owned(), |step| format!("\"{}\"", step_id(step)));
            let comma = if events.is_empty() { "" } else { "," };
            let at = now_us() / 1000;
            write!(
                events,
                r#"{comma}{{"eventId":"evt_{id}_{seq}","seq":{seq},"type":"{kind}","stepId":{step},"timestamp":{at},"correlationId":"corr_campaign_42","data":{{}}}}"#
            )
            .expect("a String takes every write");
        };
        for seq in since + 1..=last {
            // The first `steps` of them are the beginning; each later one is a change, of which every other round begins to wait.
            let change = seq.checked_sub(steps + 1);
            let begins = change.is_none_or(|change| change / steps % 2 == 1);
            let ends = over && change.is_some_and(|change| change >= (moves.reads - 1) * moves.each);
            if begins && !ends {
                tell(seq, "step.awaiting-approval", usize::try_from((seq - 1) % steps).ok());
            }
        }
        if over {
            for step in 0..self.at.len() {
                let seq = last + 1 + step as u64;
                if seq > since {
                    tell(seq, "step.completed", Some(step));
                }
            }
            if last + 1 + steps > since {
                tell(last + 1 + steps, "execution.completed", None);
            }
        }
        let next = if over { last + 1 + steps } else { last.max(since) };
        let body =
            format!(r#"{{"result":{{"executionId":"{id}","events":[{events}],"nextCursor":{next},"hasMore":false}}}}"#);
        wire::text(out, "200 OK", &body);
    }
}

impl Service for Api {
    fn answer(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        match request.path {
            "/numbers" => {
                let Numbers { requests, changes, changed_reads, first_us, gap_us, awaited_us, .. } = self.numbers;
                let numbers = format!(
                    "requests={requests}\nchanges={changes}\nchanged_reads={changed_reads}\nfirst_us={first_us}\ngap_us={gap_us}\nawaited_us={awaited_us}\n"
                );
                wire::text(out, "200 OK", &numbers);
            }
            "/still" => {
                self.still = true;
                wire::text(out, "200 OK", "");
            }
            path if path.starts_with(AWAIT) => {
                self.awaited = path.as_bytes()[AWAIT.len()..].to_vec();
                (self.numbers.gap_us, self.numbers.awaited_us) = (0, 0);
                wire::text(out, "200 OK", "");
            }
            "/unlisted" => {
                self.unlisted = true;
                wire::text(out, "200 OK", "");
            }
            path if path.ends_with("/list") && self.unlisted => {
                let refusal = r#"{"error":{"status":"NOT_FOUND","message":"there is no such method"}}"#;
                wire::text(out, "404 Not Found", refusal);
            }
            path if path.ends_with("/list") => self.list(request.body, out),
            path => {
                // Some put a space behind the colon.
                let id = after(request.body, b"\"executionId\":").trim_ascii_start();
                let id = id.strip_prefix(b"\"").expect("an id is a text");
                let id = &id[..id.iter().position(|byte| *byte == b'"').expect("an id has an end")];
                self.counted(id);
                if path.ends_with("/getEvents") {
                    self.events(id, digits(after(request.body, b"\"sinceSeq\":")).unwrap_or(0), out);
                } else {
                    self.get(id, out);
                }
            }
        }
    }
}

/// What follows `key`; nothing where it does not occur.
fn after<'a>(body: &'a [u8], key: &[u8]) -> &'a [u8] {
    let at = body.windows(key.len()).position(|window| window == key);
    at.map_or(&[], |at| &body[at + key.len()..])
}

/// The number that a text begins with.
fn digits(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number, digit| Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0')))
}
