//! Every committed input of the fuzz targets, on a stable compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use transport_tests::fuzzing::{self, TARGETS};
use transport_tests::house::{expect_none, root};

fn fuzz() -> PathBuf {
    root().join("transport-tests/fuzz")
}

fn names(folder: &PathBuf) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_input_of_the_corpora_passes() {
    let mut findings = Vec::new();
    for target in TARGETS {
        let folder = fuzz().join("corpus").join(target.name);
        let files = names(&folder);
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            let data = fs::read(folder.join(&file)).expect("a file");
            if catch_unwind(AssertUnwindSafe(|| fuzzing::run(target.name, &data))).is_err() {
                findings.push(format!(
                    "{}/{file}: cargo run -p transport-tests --bin fuzz-input -- replay {} {}",
                    target.name,
                    target.name,
                    folder.join(&file).display()
                ));
            }
        }
    }
    expect_none(&findings, "An input that once passed fails.");
}

#[test]
fn corpora_targets_and_ratchet_name_the_same() {
    let known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let corpora: BTreeSet<String> = names(&fuzz().join("corpus")).into_iter().collect();
    assert_eq!(corpora, known, "folders of transport-tests/fuzz/corpus");
    let text = fs::read_to_string(fuzz().join("coverage.toml")).expect("coverage.toml");
    let ratchet: BTreeMap<String, toml::Table> = toml::from_str(&text).expect("a table for each target");
    assert_eq!(
        ratchet.into_keys().collect::<BTreeSet<_>>(),
        known,
        "tables of coverage.toml"
    );
    for target in &known {
        let path = fuzz().join(format!("fuzz_targets/{target}.rs"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            text.contains(&format!("run(\"{target}\", data)")),
            "{}: runs another target",
            path.display()
        );
        assert!(text.lines().count() <= 20);
    }
    assert_eq!(
        names(&fuzz().join("fuzz_targets")).len(),
        known.len(),
        "files of fuzz_targets"
    );
}

#[test]
fn corpora_stay_small() {
    for target in TARGETS {
        let folder = fuzz().join("corpus").join(target.name);
        let files = names(&folder);
        let size = |file: &String| fs::metadata(folder.join(file)).map_or(0, |data| data.len());
        let bytes: u64 = files.iter().map(size).sum();
        assert!(
            files.len() <= 400 && bytes <= 400_000,
            "{}: {} files, {bytes} bytes; nightly.sh keeps the most covering ones",
            target.name,
            files.len()
        );
    }
}

/// What libFuzzer needs beyond what the product is built from.
const FUZZERS_OWN: [&str; 6] = [
    "transport-fuzz",
    "libfuzzer-sys",
    "cc",
    "find-msvc-tools",
    "jobserver",
    "shlex",
];

fn packages(lock: PathBuf) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(&lock).unwrap_or_else(|error| panic!("{}: {error}", lock.display()));
    let lock: toml::Table = toml::from_str(&text).expect("a lock file");
    let packages = lock["package"].as_array().expect("packages");
    let word = |package: &toml::Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    packages
        .iter()
        .map(|package| (word(package, "name"), word(package, "version")))
        .collect()
}

#[test]
fn the_fuzzers_build_what_the_product_builds() {
    let product = packages(root().join("Cargo.lock"));
    let stray =
        |package: &(String, String)| !product.contains(package) && !FUZZERS_OWN.contains(&package.0.as_str());
    let findings: Vec<String> = packages(fuzz().join("Cargo.lock"))
        .into_iter()
        .filter(stray)
        .map(|(name, version)| format!("{name} {version} is in transport-tests/fuzz/Cargo.lock alone"))
        .collect();
    expect_none(
        &findings,
        "Copy Cargo.lock to transport-tests/fuzz and run `cargo update -w --manifest-path transport-tests/fuzz/Cargo.toml --offline`.",
    );
}
