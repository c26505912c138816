use proptest::prelude::*;
use serde_json::{Value as Tree, json};

use super::*;

fn template(source: &str, content_type: &str) -> Template {
    Template::new(source, content_type).unwrap_or_else(|fault| panic!("{source}\n=> {fault:?}"))
}

/// An event of a waiting step, in which `label` is what somebody outside wrote.
fn event(label: &str) -> Tree {
    let mut samples = samples::all(true);
    let index = samples.iter().position(|sample| sample.kind == "step.failed").unwrap();
    let mut event = samples.swap_remove(index).json;
    event["data"]["label"] = label.into();
    event["data"]["step"]["nodeId"] = label.into();
    event["data"]["step"]["error"]["message"] = label.into();
    event
}

fn rendered(source: &str, content_type: &str, event: &Tree) -> String {
    template(source, content_type).render(&event.to_string()).unwrap_or_else(|fault| panic!("{source}\n=> {fault:?}"))
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

#[test]
fn each_value_is_json_or_text_by_where_it_stands() {
    let mut event = event("a \"b\" \\ c\nd");
    event["data"]["correlationId"] = Tree::Null;
    event["data"]["step"]["output"] = json!({"k\"": [1.5, null, "\u{1}\"x\"\u{2}"]});
    for (source, expected) in [
        ("{{ data.label }}", r#""a \"b\" \\ c\nd""#),
        (r#""{{ data.label }}""#, r#""a \"b\" \\ c\nd""#),
        (r#"{"x": "<{{ data.label }}> {{ data.label }}"}"#, r#"{"x": "<a \"b\" \\ c\nd> a \"b\" \\ c\nd"}"#),
        (r#"{"{{ data.label }}": 1}"#, r#"{"a \"b\" \\ c\nd": 1}"#),
        (r#"{{ "Step " ~ data.label ~ "!" }}"#, r#""Step a \"b\" \\ c\nd!""#),
        ("[{{ data.sequence }}, {{ data.final }}, {{ data.correlationId }}]", "[3, false, null]"),
        (r#""{{ data.sequence }} {{ data.final }} <{{ data.correlationId }}>""#, r#""3 false <>""#),
        ("{{ data.step.output }}", r#"{"k\"":[1.5,null,"�\"x\"�"]}"#),
        (r#""{{ data.step.output }}""#, r#""{\"k\\\"\":[1.5,null,\"�\\\"x\\\"�\"]}""#),
        ("{{ data.label | tojson }}", r#""a \"b\" \\ c\nd""#),
        (r#""{{ data.label | tojson(indent=2) }}""#, r#""a \"b\" \\ c\nd""#),
        (r#"{{ "" ~ (data.label | tojson) }}"#, r#""\"a \\\"b\\\" \\\\ c\\nd\"""#),
        (r#"{{ data.correlationId or "none" }}"#, r#""none""#),
        ("{{ 1 if data.final }}", "null"),
        ("{{ [data.sequence, {'a': data.label}] }}", r#"[3,{"a":"a \"b\" \\ c\nd"}]"#),
        (
            r#"{% set x %}<{{ data.label }}>{% endset %}["{{ x }}", {{ x }}]"#,
            r#"["<a \"b\" \\ c\nd>", "<a \"b\" \\ c\nd>"]"#,
        ),
        (r"{% set x %}<{{ data.label }}>{% endset %}{{ x | truncate(4) }}", r#""<a …""#),
        (r#"{% autoescape false %}"{{ data.label }}"{% endautoescape %}"#, r#""a \"b\" \\ c\nd""#),
        (r#""\\{{ data.sequence }}""#, r#""\\3""#),
    ] {
        assert_eq!(rendered(source, JSON, &event), expected, "{source}");
    }
}

#[test]
fn other_types_have_their_own_escapes_or_none() {
    let mut event = event("<b> & \"q\"");
    event["data"]["correlationId"] = Tree::Null;
    for (source, content_type, expected) in [
        ("{{ data.label }} {{ data.final }} {{ data.correlationId }}.", TEXT, "<b> & \"q\" false ."),
        ("{{ data.execution.steps }}", TEXT, r#"{"completed":1,"running":1,"total":4,"waiting":2}"#),
        (
            "{{ data.label }}|{{ data.correlationId }}|{{ data.final }}",
            "text/html",
            "&lt;b&gt; &amp; &quot;q&quot;||false",
        ),
        ("{{ data.label }}", "application/atom+xml", "&lt;b&gt; &amp; &quot;q&quot;"),
        ("{{ data.label | safe }}", "TEXT/HTML; charset=utf-8", "<b> & \"q\""),
        ("{{ data.label }}", "application/problem+json", r#""<b> & \"q\"""#),
        ("text={{ data.label | urlencode }}", "application/x-www-form-urlencoded", "text=%3Cb%3E%20%26%20%22q%22"),
        ("{{ data.correlationId | urlencode }}.", "application/x-www-form-urlencoded", "."),
        (
            "{{ 'ünder' | truncate(3) }}{{ 'ab' | truncate(1, end='') }}{{ data.correlationId | truncate(5) }}",
            TEXT,
            "ün…a",
        ),
    ] {
        assert_eq!(rendered(source, content_type, &event), expected, "{source}");
    }
}

#[test]
fn what_is_cut_has_at_most_the_length_asked_for() {
    for (length, expected) in [(0, ""), (1, "…"), (2, "1…"), (9, "12345678…"), (10, "1234567890")] {
        assert_eq!(rendered(&format!("{{{{ '1234567890' | truncate({length}) }}}}"), TEXT, &event("")), expected);
    }
}

#[test]
fn faults_are_told_with_their_place() {
    // (template, what stands at the place, what is told)
    for (source, place, holds) in [
        ("{\"a\": {{ data.label }", "}", "syntax error"),
        ("{\"a\":\n  {{ data.label | upcase }}\n}", "upcase", "unknown filter"),
        ("{{ data.label is nice }}", "nice", "unknown test"),
        ("{{ nice() }}", "nice", "no event has `nice`"),
        ("{% if false %}{{ data.lable }}{% endif %}", "data.lable", "no event has `data.lable`"),
        ("{% if datta.label %}{% endif %}1", "datta.label", "no event has `datta.label`"),
        ("[1,\n {{ data.step.nodeId }}]", ".step.nodeId", "execution.pending: there is nothing by this name in it"),
        ("{\"a\": 1\n \"b\": {{ data.label }}}", "\"b\"", "the output is no JSON, expected `,` or `}`"),
        ("[{{ data.sequence }} {{ data.label }}]", "data.label", "the output is no JSON"),
        ("{\"a\": [1", "", "EOF"),
        ("\"\\{{ data.label }}\"", "data.label", "a backslash stands before"),
        ("{% for x in range(9999) %}{% for y in range(9999) %}{% endfor %}{% endfor %}", "", "takes too long"),
        ("\"{{ 'xxxxxxxxxx' * 30000 }}\"", "", "longer than 256 KiB"),
        ("{{ 'x' * 99999999 }}", "'x'", "takes too long"),
        ("{{ debug() }}", "debug", "no event has `debug`"),
        ("{{ data.label | safe }}", "safe", "unknown filter"),
        ("{% include \"/etc/passwd\" %}", "include", "syntax error"),
        ("{% macro m() %}{% endmacro %}", "macro", "syntax error"),
        ("1 \u{1}", "\u{1}", "control character"),
    ] {
        let fault = Template::new(source, JSON).and_then(|template| template.check(|_| true, false)).expect_err(source);
        assert!(fault.what.contains(holds), "{source}\n=> {fault:?}");
        if !place.is_empty() {
            let at = fault.at.unwrap_or_else(|| panic!("{source}: no place, {fault:?}"));
            assert!(source[at..].starts_with(place), "{source}\n=> {:?}, {fault:?}", &source[at..]);
        }
    }
    let long = "x".repeat(LONGEST + 1);
    assert!(Template::new(&long, TEXT).unwrap_err().what.contains("16 KiB"));
    assert_eq!(Template::new("{{ data.lable }}", TEXT).unwrap_err().hint.unwrap(), "did you mean `data.label`?");
}

#[test]
fn each_type_that_a_sink_can_be_sent_is_tried() {
    let only = |kind: &str, source: &str| template(source, JSON).check(|candidate| candidate == kind, false);
    for kind in samples::all(false).into_iter().map(|sample| sample.kind) {
        let fails = format!("{{% if type == \"{kind}\" %}}{{{{ data.nothing.at.all }}}}{{% endif %}}1")
            .replace("nothing", "execution.steps.x");
        let fault = only(&kind, &fails).unwrap_err();
        assert!(fault.what.starts_with(&format!("fails for the event {kind}")), "{fault}");
        if kind != samples::TEST {
            assert_eq!(only("execution.completed", &fails).is_ok(), kind != "execution.completed", "{kind}");
        }
    }
    let guarded = r#"{% if data.step %}{{ data.step.nodeId }}{% else %}"no step"{% endif %}"#;
    assert_eq!(template(guarded, JSON).check(|_| true, false), Ok(()));
    // Both variants are tried: with something and with nothing in it.
    for source in ["{{ data.label | length }}", "{% for x in data.step.output %}{% endfor %}1"] {
        assert!(template(source, JSON).check(|_| true, false).is_err(), "{source}");
    }
    let output = "{% if data.step and data.step.output %}{{ data.step.output.comment }}{% else %}0{% endif %}";
    assert_eq!(template(output, JSON).check(|_| true, true), Ok(()));
}

#[test]
fn what_may_be_a_key_is_never_shown() {
    let key = "R0ut1ngK3yCanary0123456789abcdef";
    let source = format!("{{\"routing_key\": \"{key}\" \"x\": {{{{ data.label }}}}}}");
    let template = template(&source, JSON);
    let fault = template.check(|_| true, false).unwrap_err();
    assert!(fault.what.contains("no JSON") && fault.what.contains("…\" "), "{fault}");
    assert!(!format!("{fault:?} {template:?}").contains("Canary"), "{fault:?}");
    let keys = template.keys();
    assert_eq!(keys.iter().map(secrecy::ExposeSecret::expose_secret).collect::<Vec<_>>(), [key]);
    assert_eq!(
        Template::new("https://adaptivecards.io/schemas/adaptive-card.json 2026-11-23", TEXT).unwrap().keys().len(),
        0
    );
    for source in [format!("{{{{ {key}.x }}}}"), format!("{{{{ 1 {key} }}}}"), format!("{{{{ 1 | {key} }}}}")] {
        let fault = Template::new(&source, JSON).and_then(|template| template.check(|_| true, false)).unwrap_err();
        assert!(!format!("{fault:?}").contains("Canary"), "{fault:?}");
    }
}

#[test]
fn what_nests_deeply_ends_with_a_fault_or_a_body() {
    // On a test's small stack: what is nested is dropped and written recursively.
    let repeat = |text: &str, times| text.repeat(times);
    for source in [
        repeat("{% set x = [x] %}", 900) + "{{ x }}",
        // Small to hold, and endless to write.
        format!("{{% set x = [1] %}}{}{{{{ x }}}}", repeat("{% set x = [x, x] %}", 60)),
        format!("{{% set x = 1 %}}{}{{{{ x }}}}", repeat("{%set x=[[[[[[[[[[x]]]]]]]]]]%}", 500)),
        format!(
            "{{% for x in [1] recursive %}}{{{{ loop([{}x{}]) }}}}{{% endfor %}}",
            repeat("[", 100),
            repeat("]", 100)
        ),
        repeat("{% if 1 %}", 1_000),
        repeat("(", 9_000),
        format!("{{{{ {}1{} }}}}", repeat("[", 5_000), repeat("]", 5_000)),
        format!("{{{{ {}1 }}}}", repeat("not ", 3_000)),
        format!("{{{{ 1{} }}}}", repeat("|int", 3_000)),
    ] {
        let _ = Template::new(&source, JSON).and_then(|template| template.check(|_| true, false));
    }
}

/// Places that an event's words can take, each with the words in it.
const HOSTILE: &str = r#"{
  "value": {{ data.label }}, "joined": {{ "Step " ~ data.step.nodeId ~ " failed" }},
  "text": "{{ data.step.nodeId }}: {{ data.step.error.message }}", "cut": {{ data.label | truncate(20) }},
  "{{ data.label }}#": 1, "whole": {{ data.step }}, "quoted": "{{ data.step }}", "json": "{{ data.label | tojson }}",
  {%- set block %}<{{ data.label }}>{% endset %}
  "block": "{{ block }}", "upper": {{ data.label | upper }}, "replaced": "{{ data.label | replace('\\', '\"') }}"
}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_an_event_says_the_json_keeps_its_structure(
        label in prop_oneof![any::<String>(), "[\"\\\\{}\\[\\],:\u{1}\u{2}a0\n ]{0,30}", "\u{1}[\"0-9a-z,:]{0,5}\u{2}"],
    ) {
        let sent: Tree = serde_json::from_str(&rendered(HOSTILE, JSON, &event(&label))).unwrap();
        // The two characters that mark values.
        let label = label.replace(['\u{1}', '\u{2}'], "\u{fffd}");
        let event = event(&label);
        prop_assert_eq!(sent.as_object().unwrap().len(), 11);
        prop_assert_eq!(&sent["value"], &Tree::from(&*label));
        prop_assert_eq!(&sent["joined"], &Tree::from(format!("Step {label} failed")));
        prop_assert_eq!(&sent["text"], &Tree::from(format!("{label}: {label}")));
        prop_assert_eq!(&sent[format!("{label}#")], &Tree::from(1));
        prop_assert_eq!(&sent["whole"], &event["data"]["step"]);
        prop_assert_eq!(&serde_json::from_str::<Tree>(sent["quoted"].as_str().unwrap()).unwrap(), &event["data"]["step"]);
        prop_assert_eq!(&sent["json"], &Tree::from(&*label));
        prop_assert!(sent["cut"].as_str().unwrap().chars().count() <= 20);
        // The same event has the same bytes.
        prop_assert_eq!(rendered(HOSTILE, JSON, &event), rendered(HOSTILE, JSON, &event));
    }

    #[test]
    fn no_template_panics_or_hangs(
        noise in any::<String>(),
        source in proptest::collection::vec(prop_oneof![
            Just("{{ ".to_owned()), Just(" }}".to_owned()), Just("{% ".to_owned()), Just(" %}".to_owned()),
            "(for x in |if |endfor|endif|set x = |else|range\\(99999\\)|data|data\\.step|\\.nodeId|x|loop| recursive)",
            "(\\||~|\\*|\\+|\\(|\\)|\\[|\\]|,|'a'|9999999| in | and |tojson|truncate|sort|batch\\(2\\)|indent\\(999999\\)|format)",
            "(\\{% set x = (\\[x, x\\]|x ~ x|x \\+ x|x \\* 99|x \\| (list|string|items|zip\\(x\\)|chain\\(x\\)|join\\(x\\))|x\\[::-1\\]|'é' \\* 9999) %\\})",
            "(\\{\\{ (x|x == x ~ x|x in \\[x\\]|x < \\[x\\]|x \\| (unique|sum\\(start=x\\)|replace\\(x, x\\)|format\\(x\\)|length)) \\}\\})",
            "[\"\\\\{}:\u{e9}\n]{0,4}",
        ], 0..30),
    ) {
        for source in [noise, source.concat()] {
            for content_type in [JSON, TEXT, "text/html"] {
                let checked = Template::new(&source, content_type).and_then(|template| {
                    template.check(|kind| kind == "step.failed", true)?;
                    template.render(&event("x").to_string())
                });
                match checked {
                    Ok(body) => prop_assert!(body.len() <= OUTPUT),
                    Err(fault) => {
                        prop_assert!(fault.at.is_none_or(|at| at <= source.len()), "{:?}", fault);
                        prop_assert!(!fault.what.contains(|c: char| c.is_control()), "{:?}", fault);
                    }
                }
            }
        }
    }
}
