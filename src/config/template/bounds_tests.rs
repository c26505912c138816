use std::collections::BTreeSet;

use minijinja::{Value, value::Serde};
use serde_json::json;

use super::{
    Language, NAME, Template, bounds,
    meter::{FILTERS, TESTS},
    samples,
};

/// What the engine says by itself, and what it says measured.
fn both_ways(source: &str, language: Language) -> [Result<String, String>; 2] {
    let mut environment = language.environment();
    environment.add_template_owned(NAME, source.to_owned()).unwrap_or_else(|error| panic!("{source}: {error}"));
    let event = samples::all(true).into_iter().find(|sample| sample.kind == "step.failed").unwrap().json;
    let mut context = event;
    context["n"] = json!([3, 1, 2]);
    context["people"] = json!([{"name": "b", "age": 2}, {"name": "a", "age": 1}, {"name": "c", "age": 2}]);
    context["deep"] = json!([[1, [2]], {"k": [3]}]);
    let context = Value::from(Serde(&context));
    let plain = environment.get_template(NAME).unwrap().render(context.clone());
    let measured = bounds::render(&environment, NAME, context);
    [plain, measured].map(|text| text.map_err(|error| format!("{:?} at {:?}", error.kind(), error.range())))
}

/// Each filter and each test, each operator, each way to jump.
const WORKS: &str = r#"
{{ -3 | abs }} {{ data | attr("label") }} {{ n | batch(2, 0) }} {{ 1 | bool }} {{ "aB" | capitalize }} {{ n | chain([4]) | list }}
{{ n | count }} {{ data.label | d("x") }} {{ data.correlationId | default("x", true) }} {{ {"b": 1, "a": 2} | dictsort }}
{{ "<" | e }} {{ "<" | escape }} {{ n | first }} {{ "1.5" | float }} {{ "%s-%05d" | format("a", 7) }} {{ people | groupby("age") }}
{{ "a\nb" | indent(2) }} {{ "7" | int }} {{ {"a": 1} | items }} {{ n | join("-") }} {{ people | join(", ", attribute="name") }}
{{ n | last }} {{ n | length }} {{ "a\nb" | lines }} {{ "abc" | list }} {{ "AB" | lower }} {{ people | map(attribute="name") }}
{{ ["a", "b"] | map("upper") | join }} {{ n | max }} {{ n | min }} {{ n | reject("odd") }} {{ people | rejectattr("age", "eq", 1) }}
{{ "aaa" | replace("a", "b", 2) }} {{ n | reverse }} {{ 2.567 | round(1) }} {{ "<b>" | safe }} {{ n | select("odd") }}
{{ people | selectattr("age", "eq", 2) | map(attribute="name") | list }} {{ n | slice(2) }} {{ n | sort(reverse=true) }}
{{ "a,b" | split(",") }} {{ 12 | string }} {{ n | sum }} {{ "ab cd" | title }} {{ n | tojson }} {{ " a " | trim }}
{{ "abcdef" | truncate(3) }} {{ [1, 1, 2] | unique }} {{ "ab" | upper }} {{ "a b&c" | urlencode }} {{ n | zip([4, 5, 6]) | list }}
{{ true is boolean }} {{ data is defined }}
{{ 4 is divisibleby(2) }} {{ "ab" is endingwith("b") }} {{ 1 is eq(1) }} {{ 1 is equalto 1 }} {{ "a" is escaped }} {{ 2 is even }}
{{ false is false }} {{ "upper" is filter }} {{ 1.5 is float }} {{ 1 is ge(1) }} {{ 2 is greaterthan(1) }} {{ 2 is gt(1) }}
{{ 1 is in([1]) }} {{ 1 is int }} {{ 1 is integer }} {{ n is iterable }} {{ 1 is le(1) }} {{ 1 is lessthan(2) }} {{ "a" is lower }}
{{ 1 is lt(2) }} {{ data is mapping }} {{ 1 is ne(2) }} {{ none is none }} {{ 1 is number }} {{ 1 is odd }} {{ "a" is safe }}
{{ 1 is sameas(1) }} {{ n is sequence }} {{ "ab" is startingwith("a") }} {{ "a" is string }} {{ "odd" is test }} {{ true is true }}
{{ nothing is undefined }} {{ "A" is upper }} {{ data.nothing is not defined }}
{{ 1 + 2 }} {{ "a" + "b" }} {{ n + [4] }} {{ 2 * 3 }} {{ "ab" * 3 }} {{ n * 2 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 5 }} {{ 7 / 2 }} {{ 3 - 5 }}
{{ -data.sequence }} {{ "a" ~ 1 ~ none ~ n }} {{ 1 == 1.0 }} {{ n == [3, 1, 2] }} {{ 1 != 2 }} {{ 1 < 2 < 3 }} {{ 3 >= 2 > 2 }} {{ 1 <= 1 }}
{{ "b" in "abc" }} {{ 9 not in n }} {{ "label" in data }} {{ 1 < 2 in [2] }} {{ not data.final and data.label or 1 }}
{{ (1, "a", n) }} {{ {"a": n, "b": {"c": data.sequence}} }} {{ [data.sequence, [n], {"x": deep}] }} {{ data["label"][0] }} {{ n[-1] }}
{{ "a" if data.final else "b" }} {{ "a" if data.final }} {{ {"step.failed": "x"}[type] or "y" }} {{ range(3) | list }} {{ range(3)[1] }}
{% for x in n if x > 1 %}{{ loop.index }}:{{ x }}{{ loop.cycle("a", "b") }}{{ loop.changed(x) }},{% else %}none{% endfor %}
{% for x in [] %}{{ x }}{% else %}none{% endfor %}{% for name, age in [("a", 1), ("b", 2)] %}{{ name }}{{ age }}{% endfor %}
{% for x in deep recursive %}{% if x is sequence %}[{{ loop(x) }}]{% else %}{{ x }}{% endif %}{% endfor %}
{% for x in deep recursive %}{% set inner = loop(x) if x is sequence %}({{ inner or x }}){% endfor %}{% for c in "héy" %}{{ c }}.{% endfor %}
{% set x %}<{{ data.label }}>{% endset %}{{ x | length }}{% set y | upper %}ab{% endset %}{{ y }}{% filter lower %}AB{% endfilter %}
{% with a = 1, b = [2] %}{{ a }}{{ b }}{% endwith %}{% set a, b = (1, 2) %}{{ a }}{{ b }}{% do range(2) %}
{% if data.step.error %}{% if n | length > 5 %}long{% elif n %}short{% else %}empty{% endif %}{% endif %}{% autoescape false %}{{ "<" }}{% endautoescape %}
{{ data.label | upper | truncate(5) ~ "!" }} {{ (people | map(attribute="name") | sort)[:2] }} {{ data.nothing | default("gone") }}
"#;

