//! `SECURITY.md` is held to: each claim in it names a test, and that test exists and runs.
//!
//! And the claims that no run can show, since they are about what is not there: in the source, in the dependencies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::Value;

/// What is assumed, not promised, and how to reach people: nothing that a test could show.
const WITHOUT_CLAIMS: [&str; 3] = ["What is trusted", "What it does not protect from", "Reporting a vulnerability"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A claim: its words, and the tests it names, as (file, function).
#[derive(Debug)]
struct Claim {
    words: String,
    tests: Vec<(String, String)>,
}

/// The claims of a document, or what is wrong with it.
fn claims(document: &str) -> Result<Vec<Claim>, String> {
    let mut claims = vec![];
    let mut section = None;
    for paragraph in document.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        if let Some(title) = paragraph.strip_prefix("## ") {
            section = Some(title);
        } else if let Some(title) = section
            && !WITHOUT_CLAIMS.contains(&title)
        {
            let list = paragraph.strip_prefix("- ").ok_or_else(|| format!("no list: {paragraph}"))?;
            for item in list.split("\n- ") {
                claims.push(claim(&item.split_whitespace().collect::<Vec<_>>().join(" "))?);
            }
        }
    }
    Ok(claims)
}

/// `Words. (tests/a.rs: one, two; src/b.rs: three)`
fn claim(item: &str) -> Result<Claim, String> {
    let unproven = || format!("names no test: {item}");
    let (words, references) = item.strip_suffix(')').and_then(|item| item.rsplit_once(" (")).ok_or_else(unproven)?;
    let mut tests = vec![];
    for reference in references.split("; ") {
        let (file, functions) = reference.split_once(": ").ok_or_else(unproven)?;
        tests.extend(functions.split(", ").map(|function| (file.to_owned(), function.to_owned())));
    }
    Ok(Claim { words: words.to_owned(), tests })
}

/// Whether `source` has this test, and it is run.
fn has_test(source: &str, function: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let found = lines.iter().position(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").and_then(|line| line.strip_prefix(function)).is_some_and(|line| line.starts_with('('))
    });
    let Some(at) = found else { return false };
    let attributes: Vec<_> = lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).collect();
    let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    attributes.iter().any(|line| is_test(line)) && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

#[test]
fn each_claim_names_a_test_that_exists() {
    let claims = claims(&read("SECURITY.md")).unwrap();
    assert!(claims.len() > 30, "{}", claims.len());
    let mut missing = vec![];
    for Claim { words, tests } in &claims {
        // One sentence each: a second one would hide behind the first one's test.
        assert!(words.ends_with('.') && !words.contains(". "), "one sentence: {words}");
        for (file, function) in tests {
            if !root().join(file).is_file() || !has_test(&read(file), function) {
                missing.push(format!("{file}: {function}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn a_claim_without_a_test_would_be_noticed() {
    let of = |text: &str| claims(&format!("# T\n\nFree words.\n\n## Holds\n\n{text}\n\n## What is trusted\n\nYou.\n"));
    let good =
        of("- It holds, (really)\n  it does. (tests/a.rs: one, two; src/b.rs: three)\n- So does it. (a: b)").unwrap();
    assert_eq!((good.len(), &*good[0].words), (2, "It holds, (really) it does."));
    let tests = [("tests/a.rs", "one"), ("tests/a.rs", "two"), ("src/b.rs", "three")];
    assert_eq!(good[0].tests, tests.map(|(file, function)| (file.to_owned(), function.to_owned())));
    for bad in ["- It holds.", "It holds. (tests/a.rs: one)", "- It holds (surely).", "- It holds. (tests/a.rs)"] {
        assert!(of(bad).is_err(), "{bad}");
    }
    let source = "#[test]\nfn runs() {}\n\n#[tokio::test(start_paused = true)]\n#[cfg(unix)]\nasync fn waits() {}\n\nfn helps() {}\n\n#[test]\n#[ignore = \"slow\"]\nfn rests() {}\n";
    let has = ["runs", "waits", "helps", "rests", "run", "gone"].map(|name| has_test(source, name));
    assert_eq!(has, [true, true, false, false, false, false]);
}

/// Every file of the program, with its code as far as it is shipped.
fn sources() -> Vec<(String, String)> {
    let mut sources = vec![];
    let mut open = vec![root().join("src")];
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !name.contains("tests") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((name, text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()));
            }
        }
    }
    assert!(sources.len() > 50, "{}", sources.len());
    sources
}

#[test]
fn there_is_one_way_to_the_network_and_none_to_other_programs() {
    for (name, text) in sources() {
        for way in
            ["process::Command", "TcpStream", "TcpListener", "UdpSocket", "to_socket_addrs", "lookup_host", "danger"]
        {
            // Where others may look in, connections come and none goes out.
            let comes_in = name == "src/server/door.rs" && matches!(way, "TcpStream" | "TcpListener");
            assert!(!text.contains(way) || comes_in, "{name} has a {way}");
        }
        assert!(!text.contains("TcpStream::connect"), "{name} goes out by itself");
        for way in ["Client::builder", "Client::new()", "redirect::", "reqwest::get"] {
            assert!(!text.contains(way) || name == "src/http.rs", "{name} has a {way} of its own");
        }
    }
}

#[test]
fn no_code_of_ours_is_unsafe() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    assert_eq!(manifest["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for file in ["Cargo.toml", "velt-sim/Cargo.toml", "simulation/Cargo.toml"] {
        let manifest: toml::Table = read(file).parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{file}");
    }
}

#[test]
fn dependencies_come_from_one_registry_with_a_checksum() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let mut sources: Vec<&str> = packages.iter().filter_map(|package| package.get("source")?.as_str()).collect();
    for package in packages.iter().filter(|package| package.get("source").is_some()) {
        assert!(package.get("checksum").is_some(), "{package:?}");
    }
    sources.dedup();
    assert!(sources.len() == 1 && sources[0].starts_with("registry+https://"), "{sources:?}");
}

#[test]
fn each_exception_to_the_dependency_policy_has_a_reason() {
    let policy: toml::Table = read("deny.toml").parse().unwrap();
    assert_eq!(policy["advisories"]["yanked"].as_str(), Some("deny"));
    for key in ["unknown-registry", "unknown-git"] {
        assert_eq!(policy["sources"][key].as_str(), Some("deny"), "{key}");
    }
    for exception in policy["advisories"]["ignore"].as_array().unwrap() {
        let reason = exception.get("reason").and_then(Value::as_str).unwrap_or_default();
        assert!(reason.len() > 20, "{exception:?}");
    }
}
