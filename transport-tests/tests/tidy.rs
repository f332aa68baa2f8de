//! How long things may grow, and what must not be committed. Exceptions stand in `tidy.allow`, which only shrinks.

use std::fs;
use std::sync::LazyLock;

use transport_tests::house::measure::{duplicates, fields, functions};
use transport_tests::house::ratchet::{self, Breach};
use transport_tests::house::source::{self, Source};
use transport_tests::house::{expect_none, habits, root};

/// Code lines of a file without its tests: what to aim for, and what is too much.
const FILE_TARGET: usize = 400;
const FILE_CAP: usize = 600;
/// Code lines of a function; the larger figure is for one exhaustive `match` whose arms are single calls.
const FUNCTION_CAP: usize = 70;
const DISPATCH_CAP: usize = 120;
/// Identical non-trivial lines in two files.
const DUPLICATE: usize = 12;
/// Fields of `Connection`, each owning its state.
const CONNECTION_FIELDS: usize = 12;

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| source::all(&root()));
static PRODUCT: LazyLock<Vec<Source>> = LazyLock::new(|| SOURCES.iter().map(Source::product).collect());

#[test]
fn files_and_functions_stay_short_and_nothing_stands_twice() {
    let list =
        fs::read_to_string(root().join("transport-tests/tidy.allow")).expect("transport-tests/tidy.allow");
    let mut breaches = Vec::new();
    breaches.extend(PRODUCT.iter().filter_map(long_file));
    breaches.extend(PRODUCT.iter().flat_map(long_functions));
    breaches.extend(repeated_blocks());
    expect_none(
        &ratchet::check(&list, &breaches),
        "Exceptions, with a reason a reader accepts, stand in transport-tests/tidy.allow: kind place figure reason.",
    );
}

fn long_file(source: &Source) -> Option<Breach> {
    let figure = source.code_lines();
    if (FILE_TARGET + 1..=FILE_CAP).contains(&figure) {
        eprintln!(
            "{}: {figure} code lines, above the target of {FILE_TARGET}; think of a second room",
            source.path
        );
    }
    let finding = format!(
        "{}: {figure} code lines, cap {FILE_CAP}: split it by what its parts know",
        source.path
    );
    (figure > FILE_CAP).then(|| Breach {
        kind: "lines",
        place: source.path.clone(),
        figure,
        finding,
    })
}

fn long_functions(source: &Source) -> Vec<Breach> {
    let cap = |dispatch: bool| if dispatch { DISPATCH_CAP } else { FUNCTION_CAP };
    let long = functions(source)
        .into_iter()
        .filter(|f| f.lines > cap(f.dispatch));
    long.map(|f| {
        let finding = format!(
            "{}:{}: fn {} has {} code lines, cap {}: name its steps and make them functions below it",
            source.path,
            f.line,
            f.name,
            f.lines,
            cap(f.dispatch)
        );
        Breach {
            kind: "function",
            place: format!("{}::{}", source.path, f.name),
            figure: f.lines,
            finding,
        }
    })
    .collect()
}

/// The longest block each pair of files shares. Examples may repeat one another: each is read, and copied, whole.
fn repeated_blocks() -> Vec<Breach> {
    let rooms: Vec<Source> = PRODUCT
        .iter()
        .filter(|s| !s.path.contains("/examples/"))
        .cloned()
        .collect();
    let mut found = duplicates(&rooms, DUPLICATE);
    found.sort_by(|a, b| (&a.files, b.lines).cmp(&(&b.files, a.lines)));
    found.dedup_by(|later, first| later.files == first.files);
    found
        .into_iter()
        .map(|d| {
            let (a, b) = (&d.files.0, &d.files.1);
            let finding = format!(
                "{a}:{} and {b}:{}: {} equal lines: give them one home",
                d.at.0, d.at.1, d.lines
            );
            Breach {
                kind: "duplicate",
                place: format!("{a}+{b}"),
                figure: d.lines,
                finding,
            }
        })
        .collect()
}

#[test]
fn connection_holds_components_not_details() {
    let path = "transport-core/src/connection/mod.rs";
    let count = SOURCES
        .iter()
        .find(|s| s.path == path)
        .and_then(|s| fields(s, "Connection"))
        .unwrap_or(0);
    assert!(
        count <= CONNECTION_FIELDS,
        "{path}: Connection has {count} fields, cap {CONNECTION_FIELDS}: move the state into the component that owns it"
    );
}

#[test]
fn nothing_is_switched_off_left_open_or_silenced_without_a_reason() {
    let findings: Vec<String> = SOURCES.iter().flat_map(habits::check).collect();
    expect_none(&findings, "These hold for tests too.");
}
