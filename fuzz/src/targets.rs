//! What each target does with its bytes. Shared by the fuzzer and by `tests/fuzz.rs`, which replays the corpus.
//!
//! A target returns for every input: a panic is a bug, and so is a run that doesn't end soon or holds more than its input is worth.

use std::{
    collections::HashSet,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde_json::{Value, json, value::RawValue};
use velt_watch::{
    clock::Time,
    config::{self, Given, Template, secret::Environment},
    deliver::{slack, text_line},
    plain,
    route::SinkName,
    store::{
        Access, DeadFilter, DeadReason, Delivery, DeliveryId, Fingerprint, Form, Memory, Observation, OutboxFilter,
        Parcel, Record, Settlement, SqliteStore, Standing, Store, StoreError, Write,
    },
    velt::{
        error::{self, Answer},
        model::{ExecutionId, ExecutionView},
    },
    watch::{
        diff::{Diff, Reading, Told, diff, standing},
        list,
        merge::StreamRead,
    },
};

/// A target's name, which is its corpus's folder, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 7] = [
    ("api", api),
    ("snapshots", snapshots),
    ("config", config),
    ("watch_file", watch_file),
    ("template", template),
    ("slack", slack),
    ("state", state),
];

/// Gives `data` to a target.
pub(crate) fn run(target: &str, data: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name");
    run(data);
}

/// What stands between the parts of an input that has several.
const BETWEEN: &[u8] = b"\n---\n";

fn parts(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = vec![];
    let mut rest = data;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    parts.push(rest);
    parts
}

fn at(ms: i64) -> Time {
    Time::from_millis(ms).expect("within what a calendar knows")
}

fn id() -> ExecutionId {
    "exec_1".parse().expect("an ID")
}

/// The API's answers to reads of one execution, of its stream and of a list, one after another: the first byte of each part says how
/// it came.
fn api(data: &[u8]) {
    let mut story = Story::default();
    for part in parts(data) {
        let (status, body) = match part {
            [b'!', body @ ..] => (500, body),
            [b'?', body @ ..] => (404, body),
            body => (200, body),
        };
        let answer = Answer { status, body: body.to_vec(), ..answer() };
        let _ = error::judge(&answer);
        let _ = error::read_list(&answer).map(|page| page.next().map(str::len));
        let asked = Story::id_of(&answer).unwrap_or_else(id);
        let stream = error::read_events(&asked, 0, &answer).ok().map(|page| StreamRead {
            cursor: page.next_cursor.unwrap_or(0),
            complete: !page.has_more,
            events: page.events,
            whole: true,
        });
        if let Ok(view) = error::read(&asked, &answer) {
            let stream = story.stream.take();
            story.sees(&asked, &view, stream);
        } else if stream.is_some() {
            story.stream = stream;
        }
    }
    story.store();
}

fn answer() -> Answer {
    Answer { status: 200, retry_after: None, body: vec![], location: None }
}

/// The reads of one execution, and what was told of it.
#[derive(Default)]
struct Story {
    memory: Memory,
    reads: i64,
    told: Vec<Told>,
    stream: Option<StreamRead>,
}

impl Story {
    /// Which execution an answer is about, so that an example of the documentation is one about what was asked.
    fn id_of(answer: &Answer) -> Option<ExecutionId> {
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        body["result"]["executionId"].as_str()?.parse().ok()
    }

    fn sees(&mut self, id: &ExecutionId, view: &ExecutionView, stream: Option<StreamRead>) {
        self.reads += 1;
        let observed_at = at(1_800_000_000_000 + 15_000 * self.reads);
        let reading = Reading { id, label: Some("a label"), observed_at, previous_observed_at: None };
        let before = self.memory.next_sequence;
        match diff(&self.memory, view, &reading, stream) {
            Diff::Same { memory } => {
                assert_eq!(memory.next_sequence, before, "nothing was told");
                self.memory = memory;
            }
            Diff::Stale { memory, contradicts } => {
                assert!(!contradicts.is_empty());
                assert_eq!(memory.next_sequence, before, "nothing was told");
                self.memory = memory;
            }
            Diff::Changed { memory, told } => {
                for (told, sequence) in told.into_iter().zip(before..) {
                    assert_eq!(told.event.data.sequence, sequence, "without a gap");
                    assert_eq!(&told.event.data.execution_id, id);
                    self.told.push(told);
                }
                self.memory = memory;
                let told = u64::try_from(self.told.len()).expect("few");
                assert!(self.memory.next_sequence > before && self.memory.next_sequence <= told + 1);
            }
        }
        // What was believed once is believed again: the same read is no news.
        let again = diff(&self.memory, view, &reading, None);
        assert!(!matches!(again, Diff::Changed { .. }) || self.memory.stale.is_some(), "the same read tells twice");
    }

