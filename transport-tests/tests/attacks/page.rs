//! `docs/attacks.md` names tests; each of them exists, and each test of this binary is named.

use std::collections::BTreeSet;
use std::fs;

use transport_tests::house::{expect_none, root};

/// Every function under `#[test]` in a Rust file, and those that `tests!`-like macros list are not looked for.
fn tests_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[test]" {
            continue;
        }
        let name = lines
            .by_ref()
            .find_map(|line| line.split_once("fn ").map(|(_, rest)| rest));
        found.extend(name.and_then(|rest| rest.split('(').next()).map(str::to_owned));
    }
    found
}

fn walk(dir: &std::path::Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(&path, into);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let place = path
                .strip_prefix(root())
                .expect("inside")
                .to_string_lossy()
                .into_owned();
            into.extend(tests_of(&text).into_iter().map(|test| (place.clone(), test)));
        }
    }
}

/// Names of tests on the page: words in code marks with an underscore and nothing but letters, digits and underscores.
fn named(page: &str) -> BTreeSet<String> {
    let pieces = page.split('`').skip(1).step_by(2);
    pieces
        .filter(|word| word.matches('_').count() >= 2)
        .filter(|word| {
            word.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_test_on_the_page_exists_and_every_attack_is_on_the_page() {
    let page = fs::read_to_string(root().join("docs/attacks.md")).expect("docs/attacks.md");
    let named = named(&page);
    let mut all = Vec::new();
    for room in fs::read_dir(root()).expect("the root").flatten() {
        if room.file_name().to_string_lossy().starts_with("transport-") {
            walk(&room.path(), &mut all);
        }
    }
    let exist: BTreeSet<&str> = all.iter().map(|(_, test)| test.as_str()).collect();
    let mut findings: Vec<String> = named
        .iter()
        .filter(|name| !exist.contains(name.as_str()))
        .map(|name| format!("docs/attacks.md names `{name}`, which is no test"))
        .collect();
    let ours = all.iter().filter(|(place, _)| {
        place.starts_with("transport-tests/tests/attacks/") && !place.ends_with("page.rs")
    });
    findings.extend(
        ours.filter(|(_, test)| !named.contains(test))
            .map(|(place, test)| format!("{place}: {test} is not on the page")),
    );
    assert!(named.len() > 40, "{} names found", named.len());
    expect_none(&findings, "The page is docs/attacks.md.");
}
