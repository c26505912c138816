use super::*;

fn config(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let given = Given { config: Some(path), ..Given::default() };
    config::polling(&given, &Environment::from([("HOME", "/h")])).unwrap().config
}

fn plan(text: &str, executions: usize, delay: Option<u64>) -> Plan {
    Plan::new(&config(text), executions, format!("{executions} in executions.txt"), delay.map(Duration::from_secs))
}

#[test]
fn a_fleet_within_its_budget() {
    let plan = plan("", 100, None);
    insta::assert_snapshot!(plan.text());
    insta::assert_snapshot!(plain::pretty_json(&plan.json()));
}

#[test]
fn a_fleet_beyond_its_budget_and_a_wanted_delay() {
    let text = "[[discover]]\ndefinition = \"a\"\n";
    let plan = plan(text, 1_000, Some(30));
    insta::assert_snapshot!(plan.text());
    insta::assert_snapshot!(plain::pretty_json(&plan.json()));
}

#[test]
fn with_auto_the_longest_wait_is_what_the_fleet_makes_it() {
    insta::assert_snapshot!(plan("[poll]\nmax_interval = \"auto\"\n", 1_000, Some(1)).text());
    let unlimited = plan("[poll]\nmax_interval = \"auto\"\nrate_limit = inf\n", 1_000, None);
    assert!(unlimited.text().contains("every 2s to 2m (auto), ") && unlimited.text().contains("no budget to go by"));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&unlimited.json()).unwrap()["requestsPerMinute"]["budget"],
        serde_json::Value::Null
    );
}

#[test]
fn whatever_is_planned_fits_80_columns() {
    let table = "[[discover]]\ndefinition = \"a\"\n";
    for text in [
        "",
        table,
        "[poll]\nmax_interval = \"auto\"\n",
        "[poll]\nrate_limit = 0.013\nmultiplier = 1.123456\njitter = 0.123456\n",
    ] {
        for executions in [0, 1, 77, 12_345, 1_000_000] {
            for delay in [None, Some(1), Some(100), Some(1_000_000)] {
                let text = plan(text, executions, delay).text();
                for line in text.lines() {
                    assert!(line.chars().count() <= 80, "{line}");
                }
            }
        }
    }
}

#[test]
fn durations_are_spelled_so_that_the_configuration_reads_them() {
    for duration in [
        Duration::from_millis(10_500),
        Duration::from_secs(77),
        Duration::from_secs(61),
        Duration::from_secs(120),
        LONGEST,
    ] {
        assert_eq!(config::parse_duration(&spelled(duration)), Some(duration));
    }
}

#[test]
fn the_documented_plan_is_what_is_printed_and_its_configuration_loads() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pace.md")).unwrap();
    let (_, rest) = document.split_once("```text\n").unwrap();
    let shown = plan("", 1_000, Some(30)).text();
    assert_eq!(rest.split_once("```").unwrap().0, shown, "docs/pace.md should show:\n{shown}");
    let toml = document.split("```toml\n").nth(1).unwrap().split_once("```").unwrap().0;
    assert_eq!(format!("{:?}", config(toml).poll), format!("{:?}", config("").poll), "it shows the defaults");
    let terms = plan("", 1_000, None).terms;
    let warning = terms.pressed(&terms.demand(1_000), 0.0, false);
    let documented = document.rsplit("```text\n").next().unwrap().split_once("\n```").unwrap().0.replace('\n', " ");
    assert_eq!(documented, warning, "docs/pace.md should say:\n{warning}");
}