    /// What is stored is read back as it was.
    fn store(self) {
        let json = serde_json::to_string(&self.memory).expect("JSON");
        assert_eq!(serde_json::from_str::<Memory>(&json).expect("read back"), self.memory);
        let ids: HashSet<&str> = self.told.iter().map(|told| told.event.id.as_str()).collect();
        assert_eq!(ids.len(), self.told.len(), "an id is used twice");
        for told in &self.told {
            let json = told.event.to_json();
            let back: velt_watch::event::Event = serde_json::from_str(&json).expect("a committed event is read back");
            assert_eq!(back.to_json(), json);
            harmless(&text_line(&json));
        }
        let Some(first) = self.told.first() else { return };
        let id = first.event.data.execution_id.clone();
        let mut store = SqliteStore::in_memory().expect("a state");
        let sinks = vec!["a".into()];
        let records: Vec<Record> = self
            .told
            .into_iter()
            .filter(|told| told.event.data.execution_id == id)
            .map(|told| record(told, &sinks))
            .collect();
        let count = records.len();
        let observation = Observation {
            id: id.clone(),
            label: Some("a label".into()),
            standing: standing(&self.memory),
            memory: self.memory.clone(),
            fingerprint: Some(Fingerprint(7)),
            observed_at: at(1_800_000_000_000),
            events: records,
        };
        store.apply(&[Write::Observed(Box::new(observation))]).expect("an observation can be stored");
        assert_eq!(store.recall(&id).expect("recalled").as_ref(), Some(&self.memory));
        let due = store.oldest(&"a".into(), 10_000).expect("what is due");
        assert_eq!(due.len(), count.min(10_000));
        told_in_slack(due);
    }
}

fn record(told: Told, sinks: &[SinkName]) -> Record {
    Record { event: told.event, output: told.output, push: told.push, sinks: sinks.to_vec() }
}

