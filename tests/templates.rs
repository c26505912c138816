//! Templates through the real program: what a receiver gets, what becomes of an event that can't be rendered, and what a mistake in a
//! template looks like.

mod support;

use std::thread;

use serde_json::{Value, json};
use support::{Folder, PATIENCE, Program, STDOUT, by_execution, webhook_with};
use velt_sim::{Receiver, Settings, Sim, View, receiver::Answer};

/// A sink with this template, written over many lines.
fn templated(url: &str, body: &str, more: &str) -> String {
    webhook_with("chat", url, &format!("body = '''\n{body}'''\n{more}")).replace("\"json\"", "\"template\"")
}

#[test]
fn a_template_makes_the_body_of_each_event() {
    let sim = Sim::start(Settings::default().speed(200.0).seed(5)).unwrap();
    let receiver = Receiver::start().unwrap();
    // The same event has the same bytes at each attempt.
    receiver.answer_next([Answer::status(503)]);
    let folder = Folder::new();
    let id = sim.play("approval").unwrap();
    let body = r#"{"text": "{{ type }} of {{ data.step.nodeId if data.step else 'the run' }}",
        "label": {{ data.label }}, "data": {{ data }}}"#;
    let hook = templated(
        &receiver.url("/"),
        body,
        "content_type = \"application/vnd.example+json\"\nsecret = \"raw\"\nsignature = \"velt\"",
    );
    let config = folder.config(&format!("{STDOUT}{hook}[watch]\nfile = \"list\"\nexit_when_done = true\n"));
    folder.write("list", format!("{id}  Q2 \"launch\"\n"));
    let program = || Program::new(&folder, &sim).config(&config).state(folder.state());
    let ended = program().run().expect(0);

    let told = by_execution(&ended.events()).remove(&id).unwrap();
    let requests = receiver.wait_for_blocking(told.len() + 1, PATIENCE).unwrap();
    assert_eq!(requests.len(), told.len() + 1);
    assert_eq!(requests[0].body, requests[1].body);
    for (request, event) in requests[1..].iter().zip(&told) {
        assert_eq!(request.header("content-type"), Some("application/vnd.example+json"));
        assert_eq!(request.header("webhook-id"), Some(event.id()));
        assert!(request.header("x-velt-signature").is_some_and(|signature| signature.starts_with("sha256=")));
        let step = event.data()["step"]["nodeId"].as_str().unwrap_or("the run");
        let expected =
            json!({"text": format!("{} of {step}", event.kind()), "label": "Q2 \"launch\"", "data": event.data()});
        assert_eq!(request.json(), expected);
    }

    let said = program().arg("check").run().expect(0).stdout.join("\n");
    assert!(said.contains("template (application/vnd.example+json), 0 headers, signed"), "{said}");
    assert!(!said.contains("label"), "the body is not shown: {said}");
    let said = program().args(["test-sink", "chat"]).run().expect(0).stdout.join("\n");
    assert!(said.contains("chat: accepted"), "{said}");
    let test = receiver.received().pop().unwrap();
    assert_eq!(test.json()["text"], "watch.test of the run");
}

#[test]
fn an_event_that_cant_be_rendered_is_a_dead_letter_and_holds_nobody_up() {
    let sim = Sim::start(Settings::default().speed(0.0)).unwrap();
    // A status that nothing was tried with: its name is no number.
    sim.put(View::new("exec_1").status("completed").step("step_1", "odd", "agent", "on-fire"));
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let body = "{% if type == 'step.on-fire' %}{{ data.label / 2 }}{% else %}{{ type }}{% endif %}";
    let config = folder.config(&templated(&receiver.url("/"), body, ""));
    let program = || Program::new(&folder, &sim).config(&config).state(folder.state());
    let log = program().arg("exec_1").run().expect(20).log();
    assert!(log.contains("it can't be rendered for this sink"), "{log}");

    let sent: Vec<Value> = receiver.received().iter().map(|request| request.json()).collect();
    assert_eq!(sent, ["execution.completed"], "what came behind it went out");
    let dead = program().args(["dead-letters", "list"]).run().expect(0).stdout.join("\n");
    assert!(dead.contains("refused"), "{dead}");
    let shown = program().args(["dead-letters", "show", "1"]).run().expect(0).stdout.join("\n");
    assert!(shown.contains("step.on-fire") && shown.contains("it can't be rendered for this sink: "), "{shown}");
}

