//! Which of several sources counts, and what is in force where nobody has said anything.

use super::*;

#[test]
fn a_look_by_hand_takes_only_api_and_poll_and_keeps_nothing() {
    let text = "[api]\nurl = \"https://other.example\"\n[poll]\nrate_limit = 1\n[state]\npath = \"service.db\"\n[watch]\nfile = \"list\"\n\
        exit_when_done = false\nnot_found_grace = \"1h\"\n[log]\nlevel = \"error\"\n[daemon]\nshutdown_grace = \"1h\"\n[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"https://h/\"\n";
    let case = Case::new(text);
    let config = case.folder.path().join("xdg/velt-watch/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, text).unwrap();
    let xdg = case.folder.path().join("xdg");
    let environment = |more: (&'static str, &'static str)| {
        Environment::from([
            CREDENTIALS[0],
            CREDENTIALS[1],
            CREDENTIALS[2],
            ("XDG_CONFIG_HOME", xdg.to_str().unwrap()),
            more,
        ])
    };
    let given = Given { ids: true, ..Given::default() };
    let by_hand = load(&given, &environment(("X", ""))).unwrap().config;
    assert_eq!(by_hand.api.url, "https://other.example");
    assert_eq!(by_hand.poll.rate_limit, Rate::try_new(1.0).unwrap());
    assert_eq!(by_hand.state.path, StatePath::Memory);
    assert_eq!(by_hand.watch.file, None);
    assert_eq!(by_hand.watch.exit_when_done, None, "the service's word about its own end");
    assert_eq!((by_hand.watch.not_found_grace.as_secs(), by_hand.daemon.shutdown_grace.as_secs()), (120, 10));
    assert_eq!(by_hand.log.level, "info");
    assert_eq!(by_hand.sinks.len(), 1);
    assert!(matches!(by_hand.sinks[0].kind, SinkKind::Stdout { format: StdoutFormat::Json }));

    // What is wrong with the service's sinks is not the business of a look by hand.
    fs::write(&config, format!("{text}nonsense = 1\n")).unwrap();
    assert!(load(&given, &environment(("X", ""))).is_ok());
    assert!(load(&Given { once: true, ..given.clone() }, &environment(("X", ""))).is_err());
    fs::write(&config, text).unwrap();

    let durable = [
        (Given { once: true, ..given.clone() }, ("X", "")),
        (Given { config: Some(config.clone()), ..given.clone() }, ("X", "")),
        (Given { state: Some("s.db".into()), ..given.clone() }, ("X", "")),
        (Given { watch_file: Some("w".into()), ..given.clone() }, ("X", "")),
        (given.clone(), ("VELT_WATCH_STATE", "/s.db")),
        (given.clone(), ("STATE_DIRECTORY", "/var/lib/velt-watch")),
    ];
    for (given, variable) in durable {
        let config = load(&given, &environment(variable)).unwrap().config;
        assert_ne!(config.state.path, StatePath::Memory, "{given:?} {variable:?}");
        assert_eq!(config.sinks[0].name.as_str(), "hook", "{given:?}");
        assert_eq!(config.watch.file, given.watch_file, "IDs replace the configured sources");
    }
}

#[test]
fn flag_before_environment_before_file_before_default() {
    let watch = "[watch]\nexecutions = [\"e\"]\n";
    let path = |case: &Case| match case.load().unwrap().config.state.path {
        StatePath::File(path) => path,
        StatePath::Memory => ":memory:".into(),
    };
    let mut case = Case::new(watch);
    assert_eq!(path(&case), Path::new("/home/u/.local/state/velt-watch/state.db"));
    case.environment = [CREDENTIALS[0], CREDENTIALS[1], ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")].into();
    assert_eq!(path(&case), Path::new("/var/lib/a/state.db"));
    let mut case = Case::new(&format!("{watch}[state]\npath = \"file.db\"\n[api]\nurl = \"https://file.example/\"\n"));
    assert_eq!(path(&case), case.folder.path().join("file.db"), "relative to the file");
    assert_eq!(case.load().unwrap().config.api.url, "https://file.example");
    case.environment =
        [CREDENTIALS[0], CREDENTIALS[1], ("VELT_WATCH_STATE", "/env.db"), ("VELT_API_URL", "http://127.0.0.1:9")]
            .into();
    assert_eq!(path(&case), Path::new("/env.db"));
    assert_eq!(case.load().unwrap().config.api.url, "http://127.0.0.1:9");
    case.given.state = Some(":memory:".into());
    assert_eq!(path(&case), Path::new(":memory:"));
}

#[test]
fn credentials_from_the_file_win_and_none_at_all_names_three_ways() {
    let mut case = Case::new("[watch]\nexecutions = [\"e\"]\n[api]\nauth_token = \"inline\"\n");
    let config = case.load().unwrap().config;
    let read =
        |source: &SecretSource, environment: &Environment| source.read(environment).unwrap().expose_secret().to_owned();
    assert_eq!(read(&config.api.auth_token, &case.environment), "inline");
    assert_eq!(read(&config.api.api_key, &case.environment), "key");

    fs::write(case.folder.path().join("velt-api-key"), "credential").unwrap();
    let folder = case.folder.path().to_str().unwrap().to_owned();
    case.environment = [("CREDENTIALS_DIRECTORY", folder.as_str()), CREDENTIALS[2]].into();
    assert_eq!(read(&case.load().unwrap().config.api.api_key, &case.environment), "credential");

    case.environment = [CREDENTIALS[2]].into();
    let error = case.load().unwrap_err().to_string();
    for way in ["VELT_API_KEY", "VELT_API_KEY_FILE", "api.api_key"] {
        assert!(error.contains(way), "{error}");
    }
}

#[test]
fn stdout_is_there_by_default_by_option_and_not_otherwise() {
    let hook = "[watch]\nexecutions = [\"e\"]\n[[sink]]\nname = \"stdout\"\ntype = \"webhook\"\nurl = \"https://h/\"\n";
    let formats = |text: &str, output, is_terminal| {
        let mut case = Case::new(text);
        let stdout = if is_terminal { Stdout::Lines } else { Stdout::Pipe };
        case.given = Given { output, stdout, ..case.given };
        let sinks = case.load().unwrap().config.sinks;
        let format = |sink: &Sink| match sink.kind {
            SinkKind::Stdout { format } => Some(format),
            SinkKind::Webhook(_) => None,
        };
        assert!(sinks.iter().map(|sink| &sink.name).collect::<std::collections::HashSet<_>>().len() == sinks.len());
        sinks.iter().map(format).collect::<Vec<_>>()
    };
    let none = "[watch]\nexecutions = [\"e\"]\n";
    assert_eq!(formats(none, None, true), [Some(StdoutFormat::Text)]);
    let mut canvas = Case::new(none);
    canvas.given = Given { stdout: Stdout::Canvas, ..canvas.given };
    let format = |case: &Case| match case.load().unwrap().config.sinks[..] {
        [Sink { kind: SinkKind::Stdout { format }, .. }] => format,
        _ => panic!("not one stream"),
    };
    assert_eq!(format(&canvas), StdoutFormat::Live);
    canvas.given.once = true;
    assert_eq!(format(&canvas), StdoutFormat::Text, "a pass is over before anybody has looked");
    assert_eq!(formats(none, None, false), [Some(StdoutFormat::Json)]);
    assert_eq!(formats(none, Some(Output::Text), false), [Some(StdoutFormat::Text)]);
    assert_eq!(formats(hook, None, false), [None]);
    assert_eq!(formats(hook, Some(Output::Auto), false), [None, Some(StdoutFormat::Json)]);
    let both = format!("{hook}[[sink]]\nname = \"out\"\ntype = \"stdout\"\n");
    assert_eq!(formats(&both, Some(Output::Text), false), [None, Some(StdoutFormat::Text)]);
}

#[test]
fn slack_has_defaults_of_its_own_and_what_is_said_counts() {
    use crate::route::Initial;

    let sink = |more: &str| {
        let text = format!(
            "[watch]\nexecutions = [\"e\"]\n[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"https://h/\"\n{more}\n"
        );
        let Sink { filter, kind, .. } = Case::new(&text).load().unwrap().config.sinks.remove(0);
        let SinkKind::Webhook(webhook) = kind else { panic!("a webhook") };
        (webhook.rate_limit.per_second(), filter.initial)
    };
    assert_eq!(sink(""), (f64::INFINITY, Initial::All));
    assert_eq!(sink("format = \"slack\""), (1.0, Initial::Pressing));
    assert_eq!(sink("format = \"slack\"\ninitial = true\nrate_limit = 0.5"), (0.5, Initial::All));
    assert_eq!(sink("format = \"slack\"\ninitial = false\nrate_limit = inf"), (f64::INFINITY, Initial::None));
    assert_eq!(sink("initial = false"), (f64::INFINITY, Initial::None));
    // A relay in between may want to know who sends.
    assert_eq!(sink(&format!("format = \"slack\"\nsecret = \"{WHSEC}\"")), (1.0, Initial::Pressing));
}

#[test]
fn the_state_is_found_whatever_else_is_missing() {
    let case = Case::new("[state]\npath = \"s.db\"\n[api]\nauth_token_env = \"NOT_SET\"\n");
    let path = state_path(&case.given, &[("HOME", "/h")].into()).unwrap();
    assert_eq!(path, StatePath::File(case.folder.path().join("s.db")));
    assert_eq!(
        Duration::from_secs(2),
        Case::new("[watch]\nexecutions=[\"e\"]").load().unwrap().config.poll.pace.initial()
    );
}