fn harmless(line: &str) {
    assert!(!line.contains(|c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')));
}

/// Sequences of snapshots that the API could show, from the bytes: which step, and how it stands by now.
fn snapshots(data: &[u8]) {
    const STEPS: [&str; 9] =
        ["pending", "running", "waiting", "completed", "failed", "skipped", "cancelled", "breached", "napping"];
    const EXECUTIONS: [&str; 6] = ["pending", "running", "completed", "failed", "cancelled", "dreaming"];
    let mut story = Story::default();
    let mut steps: Vec<(u8, usize)> = vec![];
    let mut status = 1;
    for bytes in data.chunks(2).take(400) {
        let (what, how) = (bytes[0], usize::from(bytes.get(1).copied().unwrap_or(0)));
        match what {
            250.. => status = how % EXECUTIONS.len(),
            240.. => steps.retain(|(id, _)| *id != what - 240),
            230.. => steps.reverse(),
            _ => match steps.iter_mut().find(|(id, _)| *id == what % 16) {
                Some((_, status)) => *status = how % STEPS.len(),
                None => steps.push((what % 16, how % STEPS.len())),
            },
        }
        // Several changes may fall between two reads.
        if how >= 128 {
            continue;
        }
        let shown: Vec<Value> = steps
            .iter()
            .map(|(step, status)| {
                let time = (how % 3 > 0).then_some(1_777_374_504_364_i64 + i64::from(*step) - i64::from(what));
                json!({"stepId": format!("step_{step}"), "nodeId": "n", "nodeType": "human", "status": STEPS[*status],
                    "startedAt": time, "completedAt": time, "output": {"decision": "approve"}, "groupId": null, "error": null})
            })
            .collect();
        let body = json!({"result": {"executionId": "exec_1", "status": EXECUTIONS[status], "steps": shown,
            "startedAt": 1_777_374_504_364_i64}});
        let answer = Answer { body: body.to_string().into_bytes(), ..answer() };
        let view = error::read(&id(), &answer).expect("a view");
        story.sees(&id(), &view, None);
    }
    story.store();
}

/// A configuration.
fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let folder = folder("config");
    let file = folder.join("config.toml");
    fs::write(&file, text).expect("written");
    fs::write(folder.join("list.txt"), "exec_1\n").expect("written");
    let environment = Environment::from([
        ("VELT_API_KEY", "key"),
        ("VELT_AUTH_TOKEN", "token"),
        ("HOME", "/nonexistent"),
        ("HOOK", "https://example.com/hook"),
    ]);
    for (ids, once) in [(false, false), (true, true)] {
        let given = Given { config: Some(file.clone()), ids, once, ..Given::default() };
        match config::load(&given, &environment) {
            Ok(loaded) => {
                let shown = format!("{:?}", loaded.config);
                assert!(shown.len() < 1 << 22);
            }
            Err(errors) => {
                // As it is told: whoever says it escapes it.
                harmless(&plain::escape_lines(&errors.to_string()).replace('\n', " "));
                assert!(!errors.0.is_empty());
            }
        }
        let _ = config::state_path(&given, &environment);
        let _ = config::sinks(&given, &environment);
    }
}

/// This process's own folder in memory, where there is one.
fn folder(target: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let folder = parent.join(format!("velt-watch-fuzz-{target}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A list of IDs.
fn watch_file(data: &[u8]) {
    let found = list::parse(data);
    let lines = data.split(|byte| *byte == b'\n').count();
    assert!(found.entries.len() + found.problems.len() <= lines);
    let ids: HashSet<&str> = found.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids.len(), found.entries.len(), "an ID is listed once");
    for entry in &found.entries {
        assert!(entry.label.as_ref().is_none_or(|label| !label.is_empty() && label.len() <= 1024));
        assert_eq!(entry.id.as_str().parse::<ExecutionId>().as_ref(), Ok(&entry.id));
    }
    for problem in &found.problems {
        assert!((1..=lines).contains(&problem.line) && problem.what.len() < 512, "{problem:?}");
    }
}

/// A template's text, and the event it is rendered for.
fn template(data: &[u8]) {
    let parts = parts(data);
    let Ok(source) = std::str::from_utf8(parts[0]) else { return };
    let event = parts.get(1).and_then(|event| std::str::from_utf8(event).ok()).unwrap_or(EVENT);
    for content_type in ["application/json", "text/plain", "text/html"] {
        let template = match Template::new(source, content_type) {
            Ok(template) => template,
            Err(fault) => {
                assert!(fault.at.is_none_or(|at| at <= source.len()), "{fault:?}");
                continue;
            }
        };
        let fault = template.check(|_| true, true).err();
        assert!(fault.is_none_or(|fault| fault.at.is_none_or(|at| at <= source.len())));
        for event in [event, EVENT] {
            if let Ok(body) = template.render(event) {
                assert!(body.len() <= 256 << 10, "{} bytes", body.len());
                assert!(content_type != "application/json" || serde_json::from_str::<&RawValue>(&body).is_ok());
                assert_eq!(template.render(event).as_ref(), Ok(&body), "the same event has the same bytes");
            }
        }
    }
}

const EVENT: &str = r#"{"id":"evt_1","type":"step.waiting","timestamp":"2026-11-23T16:04:06Z","data":{"executionId":"exec_1",
"definitionId":"d","definitionVersion":1,"correlationId":null,"label":"a \"label\"\\ <b>","sequence":3,"from":"running","to":"waiting",
"step":{"stepId":"s1","nodeId":"human-legal","nodeType":"human","groupId":null,"startedAt":null,"completedAt":null,"decision":null,
"error":null},"execution":{"status":"running","startedAt":null,"steps":{"waiting":1}},"observedAt":"2026-11-23T16:04:06Z",
"previousObservedAt":null,"initial":false,"final":false}}"#;

/// Events of one execution, a line each, told in Slack, and on a line each.
fn slack(data: &[u8]) {
    let deliveries: Vec<Delivery> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .filter(|line| !line.is_empty())
        .take(200)
        .zip(1..)
        .map(|(line, n)| Delivery {
            id: DeliveryId(n),
            execution: id(),
            event_id: serde_json::from_value(json!(format!("evt_{n}"))).expect("an id"),
            json: line.into(),
            output: None,
            push: None,
            attempts: 0,
            enqueued_at: at(1_800_000_000_000),
            due_at: at(1_800_000_000_000),
        })
        .collect();
    for delivery in &deliveries {
        harmless(&text_line(&delivery.json));
    }
    told_in_slack(deliveries);
}

fn told_in_slack(mut deliveries: Vec<Delivery>) {
    if deliveries.is_empty() {
        return;
    }
    let first = deliveries.remove(0);
    let rest = deliveries;
    let room = slack::room(&Parcel::new(first.clone(), rest.clone(), None));
    assert!(room.get() <= rest.len() + 1);
    let fitting = rest[..room.get() - 1].to_vec();
    for form in [None, Some(Form::Full), Some(Form::Plain)] {
        for (parcel, fits) in [
            (Parcel::new(first.clone(), fitting.clone(), form), true),
            (Parcel::new(first.clone(), rest.clone(), form), false),
        ] {
            let body = slack::body(&parcel);
            let message: Value = serde_json::from_str(&body).expect("JSON");
            let text = message["text"].as_str().expect("a text");
            assert!(!text.is_empty());
            if fits {
                assert!(text.encode_utf16().count() <= 3_000 && body.len() <= 10_000, "{} bytes", body.len());
            }
            let blocks = message["blocks"].as_array().map_or(&[][..], Vec::as_slice);
            assert!(blocks.len() <= 50);
            // Times are shown by each reader's own clock.
            let rest = body.replace("<!date^", "");
            for mention in ["<!", "<@", "<#", "@here", "@channel", "@everyone"] {
                assert!(!rest.contains(mention), "{mention}: {body}");
            }
        }
    }
}

/// A state's file with some of its bytes changed: five bytes each, where (four) and what.
fn state(data: &[u8]) {
    let folder = folder("state");
    let good = folder.join("good.db");
    if !good.exists() {
        make_state(&good);
    }
    let mut bytes = fs::read(&good).expect("the good one");
    let (cut, changes) = data.split_first().unwrap_or((&0, &[]));
    for change in changes.chunks_exact(5).take(200) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize % bytes.len();
        bytes[at] = change[4];
    }
    if *cut > 128 {
        bytes.truncate(bytes.len() / 128 * usize::from(*cut - 128));
    }
    let path = folder.join("state.db");
    for name in ["state.db-wal", "state.db-shm", "state.db-journal"] {
        let _ = fs::remove_file(folder.join(name));
    }
    for access in [Access::Read, Access::Watch] {
        fs::write(&path, &bytes).expect("written");
        match SqliteStore::open(&path, access) {
            Ok(mut store) => read_all(&mut store),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(fs::read(&path).expect("still there") == bytes, "what is refused is left as it is");
            }
        }
    }
}