#[test]
fn a_mistake_in_a_template_is_told_with_its_place() {
    let folder = Folder::new();
    let with = |body: &str| templated("https://h.example/", body, "").replace("\n[[sink]]", "[[sink]]");
    // (body, line:column, what the message holds)
    for (body, place, holds) in [
        ("{\n  \"text\": {{ data.label | upcase }}\n}", "9:27", "unknown filter"),
        ("{\n  \"text\": {{ data.lable }}\n}", "9:14", "did you mean `data.label`?"),
        ("{\n  \"text\": {{ data.label }\n}", "9:25", "syntax error"),
        ("{\n  \"text\": {{ data.step.nodeId }}\n}", "9:18", "for the event execution.pending"),
        ("{\n  \"text\": {{ data.label }}\n  \"k3yk3yk3yk3ycanary\": 1\n}", "10:3", "the output is no JSON"),
    ] {
        folder.write("config.toml", with(body));
        let program = Program::bare(&folder).env("VELT_API_KEY", "key").env("VELT_AUTH_TOKEN", "token");
        let log = program.config("config.toml").args(["check"]).run().expect(78).log();
        assert!(log.contains(&format!("config.toml:{place}: sink[0].body: ")), "{body}: wanted {place}\n{log}");
        assert!(log.contains(holds) && log.contains("hint: "), "{body}: wanted {holds}\n{log}");
        assert!(!log.contains("canary"), "{log}");
    }
}

/// `times` of `text`.
fn many(text: &str, times: usize) -> String {
    text.repeat(times)
}

/// Templates that would take all memory, or all time, if the engine were left to itself.
fn hostile() -> Vec<String> {
    let doubled = |start: &str, step: &str, end: &str| format!("{{% set x = {start} %}}{}{end}", many(step, 60));
    let lists = |end: &str| doubled("[1]", "{% set x = [x, x] %}", end);
    let pair = format!("{}{}", lists(""), doubled("[1]", "{% set x = [x, x] %}", "").replace('x', "y"));
    let long = |end: &str| format!("{{% set s = 'ab' * 400000 %}}{{% set l = 'é' * 300000 %}}{end}");
    let again = |what: &str| long(&format!("{{% for i in range(99999) %}}{what}{{% endfor %}}"));
    vec![
        // Texts.
        doubled("'x'", "{% set x = x ~ x %}", "{{ x }}"),
        doubled("'x'", "{% set x = x + x %}", "{{ x | length }}"),
        doubled("'<'", "{% set x = x | escape %}", "{{ x }}"),
        doubled("'<'", "{% set x %}{{ x }}{{ x }}{% endset %}", "{{ x }}"),
        "{{ 'x' * 99999999 }}".into(),
        "{{ ('a' * 60000) | replace('a', 'b' * 60000) }}".into(),
        "{{ ('a' * 60000) | join('b' * 60000) }}".into(),
        "{{ ('a' * 90000) | replace('', 'b' * 90000) | length }}".into(),
        "{{ ('%(x)s' * 9000) | format(x='a' * 60000) | length }}".into(),
        "{{ '%99999999d' | format(1) }}{{ '%.99999999f' | format(1.5) }}".into(),
        "{{ ('\\n' * 9999) | indent(9999) | length }}".into(),
        "{{ ('a' * 5000000) | split('') | length }}".into(),
        "{{ ('\\n' * 5000000) | lines | length }}".into(),
        "{{ ('abc' * 50000) | list | sum(start='') | length }}".into(),
        "{{ \"\\u0001\" * 250000 }}{{ (\"\\u0001\" * 250000) | truncate(3) }}".into(),
        "{{ (\"\\u0001\" * 250000 ~ \"\\u0002\") | truncate(3) }}".into(),
        // Lists.
        lists("{{ x }}"),
        lists("{{ x ~ '' }}"),
        lists("{{ x | join }}"),
        lists("{{ x | string | length }}"),
        lists("{{ x | upper }}"),
        lists("{{ x | tojson }}"),
        lists("{{ x | urlencode }}"),
        lists("{{ x in 'abc' }}"),
        lists("{{ {'a': x} | dictsort | first | last | first | string }}"),
        lists("{% set x = x | map('string') %}{{ x | list | length }}"),
        format!("{pair}{{{{ x == y }}}}"),
        format!("{pair}{{{{ x < y }}}}"),
        format!("{pair}{{{{ x in [y] }}}}"),
        format!("{pair}{{{{ [x, y] | sort | length }}}}"),
        format!("{pair}{{{{ [x, y] | unique | length }}}}"),
        format!("{pair}{{{{ [[x, y]] | groupby(0) | length }}}}"),
        format!("{pair}{{{{ [x] is eq([y]) }}}}"),
        format!("{pair}{{% for z in [x, y] %}}{{{{ loop.changed(z) }}}}{{% endfor %}}"),
        doubled("(1, 1)", "{% set x = (x, x) %}", "{{ x ~ '' }}"),
        doubled("{'a': 1}", "{% set x = {'a': x, 'b': x} %}", "{{ x ~ '' }}"),
        doubled("{'a': 1}", "{% set x = x | chain(x) %}", "{{ x ~ '' }}"),
        doubled("[1]", "{% set x = x | zip(x) %}", "{{ x | list }}"),
        doubled("[1]", "{% set x = x | chain(x) %}", "{{ x | length }}{{ x ~ '' }}"),
        doubled("[1]", "{% set x = x + x %}", "{{ x ~ '' }}"),
        doubled("[1]", "{% set x = x * 2 %}", "{{ x ~ '' }}"),
        doubled("[1]", "{% set x = [x | list, x[:]] | list %}", "{{ x | last | string }}"),
        doubled("{}", "{% set x = [x | items, x] %}", "{{ x ~ '' }}"),
        "{{ [1] * 99999999 ~ '' }}".into(),
        "{% if ([1] * 99999999 ~ '') == 'x' %}{% endif %}".into(),
        "{% set n = 99999999 %}{{ [1] * n ~ '' }}".into(),
        "{% set n = 9999 %}{{ ([[1] * n] * n) ~ '' }}".into(),
        "{% set n = 99999999 %}{{ 2 in [1] * n }}".into(),
        "{% set x = range(99999) %}{{ [x, x, x, x, x, x, x, x, x, x, x, x] ~ '' }}".into(),
        "{{ [1] | batch(99999999, 0) | length }}".into(),
        "{{ [1] | slice(99999999, 0) | length }}".into(),
        "{% for x in [1] recursive %}{{ loop([x, x]) }}{% endfor %}".into(),
        // Again and again.
        again("{% if 'ba' * 300000 in s %}{% endif %}"),
        again("{% if s == s ~ '' %}{% endif %}"),
        again("{% if s ~ 'x' == s ~ 'y' %}{% endif %}"),
        long("{% set t = s ~ '' %}{% for i in range(99999) %}{% if s == t %}{% endif %}{% endfor %}"),
        again("{{ l[-1:] }}"),
        again("{{ l[::-250000] }}"),
        again("{{ l[299999] }}"),
        again("{{ l | last }}"),
        again("{{ l | upper | length }}"),
        again("{{ (l | title)[0] }}"),
        again("{{ {'a': 1}[s] }}"),
        again("{{ [1, 2] | map(attribute=s) | first }}"),
        again("{{ s is startingwith(s) }}"),
        again("{{ s is in([s, s]) }}"),
        again("{{ s | trim('ba') | length }}"),
        again("{{ s | trim(l) | length }}"),
        again("{% for c in l %}{% if loop.first %}{% endif %}{% endfor %}"),
        again("{% set a %}{{ s }}{% endset %}"),
        again("{{ [s, s] | sort | length }}"),
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}".into(),
        "{{ 9 ** 9 ** 9 ** 9 }}".into(),
    ]
}

