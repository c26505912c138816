use super::*;

const WATCH: &str = "[watch]\nexecutions = [\"e\"]\n";

#[test]
fn thresholds_of_every_table_are_put_together() {
    let load = |text: &str| Case::new(&format!("{WATCH}{text}")).load().unwrap().config;
    let shown = |text: &str| -> Vec<String> {
        let of = |threshold: &crate::config::Threshold| format!("{} {}", threshold.spelled, threshold.after.as_secs());
        load(text).remind.iter().map(of).collect()
    };
    assert_eq!(shown(""), [""; 0]);
    let tables = "[[remind]]\nafter = [\"24h\", \"240m\"]\n[[remind]]\nafter = [\"4h\", \" 30s\"]\n";
    assert_eq!(shown(tables), ["30s 30", "240m 14400", "24h 86400"]);
    assert_eq!(load("stalled_after = \"0s\"").watch.stalled_after, None);
    assert_eq!(load("stalled_after = \"90m\"").watch.stalled_after, Some(Duration::from_secs(5_400)));
    assert!(load("").heartbeat.is_none());
    let heartbeat = load("[heartbeat]\nurl = \"https://hc.example/canary\"").heartbeat.unwrap();
    assert_eq!(heartbeat.every, Duration::from_secs(60));
    assert!(!format!("{heartbeat:?}").contains("canary"));
}

#[test]
fn what_is_wrong_with_them_is_told_with_its_place() {
    for (text, place, parts) in [
        ("[[remind]]\nafter = []", "2:9", ["remind[0].after", "is empty"]),
        ("[[remind]]\n", "1:1", ["remind[0].after", "is missing"]),
        ("[[remind]]\nafter = \"4h\"", "2:9", ["remind[0].after", "an array of strings"]),
        ("[[remind]]\nafter = [\"4h\", \"4 hours\"]", "2:16", ["remind[0].after[1]", "no duration"]),
        ("[[remind]]\nafter = [\"0s\"]", "2:10", ["remind[0].after[0]", "above zero"]),
        ("[[remind]]\nafer = [\"4h\"]", "2:1", ["remind[0].afer", "did you mean `after`"]),
        ("[remind]\nafter = [\"4h\"]", "1:1", ["remind", "write [[remind]]"]),
        ("[heartbeat]\nevery = \"1m\"", "1:1", ["heartbeat.url", "is missing"]),
        ("[heartbeat]\nurl = \"https://h/canary\"\nevery = \"0s\"", "3:9", ["heartbeat.every", "above zero"]),
        ("[heartbeat]\nurl = \"ftp://h/canary\"", "2:7", ["heartbeat.url", "http or https"]),
        ("[heartbeat]\nurl = \"canary\"", "2:7", ["heartbeat.url", "is no URL"]),
        ("[heartbeat]\nurl_env = \"NOT_SET\"", "2:11", ["heartbeat.url_env", "NOT_SET is not set"]),
        ("[watch]\nstalled_after = 5", "2:17", ["watch.stalled_after", "a duration in quotes"]),
    ] {
        let told = Case::new(text).load().unwrap_err().to_string();
        assert!(told.contains(&format!("config.toml:{place}: ")), "{text}: {told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{text}: {told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn a_heartbeat_in_the_clear_is_warned_about_without_its_url() {
    let open = Case::new(&format!("{WATCH}[heartbeat]\nurl = \"http://hc.example/canary\"\n")).load().unwrap();
    let warnings = open.warnings.join("\n");
    assert!(warnings.contains("heartbeat: plain http") && !warnings.contains("canary"), "{warnings}");
    for near in ["http://127.0.0.1:8080/x", "http://10.0.0.1/x", "https://hc.example/x"] {
        assert_eq!(
            Case::new(&format!("{WATCH}[heartbeat]\nurl = \"{near}\"\n")).load().unwrap().warnings,
            [""; 0],
            "{near}"
        );
    }
}

#[test]
fn a_look_by_hand_reminds_nobody_and_sends_no_sign_of_life() {
    let text =
        "[watch]\nstalled_after = \"1h\"\n[[remind]]\nafter = [\"4h\"]\n[heartbeat]\nurl = \"https://hc.example/x\"\n";
    let case = Case::new("");
    let config = case.folder.path().join("velt-watch/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, text).unwrap();
    let xdg = ("XDG_CONFIG_HOME", case.folder.path().to_str().unwrap());
    let environment = Environment::from([CREDENTIALS[0], CREDENTIALS[1], CREDENTIALS[2], xdg]);
    let by_hand = load(&Given { ids: true, ..Given::default() }, &environment).unwrap().config;
    assert_eq!((by_hand.watch.stalled_after, by_hand.remind.len()), (None, 0));
    assert!(by_hand.heartbeat.is_none());
}