/// Whatever can be asked of it is answered or refused.
fn read_all(store: &mut SqliteStore) {
    let sink = "a".into();
    let roster = store.roster();
    for known in roster.iter().flatten().take(100) {
        let _ = store.recall(&known.id);
        let _ = store.remembered(&known.id);
        let _ = store.known(std::slice::from_ref(&known.id));
        for event in store.story(&known.id).into_iter().flatten().take(10) {
            harmless(&text_line(&event));
        }
    }
    let now = at(1_800_000_000_000);
    let _ = store.everything();
    let _ = store.pending(&sink);
    let _ = store.stopped(&sink);
    let _ = store.salt();
    let _ = store.note("n");
    for letter in store.dead_letters(&DeadFilter::default()).into_iter().flatten().take(10) {
        let _ = store.dead_letter(letter.id);
    }
    let _ = store.undelivered(&OutboxFilter::default(), 100);
    for queue in store.queues().into_iter().flatten().take(100) {
        let due = store.due(&queue.sink, now, &HashSet::new(), 10, NonZeroUsize::MAX);
        for parcel in due.into_iter().flat_map(|due| due.parcels).take(10) {
            let _ = slack::body(&parcel);
        }
    }
    let write = store.apply(&[Write::Note { name: "n", value: "v".into() }]);
    assert!(matches!(write, Ok(()) | Err(StoreError::Failed { .. } | StoreError::Unusable { .. })));
    let _ = store.prune(now, &HashSet::new());
}

/// A small state with something of everything in it.
fn make_state(path: &Path) {
    let next = path.with_extension("next");
    let mut store = SqliteStore::open(&next, Access::Watch).expect("a new state");
    let mut run = Story::default();
    for status in ["waiting", "completed"] {
        let body = json!({"result": {"executionId": "exec_1", "status": "running", "startedAt": 1_777_374_504_364_i64,
            "steps": [{"stepId": "s1", "nodeId": "n", "nodeType": "human", "status": status, "output": {"decision": "approve"}}]}});
        let answer = Answer { body: body.to_string().into_bytes(), ..answer() };
        run.sees(&id(), &error::read(&id(), &answer).expect("a view"), None);
    }
    let sinks = vec!["a".into(), "b".into()];
    let events = run.told.into_iter().map(|told| record(told, &sinks)).collect();
    let observation = Observation {
        id: id(),
        label: Some("a label".into()),
        standing: Standing::Watching,
        memory: run.memory,
        fingerprint: Some(Fingerprint(7)),
        observed_at: at(1_800_000_000_000),
        events,
    };
    store.apply(&[Write::Observed(Box::new(observation))]).expect("stored");
    let delivery = store.oldest(&"b".into(), 1).expect("one").remove(0);
    let settlement =
        Settlement::Dead { reason: DeadReason::Refused, answer: "400 Bad Request".into(), at: at(1_800_000_000_000) };
    store.apply(&[Write::Settled { delivery: delivery.id, settlement }]).expect("settled");
    drop(store);
    fs::rename(next, path).expect("in place");
}
