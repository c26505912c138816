//! Links and the index.

use std::collections::{BTreeMap, BTreeSet};

use crate::page::{Page, root};

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = without_links(heading).to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// `[text](target)` as `text`.
fn without_links(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("](") {
        plain.push_str(&before.replacen('[', "", 1));
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    plain + rest
}

fn anchors(page: &Page) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in page.prose().lines() {
        let hashes = line.chars().take_while(|c| *c == '#').count();
        let Some(heading) = line.get(hashes..).and_then(|rest| rest.strip_prefix(' ')).filter(|_| hashes > 0) else {
            continue;
        };
        let anchor = anchor(heading.trim());
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

/// The targets of a page's links.
fn links(page: &Page) -> Vec<String> {
    let words: String = page.prose().split('`').step_by(2).collect();
    let targets = words.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The path that `target` means in a page.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_link_leads_somewhere() {
    let pages = Page::all();
    let mut broken = vec![];
    for page in &pages {
        for target in links(page) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, fragment) = target.split_once('#').map_or((&*target, None), |(file, at)| (file, Some(at)));
            let path = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
            let known = match (pages.iter().find(|page| page.path == path), fragment) {
                (Some(there), Some(fragment)) => anchors(there).contains(fragment),
                (None, Some(_)) => false,
                (_, None) => root().join(&path).exists(),
            };
            if !known {
                broken.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_page_is_in_the_index_and_in_the_summary_and_the_readme_leads_there() {
    let files: BTreeSet<_> = Page::of_the_book().into_iter().collect();
    let aside = ["docs/README.md", "docs/SUMMARY.md"].map(String::from);
    for index in &aside {
        let page = Page::read(index);
        let linked: BTreeSet<_> =
            links(&page).iter().map(|target| resolve(index, target.split('#').next().unwrap())).collect();
        let missing: Vec<_> = files.iter().filter(|file| !linked.contains(*file) && !aside.contains(file)).collect();
        assert!(missing.is_empty(), "{index} leads to none of {missing:?}");
    }
    assert!(links(&Page::read("README.md")).iter().any(|target| target == "docs/README.md"));
}

#[test]
fn anchors_are_those_of_github() {
    for (heading, expected) in [
        ("What `{{ … }}` writes", "what----writes"),
        ("Retry-After, and 410", "retry-after-and-410"),
        ("The [state](state.md)", "the-state"),
        ("exit_when_done", "exit_when_done"),
    ] {
        assert_eq!(anchor(heading), expected);
    }
    let page = Page { path: "docs/a.md".into(), text: "# A\n# A\n[b](b.md#c) and `[no](x)` [`d`](../d)".into() };
    assert_eq!(anchors(&page), ["a", "a-1"].map(String::from).into());
    assert_eq!(links(&page), ["b.md#c", "../d"]);
    assert_eq!((&*resolve("docs/a.md", "../d"), &*resolve("docs/a.md", "b.md")), ("d", "docs/b.md"));
}
