//! `velt-watch timeline`: a run that was watched, drawn from the state.

mod support;

use serde_json::Value;
use support::{Ended, Folder, PATIENCE, Program};
use velt_sim::{Settings, Sim, View};

/// Lets the program watch a whole run of `scenario`, and gives its ID.
fn watched(folder: &Folder, sim: &Sim, scenario: &str) -> String {
    let id = sim.play(scenario).unwrap();
    let running = Program::new(folder, sim).config(folder.config("")).state(folder.state()).arg(&id).start();
    loop {
        let now = sim.view(&id).expect("a run");
        sim.wait_until_blocking(
            |log| {
                let last = log.iter().rev().find(|read| read.execution_id.as_deref() == Some(&id));
                last.and_then(|read| read.view()).is_some_and(|shown| shown == now)
            },
            PATIENCE,
        )
        .expect("it is read");
        if !sim.advance_to_next(&id) {
            break;
        }
    }
    running.wait(PATIENCE).expect(0);
    id
}

fn timeline(folder: &Folder, args: &[&str], lang: &str, columns: &str) -> Ended {
    let program = Program::bare(folder).state(folder.state()).env("LANG", lang).env("COLUMNS", columns);
    program.arg("timeline").args(args).run()
}

/// Before any clock of today, so that what the API tells comes before what is observed.
fn slow() -> Sim {
    Sim::start(Settings::default().speed(0.0).seed(7).epoch_ms(1_777_374_504_364)).unwrap()
}

#[test]
fn a_watched_run_is_drawn_with_its_rounds_its_groups_and_its_decisions() {
    let (folder, sim) = (Folder::new(), slow());
    let id = watched(&folder, &sim, "rejection-loop");
    for columns in [80, 120, 250] {
        let drawn = timeline(&folder, &[&id], "C.UTF-8", &columns.to_string()).expect(0).stdout;
        let text = drawn.join("\n");
        for part in
            ["parallel-review #1", "parallel-review #2", "human-legal #2", "agent-draft #1", "reject", "░", "approve"]
        {
            assert!(text.contains(part), "{columns}, {part}:\n{text}");
        }
        assert!(drawn.iter().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
        assert!(!text.contains('\u{1b}'), "no colour where nobody looks");
    }
    let plain = timeline(&folder, &[&id], "C", "100").expect(0).stdout.join("\n");
    assert!(plain.is_ascii() && plain.contains("---"), "{plain}");

    let json = timeline(&folder, &[&id, "--json"], "C", "80").expect(0).stdout;
    let document: Value = serde_json::from_str(&json.concat()).unwrap();
    assert_eq!((&document["executionId"], &document["status"]), (&id.into(), &"completed".into()));
    let steps = document["steps"].as_array().unwrap();
    let rejected: Vec<_> = steps.iter().filter(|step| step["decision"] == "reject").collect();
    assert_eq!(rejected.len(), 1);
    let spans = rejected[0]["spans"].as_array().unwrap();
    assert_eq!(spans.last().unwrap()["status"], "waiting");
    assert_eq!(spans.last().unwrap()["to"], rejected[0]["endedAt"]);
}

#[test]
fn a_breach_is_seen_and_a_run_that_goes_on_has_an_open_end() {
    let (folder, sim) = (Folder::new(), slow());
    let id = watched(&folder, &sim, "sla-breach-escalated");
    let text = timeline(&folder, &[&id], "C.UTF-8", "100").expect(0).stdout.join("\n");
    // The run is a moment of simulated time on an axis that ends now: what is left of the bar is its end.
    assert!(text.contains("! ") && text.contains("breached"), "{text}");

    sim.put(View::new("exec_open").step("s1", "human-legal", "human", "waiting"));
    let running =
        Program::new(&folder, &sim).config(folder.config("")).state(folder.path("open.db")).arg("exec_open").start();
    let draw = || {
        let program = Program::bare(&folder).state(folder.path("open.db")).env("LANG", "C.UTF-8");
        program.args(["timeline", "exec_open"]).run()
    };
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let drawn = draw();
        let text = drawn.stdout.join("\n");
        if drawn.code == Some(0) && text.contains('▶') && text.contains("goes on") {
            break;
        }
        assert!(std::time::Instant::now() < until, "{drawn:?}");
    }
    running.stop();
}

#[test]
fn mistakes_have_their_codes() {
    let (folder, sim) = (Folder::new(), slow());
    timeline(&folder, &["exec_1"], "C", "80").expect(74);
    watched(&folder, &sim, "skip");
    let unknown = timeline(&folder, &["exec_1"], "C", "80").expect(2);
    assert!(unknown.log().contains("exec_1 is unknown to this state"), "{}", unknown.log());
    timeline(&folder, &["not/an/id"], "C", "80").expect(2);
    timeline(&folder, &[], "C", "80").expect(2);
}
