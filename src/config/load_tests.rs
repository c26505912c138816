use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::config::{Dialect, Rate, WebhookFormat};

#[path = "attention_tests.rs"]
mod attention;
#[path = "precedence_tests.rs"]
mod precedence;

const CREDENTIALS: [(&str, &str); 3] = [("VELT_API_KEY", "key"), ("VELT_AUTH_TOKEN", "token"), ("HOME", "/home/u")];

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct Case {
    folder: tempfile::TempDir,
    given: Given,
    environment: Environment,
}

impl Case {
    /// A configuration in a folder of its own; the environment holds credentials.
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let given = Given { config: Some(path), ..Given::default() };
        Self { folder, given, environment: CREDENTIALS.into() }
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.given, &self.environment)
    }
}

const EXAMPLE: &str = include_str!("../../config.example.toml");

#[test]
fn the_example_states_the_true_defaults() {
    let shown = |text: &str| {
        let case = Case::new(&format!("{text}\n"));
        let given = Given { ids: true, ..case.given.clone() };
        let loaded = load(&given, &case.environment).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        format!("{:#?}", loaded.config)
    };
    assert_eq!(shown(EXAMPLE), shown(""));
}

#[test]
fn the_example_parses_with_every_key_in_force() {
    in_force("json");
    in_force("template");
}

