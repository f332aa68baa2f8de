//! Rules of the form *in these rooms nobody mentions that, because …*.

use std::collections::BTreeMap;

use super::paths::{mentions, reexports};
use super::source::{Source, inside, tokens};

/// One line of a table of arrows.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Rooms the rule holds in: a directory, or a module with or without its own directory.
    pub within: &'static [&'static str],
    /// Rooms inside those where it does not hold.
    pub except: &'static [&'static str],
    /// What is barred.
    pub bars: Bars,
    /// The reason, shown with every finding.
    pub why: &'static str,
}

/// What a rule bars.
#[derive(Clone, Copy, Debug)]
pub enum Bars {
    /// These paths and all below them: `crate::packet`, `std::thread`, `snow`.
    Paths(&'static [&'static str]),
    /// Every path in the own crate but these.
    OwnCrateBut(&'static [&'static str]),
    /// This word anywhere in the code.
    Word(&'static str),
}

/// Holds product code against the table.
#[must_use]
pub fn check(rules: &[Rule], sources: &[Source]) -> Vec<String> {
    let lent: BTreeMap<String, Vec<(String, String)>> = sources
        .iter()
        .filter_map(|s| {
            Some((
                s.path.strip_suffix("src/lib.rs")?.to_owned(),
                reexports(&s.product()),
            ))
        })
        .collect();
    let mut findings = Vec::new();
    for source in sources {
        let holds = |rule: &&Rule| {
            let among = |rooms: &[&str]| rooms.iter().any(|room| inside(&source.path, room));
            among(rule.within) && !among(rule.except)
        };
        let rules: Vec<&Rule> = rules.iter().filter(holds).collect();
        if rules.is_empty() {
            continue;
        }
        let product = source.product();
        let home = source.path.split_once("src/").map_or("", |(home, _)| home);
        let names = lent.get(home).map_or(&[][..], Vec::as_slice);
        let seen = seen(&product, names);
        for rule in rules {
            findings.extend(broken(rule, &product, &seen));
        }
    }
    findings
}

/// What a file mentions, with names lent by the crate root replaced by the module behind them.
fn seen(source: &Source, lent: &[(String, String)]) -> Vec<(String, usize)> {
    let behind = |path: String| {
        let hit = lent.iter().find(|(name, _)| below(&path, name));
        hit.map_or(path.clone(), |(name, origin)| path.replacen(name, origin, 1))
    };
    mentions(source)
        .into_iter()
        .map(|m| (behind(m.path), m.line))
        .collect()
}

fn broken(rule: &Rule, source: &Source, seen: &[(String, usize)]) -> Vec<String> {
    let say = |what: &str, line: usize| format!("{}:{line}: mentions `{what}` – {}", source.path, rule.why);
    match rule.bars {
        Bars::Word(word) => tokens(&source.code)
            .iter()
            .filter(|t| t.text == word)
            .map(|t| say(word, t.line))
            .collect(),
        Bars::Paths(barred) => {
            let hit = |path: &str| barred.iter().any(|bar| below(path, bar));
            seen.iter()
                .filter(|(path, _)| hit(path))
                .map(|(path, line)| say(path, *line))
                .collect()
        }
        Bars::OwnCrateBut(open) => {
            let hit = |path: &str| path.starts_with("crate::") && !open.iter().any(|room| below(path, room));
            seen.iter()
                .filter(|(path, _)| hit(path))
                .map(|(path, line)| say(path, *line))
                .collect()
        }
    }
}

/// Whether `path` is `top` or lies below it.
fn below(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 3] = [
        Rule {
            within: &["a/src/wire"],
            except: &["a/src/wire/free"],
            bars: Bars::Paths(&["crate::packet", "std::thread"]),
            why: "w",
        },
        Rule {
            within: &["a/src/net"],
            except: &[],
            bars: Bars::OwnCrateBut(&["crate::net", "crate::buffer"]),
            why: "n",
        },
        Rule {
            within: &["a/src"],
            except: &["a/src/net/sys"],
            bars: Bars::Word("unsafe"),
            why: "u",
        },
    ];

    fn findings(path: &str, text: &str) -> usize {
        let root = Source::new("a/src/lib.rs", "pub mod packet; pub use packet::Open;");
        check(&RULES, &[root, Source::new(path, text)]).len()
    }

    #[test]
    fn a_forbidden_arrow_is_found_however_it_is_written() {
        assert_eq!(findings("a/src/wire.rs", "use crate::packet::Open;"), 1);
        assert_eq!(findings("a/src/wire/frame.rs", "use super::super::{packet};"), 1);
        assert_eq!(
            findings("a/src/wire/frame.rs", "fn f() { crate::packet::open() }"),
            1
        );
        assert_eq!(findings("a/src/wire/mod.rs", "use crate::Open;"), 1);
        assert_eq!(findings("a/src/wire/mod.rs", "use std::{fmt, thread};"), 1);
        assert_eq!(findings("a/src/net/mod.rs", "use crate::{buffer, wire};"), 1);
    }

    #[test]
    fn what_is_allowed_stays_silent() {
        assert_eq!(findings("a/src/wire/free.rs", "use crate::packet::Open;"), 0);
        assert_eq!(
            findings(
                "a/src/wire/mod.rs",
                "//! See crate::packet.\nuse crate::packets; use std::threads;"
            ),
            0
        );
        assert_eq!(
            findings(
                "a/src/wire/mod.rs",
                "#[cfg(test)] mod tests { use crate::packet::Open; }"
            ),
            0
        );
        assert_eq!(findings("a/src/connection/mod.rs", "use crate::packet::Open;"), 0);
        assert_eq!(
            findings(
                "a/src/net/mod.rs",
                "use crate::buffer::Batch; use super::buffer; use std::io;"
            ),
            0
        );
    }

    #[test]
    fn words_are_found_in_code_only() {
        assert_eq!(findings("a/src/x.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(
            findings("a/src/x.rs", "// unsafe\nfn unsafe_code() { h(\"unsafe\") }"),
            0
        );
        assert_eq!(findings("a/src/net/sys/linux.rs", "fn f() { unsafe { g() } }"), 0);
    }
}