#[test]
fn no_template_takes_all_memory_or_all_time() {
    // 256 MiB of addresses, of which the template's own stack takes 64, and 60 seconds of a processor. Past the one an allocation
    // fails, past the other the program is killed, and neither looks like a mistake in a template.
    let limits = ["sh", "-c", "ulimit -v 262144; ulimit -t 60; exec \"$@\"", "sh"].map(str::to_owned);
    let check = |folder: &Folder, body: &str, content_type: &str| {
        let more = format!("content_type = \"{content_type}\"\nevents = [\"execution.failed\"]\n");
        let watched = "[watch]\nexecutions = [\"exec_1\"]\n";
        folder.write("config.toml", templated("https://h.example/", body, &more) + watched);
        let program = Program::bare(folder).env("VELT_API_KEY", "key").env("VELT_AUTH_TOKEN", "token");
        let ended = program.config("config.toml").args(["check"]).launched_by(&limits).run();
        let log = ended.log();
        let told = log.contains("sink[0].body: ") && !log.contains("engine failed");
        assert!(ended.code == Some(0) || (ended.code == Some(78) && told), "{content_type}, {body}\n=> {ended:?}");
    };
    let (hostile, check) = (hostile(), &check);
    let cases: Vec<_> = hostile.iter().zip(["application/json", "text/html", "text/plain"].iter().cycle()).collect();
    thread::scope(|scope| {
        for cases in cases.chunks(cases.len().div_ceil(4)) {
            scope.spawn(move || {
                let folder = Folder::new();
                for (body, content_type) in cases {
                    check(&folder, body, content_type);
                }
            });
        }
    });
}