fn in_force(format: &str) {
    let alone =
        |line: &&str| format == "template" || !line.starts_with("# body =") && !line.starts_with("# content_type =");
    let in_force: String = EXAMPLE
        .lines()
        .filter(alone)
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.starts_with('[') || key.split_once(" = ").is_some_and(|(name, _)| is_key(name)) => {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(in_force.contains("\nretry = {") && in_force.contains("\nca_file"), "{in_force}");
    // The last of its lines is the webhook's.
    let (before, after) = in_force.rsplit_once("format = \"json\"").unwrap();
    let in_force = format!("{before}format = \"{format}\"{after}");
    let mut case = Case::new(
        &in_force
            .replace("/run/secrets/velt-auth-token", "token")
            .replace("/run/secrets/", "")
            .replace("/etc/ssl/", ""),
    );
    let authority = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    fs::write(case.folder.path().join("internal.pem"), authority.cert.pem()).unwrap();
    fs::write(case.folder.path().join("token"), "secret\n").unwrap();
    fs::write(case.folder.path().join("approvals"), WHSEC).unwrap();
    case.environment = [
        CREDENTIALS[0],
        CREDENTIALS[2],
        ("APPROVALS_WEBHOOK_URL", "https://hooks.example/services/canary"),
        ("RECEIVER_AUTH", "Bearer canary"),
        ("HEARTBEAT_URL", "https://hc.example/canary"),
    ]
    .into();
    let loaded = case.load().unwrap();
    assert_eq!(loaded.config.sinks.len(), 2);
    let SinkKind::Webhook(webhook) = &loaded.config.sinks[1].kind else { panic!("no webhook") };
    // The values shown for a sink are its defaults.
    let case = Case::new(
        "[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1/\"\n[watch]\nexecutions = [\"e\"]",
    );
    let default = case.load().unwrap();
    let SinkKind::Webhook(default) = &default.config.sinks[0].kind else { panic!("no webhook") };
    assert_eq!(webhook.format.name(), format);
    if let WebhookFormat::Template(template) = &webhook.format {
        assert_eq!(template.content_type(), "application/json");
    }
    assert_eq!(webhook.timeout, default.timeout);
    assert_eq!(webhook.rate_limit, default.rate_limit);
    assert_eq!(webhook.max_in_flight, default.max_in_flight);
    assert_eq!(format!("{:?}", webhook.retry), format!("{:?}", default.retry));
    assert_eq!(webhook.signing.as_ref().unwrap().dialect, Dialect::Standard);
    assert!(default.signing.is_none());
    assert!(!format!("{loaded:?}").contains("canary"));
}

fn is_key(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

#[test]
fn broken_configurations_are_told_with_place_key_and_hint() {
    // (configuration, line:column, what the message must hold)
    let sink = "[[sink]]\nname = \"a\"\ntype = \"webhook\"\n";
    let with = |rest: &str| format!("{sink}{rest}");
    let cases: Vec<(String, &str, &[&str])> = vec![
        ("[poll]\nmax_intervall = \"2s\"".into(), "2:1", &["poll.max_intervall", "did you mean `max_interval`"]),
        ("[pool]\n".into(), "1:2", &["pool", "did you mean `poll`"]),
        (
            "[poll]\nfrobnicate = 1".into(),
            "2:1",
            &["poll.frobnicate", "known here: max_interval, multiplier, jitter, initial_interval"],
        ),
        ("[poll]\n  jitter = 1.5".into(), "2:12", &["poll.jitter", "from 0 to 1"]),
        ("[poll]\nmultiplier = 0".into(), "2:14", &["poll.multiplier", "from 1 to 10"]),
        ("[poll]\nmultiplier = nan".into(), "2:14", &["poll.multiplier", "from 1 to 10"]),
        (
            "[poll]\ninitial_interval = 2".into(),
            "2:20",
            &["poll.initial_interval", "in quotes, found a whole number", "\"2s\""],
        ),
        ("[poll]\ninitial_interval = \"2 sec\"".into(), "2:20", &["poll.initial_interval", "no duration", "\"250ms\""]),
        ("[poll]\ninitial_interval = \"5ms\"".into(), "2:20", &["poll.initial_interval", "at least 10ms"]),
        (
            "[poll]\nmax_interval = \"1s\"".into(),
            "2:16",
            &["poll.max_interval", "shorter than initial_interval", "initial_interval is 2s"],
        ),
        ("[http]\nlisten = \":9464\"".into(), "2:10", &["http.listen", "no address", "127.0.0.1:9464"]),
        ("[http]\nallowed_hosts = [\"a\", \"b:1\"]".into(), "2:23", &["http.allowed_hosts[1]", "no host name"]),
        ("[poll]\nrate_limit = 0".into(), "2:14", &["poll.rate_limit", "above zero", "inf"]),
        ("[poll]\nmax_in_flight = 0".into(), "2:17", &["poll.max_in_flight", "from 1 to 10000"]),
        ("[poll]\nmax_in_flight = 1.5".into(), "2:17", &["poll.max_in_flight", "a whole number"]),
        ("[api]\nurl = \"http://api.velt.dev\"".into(), "2:7", &["api.url", "loopback", "https://"]),
        ("[api]\nurl = \"api.velt.dev\"".into(), "2:7", &["api.url", "no URL"]),
        ("[api]\nmax_response_bytes = \"8MB\"".into(), "2:22", &["api.max_response_bytes", "a size", "8MiB"]),
        (
            "[api]\napi_key = \"a\"\napi_key_env = \"VELT_API_KEY\"".into(),
            "3:15",
            &["api.api_key_env", "one spelling", "keep one of"],
        ),
        ("[api]\nauth_token_env = \"NOT_SET\"".into(), "2:18", &["api.auth_token_env", "NOT_SET is not set"]),
        ("[api]\nauth_token_file = \"missing\"".into(), "2:19", &["api.auth_token_file", "can't be read"]),
        ("[watch]\nexecutions = [\"good\", \"exec 1\"]".into(), "2:23", &["watch.executions[1]", "' '"]),
        ("[watch]\nexecutions = \"exec_1\"".into(), "2:14", &["watch.executions", "an array of strings"]),
        ("[watch]\nexit_when_done = \"yes\"".into(), "2:18", &["watch.exit_when_done", "true or false"]),
        ("[sink]\nname = \"a\"".into(), "1:1", &["sink", "[[sink]]"]),
        ("[[sink]]\ntype = \"stdout\"".into(), "1:1", &["sink.name", "is missing"]),
        ("[[sink]]\nname = \"a\"".into(), "1:1", &["sink.type", "is missing"]),
        ("[[sink]]\nname = \"a\"\ntype = \"webhok\"".into(), "3:8", &["sink[0].type", "did you mean `webhook`"]),
        (
            with("url = \"https://h/\"\nformat = \"xml\""),
            "5:10",
            &["sink[0].format", "\"json\", \"slack\", \"cloudevents\", \"template\", \"velt\""],
        ),
        (
            with("url = \"https://h/\"\nformat = \"slack\"\ninclude_output = true"),
            "6:18",
            &["sink[0].include_output", "a Slack message has no place", "format = \"json\""],
        ),
        (with("url = \"ftp://h/canary\""), "1:1", &["sink.url", "http or https"]),
        (sink.into(), "1:1", &["sink.url", "is missing", "url_env"]),
        (
            with("url = \"https://h/\"\nheaders = { host = \"x\" }"),
            "5:13",
            &["sink[0].headers.host", "set by this program"],
        ),
        (
            with("url = \"https://h/\"\nheaders = { x-a = { evn = \"B\" } }"),
            "5:21",
            &["headers.x-a.evn", "did you mean `env`"],
        ),
        (
            with("url = \"https://h/\"\nretry = { multiplier = 11 }"),
            "5:24",
            &["sink[0].retry.multiplier", "from 1 to 10"],
        ),
        (
            with("url = \"https://h/\"\nheaders = { X-Velt-Signature = \"x\" }"),
            "5:13",
            &["sink[0].headers.X-Velt-Signature", "set by this program"],
        ),
        (
            with("url = \"https://h/\"\nsignature = \"velt\""),
            "5:13",
            &["sink[0].signature", "no secret to sign with", "the receiver knows"],
        ),
        (
            with("url = \"https://h/\"\nsignature = \"standard\""),
            "5:13",
            &["sink[0].signature", "no secret to sign with", "whsec_"],
        ),
        (with("url = \"https://h/\"\nsignature = \"vetl\"\nsecret = \"canary\""), "5:13", &["did you mean `velt`"]),
        (
            with("url = \"https://h/\"\nsecret = \"canary\""),
            "5:10",
            &["sink[0].secret: ", "begins with whsec_", "openssl rand", "signature = \"velt\""],
        ),
        (
            with(&format!("url = \"https://h/\"\nsecret = [\"{WHSEC}\", \"whsec_canary\"]")),
            "5:53",
            &["sink[0].secret[1]: ", "not base64"],
        ),
        (
            with("url = \"https://h/\"\nsecret_env = \"SIGNING\""),
            "5:14",
            &["sink[0].secret_env: secret 2: ", "24 to 64 bytes"],
        ),
        (with("url = \"https://h/\"\nsecret = []"), "5:10", &["sink[0].secret", "is empty"]),
        (with("url = \"https://h/\"\nsecret = 7"), "5:10", &["sink[0].secret", "a string or an array of strings"]),
        (with("url = \"https://h/\"\nsecret_file = \"missing\""), "5:15", &["sink[0].secret_file", "can't be read"]),
        (
            with("url = \"https://h/\"\nsignature = \"velt\"\nsecret = [\"canary\"]\nsecret_env = \"SIGNING\""),
            "7:14",
            &["sink[0].secret_env", "one spelling", "keep one of secret, secret_env, secret_file"],
        ),
        (
            format!("{}{sink}url = \"https://h/\"", with("url = \"https://h/\"\n")),
            "6:8",
            &["sink[1].name", "name of another sink"],
        ),
        ("[log]\nlevel = \"loud=very=much\"".into(), "2:9", &["log.level", "error, warn, info"]),
        ("[log]\nlevel = \"inof\"".into(), "2:9", &["log.level", "is no log level"]),
        ("[log]\nformat = \"xml\"".into(), "2:10", &["log.format", "\"text\", \"json\""]),
        ("[daemon]\nshutdown_grace = \"soon\"".into(), "2:18", &["daemon.shutdown_grace", "duration"]),
        ("[state]\nretention = \"0s\"".into(), "2:13", &["state.retention", "above zero"]),
        ("[poll\njitter = 0".into(), "1:6", &["no TOML"]),
        ("[poll]\njitter = = 1".into(), "2:10", &["no TOML"]),
        ("[poll]\njitter = 0\njitter = 0.1".into(), "3:1", &["no TOML"]),
    ];
    told(&cases);
}

#[test]
fn broken_templates_are_told_with_place_key_and_hint() {
    let with = |rest: &str| format!("[[sink]]\nname = \"a\"\ntype = \"webhook\"\n{rest}");
    told(&[
        (with("url = \"https://h/\"\nformat = \"template\""), "1:1", &["sink.body", "is missing", "docs/templates.md"]),
        (with("url = \"https://h/\"\nformat = \"template\"\nbody = 7"), "6:8", &["sink[0].body", "must be a string"]),
        (with("url = \"https://h/\"\nformat = \"template\"\nbody = \" \""), "6:8", &["sink[0].body", "is empty"]),
        (
            with("url = \"https://h/\"\nbody = \"{}\""),
            "5:8",
            &["sink[0].body", "is for templates alone", "format = \"template\""],
        ),
        (
            with("url = \"https://h/\"\nformat = \"cloudevents\"\ncontent_type = \"text/plain\""),
            "6:16",
            &["sink[0].content_type", "is for templates alone"],
        ),
        (with("url = \"https://h/\"\nformat = \"tempalte\"\nbody = \"1\""), "5:10", &["did you mean `template`"]),
        (
            with("url = \"https://h/\"\nformat = \"template\"\nbody = \"1\"\ncontent_type = \"json\""),
            "7:16",
            &["sink[0].content_type", "is no content type", "type/subtype"],
        ),
        (
            with("url = \"https://h/\"\nformat = \"template\"\nbody = \"1\"\ncontent_type = \"a/b\\r\\nx: canary\""),
            "7:16",
            &["sink[0].content_type", "is no content type"],
        ),
        (
            with("url = \"https://h/\"\nformat = \"template\"\nbody = \"{\\\"a\\\": {{ data.lable }}}\""),
            "6:20",
            &["sink[0].body: no event has `data.lable`", "did you mean `data.label`"],
        ),
        (
            with("url = \"https://h/\"\nformat = \"template\"\nbody = '''\n{\n  \"a\": oops\n}'''"),
            "8:8",
            &["sink[0].body: fails for the event step.pending: the output is no JSON"],
        ),
        (
            with(
                "url = \"https://h/\"\nformat = \"template\"\nbody = \"{{ data.step.nodeId }}\"\nevents = [\"step.*\"]",
            ),
            "6:16",
            &["fails for the event watch.test (test-sink"],
        ),
    ]);
}

/// Each configuration is refused at its place, with these pieces in what is said.
fn told(cases: &[(String, &str, &[&str])]) {
    for (text, place, holds) in cases {
        let mut case = Case::new(text);
        case.given.ids = true;
        let signing = format!("{WHSEC} whsec_Y2FuYXJ5");
        case.environment = [CREDENTIALS[0], CREDENTIALS[1], CREDENTIALS[2], ("SIGNING", &*signing)].into();
        let errors = case.load().expect_err(text).to_string();
        let expected = format!("config.toml:{place}: ");
        let line = errors.split("\n  ").next().unwrap_or_default();
        assert!(errors.contains(&expected), "{text}\n=> {errors}\nwanted {expected}");
        assert!(
            errors.lines().filter(|line| line.contains("config.toml:")).count() <= errors.matches("hint: ").count()
        );
        for piece in *holds {
            assert!(errors.contains(piece), "{text}\n=> {errors}\nwanted {piece} ({line})");
        }
        assert!(!errors.contains("canary"), "{errors}");
    }
}

#[test]
fn a_template_is_tried_with_what_its_sink_can_be_sent() {
    let load = |rest: &str| {
        let mut case = Case::new(&format!(
            "[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl_env = \"HOOK\"\nformat = \"template\"\n{rest}\n"
        ));
        case.given.ids = true;
        // No secret stands in the file but what the body holds.
        case.environment = [CREDENTIALS[0], CREDENTIALS[1], CREDENTIALS[2], ("HOOK", "https://h/")].into();
        (case.load(), case)
    };
    let stepwise = "body = '{{ data.step.nodeId if type != \"watch.test\" }}'";
    assert!(load(stepwise).0.is_err(), "executions have no step");
    assert!(load(&format!("{stepwise}\nevents = [\"step.*\"]")).0.is_ok());
    let output = "body = '{{ data.step.output.comment if data.step and data.step.output }}'\ninclude_output = true";
    let loaded = load(output).0.unwrap();
    let SinkKind::Webhook(webhook) = &loaded.config.sinks[0].kind else { panic!("no webhook") };
    let WebhookFormat::Template(template) = &webhook.format else { panic!("no template") };
    assert_eq!((template.content_type(), webhook.format.name()), ("application/json", "template"));

    // A key in the body makes the file one that holds secrets.
    let (loaded, case) = load("body = '{\"routing_key\": \"0123456789abcdef0123456789canary\"}'");
    assert!(!format!("{loaded:?}").contains("canary"));
    assert_eq!(loaded.unwrap().warnings.len(), 0);
    fs::set_permissions(case.given.config.as_ref().unwrap(), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = case.load().unwrap().warnings.concat();
    assert!(warnings.contains("holds secrets") && !warnings.contains("canary"), "{warnings}");
}

#[test]
fn signing_secrets_have_three_spellings_and_may_be_several() {
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let both = format!("{other}\n{WHSEC}\n");
    for (keys, dialect, expected) in [
        (format!("secret = \"{WHSEC}\""), Dialect::Standard, vec![WHSEC]),
        (format!("secret = [\"{other}\", \"{WHSEC}\"]"), Dialect::Standard, vec![other, WHSEC]),
        ("secret_env = \"SIGNING\"\nsignature = \"standard\"".into(), Dialect::Standard, vec![other, WHSEC]),
        ("secret_file = \"signing\"".into(), Dialect::Standard, vec![other, WHSEC]),
        ("secret = \"any text\"\nsignature = \"velt\"".into(), Dialect::Velt, vec!["any text"]),
    ] {
        let mut case =
            Case::new(&format!("[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"https://h/\"\n{keys}\n"));
        case.given.ids = true;
        fs::write(case.folder.path().join("signing"), &both).unwrap();
        case.environment = [CREDENTIALS[0], CREDENTIALS[1], CREDENTIALS[2], ("SIGNING", &*both)].into();
        let loaded = case.load().unwrap();
        let SinkKind::Webhook(webhook) = &loaded.config.sinks[0].kind else { panic!("no webhook") };
        let signing = webhook.signing.as_ref().unwrap();
        let secrets = signing.read(&case.environment).unwrap();
        let secrets: Vec<_> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!((signing.dialect, secrets), (dialect, expected), "{keys}");
        assert_eq!(signing.may_change(), keys.contains("_file"));
        assert!(!format!("{loaded:?}").contains("whsec"));
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let case = Case::new("[poll]\njitter = 2\nmultiplier = 0.5\n[api]\ntimeout = 3\n[log]\nlevl = \"info\"\n");
    let ConfigErrors(problems) = case.load().unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    for key in ["api.timeout", "log.levl", "watch", "poll.jitter", "poll.multiplier"] {
        assert!(keys.contains(&key), "{keys:?}");
    }
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        "[api]\napi_key = \"canary\nx\"",
        "[api]\napi_key = \"canary\" oops",
        "[api]\napi_key = \"can\\u0001ary\"\nauth_token = canary",
        "[api]\nauth_token_env = \"sk-canary-1\"",
        "[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"canary\"\nheaders = { x = \"canary\\n\" }",
    ] {
        let error = Case::new(text).load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

#[test]
fn a_configuration_with_secrets_that_others_can_read_is_warned_about() {
    let case = Case::new("[watch]\nexecutions = [\"e\"]\n[api]\nauth_token = \"inline\"\n");
    assert_eq!(case.load().unwrap().warnings.len(), 0);
    let path = case.given.config.clone().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(case.load().unwrap().warnings.len(), 1);
    let open = Case::new(
        "[watch]\nexecutions = [\"e\"]\n[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"http://hooks.example/canary\"\n",
    );
    let warnings = open.load().unwrap().warnings.join("\n");
    assert!(warnings.contains("sink a: plain http") && !warnings.contains("canary"), "{warnings}");
}

#[test]
fn a_named_file_that_is_missing_and_no_source_at_all_are_errors() {
    let mut case = Case::new("");
    assert!(case.load().unwrap_err().to_string().contains("nothing to watch"));
    for (text, is_told) in [
        ("[poll]\njitter = 3\n", true),
        ("[watch\nfile = \"list\"\n", false),
        ("[wacth]\nfile = \"list\"\n", false),
        ("[watch]\nfiel = \"list\"\n", false),
        ("[watch]\nexecutions = [\"a/b\"]\n", false),
    ] {
        let told = Case::new(text).load().unwrap_err().to_string();
        assert_eq!(told.contains("nothing to watch"), is_told, "{told}");
    }
    case.given.config = Some("/nowhere/config.toml".into());
    assert!(case.load().unwrap_err().to_string().contains("/nowhere/config.toml: can't be read"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]a-z_=\"0-9.{},\n# é]{0,200}", cut in 0_usize..2_000, noise in any::<String>()) {
        let environment: Environment = CREDENTIALS.into();
        for text in [text, format!("{}{noise}", EXAMPLE.chars().take(cut).collect::<String>())] {
            let (_, problems) = parse(Some(Path::new("config.toml")), &text, &environment);
            for problem in problems {
                let _ = problem.to_string();
            }
        }
    }
}