#[test]
fn measured_a_template_says_what_it_says_unmeasured() {
    for language in [Language::Plain, Language::Markup] {
        let [plain, measured] = both_ways(WORKS, language);
        assert_eq!(measured.as_ref().map(String::as_str), plain.as_ref().map(String::as_str));
        assert!(plain.is_ok(), "{plain:?}");
    }
    let json = WORKS.replace("{{ \"<\" | e }} {{ \"<\" | escape }}", "").replace("{{ \"<b>\" | safe }}", "");
    let [plain, measured] = both_ways(&json, Language::Json);
    assert!(plain.is_ok(), "{plain:?}");
    assert_eq!(measured, plain);
    // None is left out above.
    let tried = |word: &str, name: &str| WORKS.contains(&format!("{word} {name}"));
    let untried =
        FILTERS.iter().filter(|(name, _)| !tried("|", name)).chain(TESTS.iter().filter(|(name, _)| !tried("is", name)));
    assert_eq!(untried.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
    assert_eq!(bounds::check(WORKS, NAME), Ok(()));
    // Each name once, or the wrong call could stand for it.
    for all in [&FILTERS[..], &TESTS[..]] {
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}

#[test]
fn mistakes_are_the_same_measured_and_stand_in_the_same_place() {
    for source in [
        "{{ data.x.y }}",
        "a\n{{ 1 + \n n }}",
        "{{ 'a' | int }}",
        "\n\n{{ n | join(1, 2, 3, 4) }}",
        "{{ data.label / 2 }}",
        "{{ n | sort(1) }}",
        "{% for x in 1 %}{% endfor %}",
        "{% set a, b = n %}",
        "{{ n | map('nothing') | list }}",
        "{{ n | select('nothing') | list }}",
        "{{ nothing() }}",
        "{{ 1 is divisibleby }}",
        "{{ data['x']['y'] }}",
        "{{ nothing[0] }}",
        "{{ nothing ~ 1 }}",
        "{{ nothing == 1 }}",
        "{{ 1 in nothing }}",
        "{{ nothing | upper }}",
        "{{ n[::0] }}",
        "{{ data[1:2] }}",
        "{{ 9 | format }}",
        "{{ n ** 'x' }}",
    ] {
        for language in [Language::Plain, Language::Json] {
            let [plain, measured] = both_ways(source, language);
            assert_eq!((&measured, measured.is_err()), (&plain, true), "{source}");
        }
    }
}

#[test]
fn slices_are_those_of_the_engine() {
    let ends = ["", "0", "1", "2", "5", "9", "-1", "-2", "-5", "-9"];
    for value in ["'abcde'", "'aüßd€'", "[1, 2, 3, 4, 5]", "(1, 2, 3)", "''", "[]", "none", "range(4)"] {
        let steps = ["", ":1", ":2", ":7", ":-1", ":-2", ":9223372036854775807", ":-9223372036854775807"];
        let mut source = vec![];
        for (start, stop) in ends.iter().flat_map(|start| ends.iter().map(move |stop| (start, stop))) {
            let slices = steps.map(|step| format!("{{{{ ({value}[{start}:{stop}{step}]) | list | tojson }}}}"));
            source.push(format!("{start}:{stop}{}\n", slices.concat()));
        }
        let [plain, measured] = both_ways(&source.concat(), Language::Plain);
        assert!(plain.as_ref().is_ok_and(|text| text.lines().count() == 100), "{plain:?}");
        assert_eq!(measured, plain, "{value}");
    }
}

#[test]
fn what_cant_be_measured_is_refused_with_its_place() {
    // (template, what stands at the place, what is told)
    for (source, place, holds) in [
        ("1\n{{ [1] * 99999999 ~ '' }}", "[1] *", "list of constants"),
        ("{{ ([1] + [2]) * 3 }}", "[1] +", "list of constants"),
        ("{{ ([1] and [2]) * 3 }}", "([1]", "list of constants"),
        ("{% if 1 in ('a' ~ {'a': 1}) %}{% endif %}", "'a' ~", "list of constants"),
        ("{% for x in data %}{{ data | map(attribute=[1] * 9) }}{% endfor %}", "[1] *", "list of constants"),
        ("{{ {data.label: 1} }}", "data.label", "keys of a `{…}`"),
        ("{{ {[1]: 1} }}", "[1]", "keys of a `{…}`"),
        ("{{ range(*data) }}", "data)", "written out one by one"),
        ("{{ data | join(**data) }}", "data)", "written out one by one"),
        ("{{ data.label.upper() }}", ".upper()", "nothing here has a method"),
        ("{{ [range][0](5) }}", "[0](5)", "only what has a name"),
        ("{% for x in data %}{{ loop.changed(x, x) }}{% endfor %}", ".changed(", "takes one value"),
        ("{% if false %}{{ 1 | nice }}{% endif %}", "nice }}", "unknown filter: nice"),
        ("{% if false %}{{ 1 is nice }}{% endif %}", "nice }}", "unknown test: nice"),
        ("{{ dict(a=1) }}", "dict", "no event has `dict`"),
        ("{% set x | nice %}{% endset %}", "nice", "unknown filter: nice"),
    ] {
        let fault = Template::new(source, "text/plain").unwrap_err();
        assert!(fault.what.contains(holds), "{source}\n=> {fault:?}");
        let at = fault.at.unwrap_or_else(|| panic!("{source}: no place, {fault:?}"));
        assert!(source[at..].starts_with(place), "{source}\n=> {:?}, {fault:?}", &source[at..]);
    }
}
