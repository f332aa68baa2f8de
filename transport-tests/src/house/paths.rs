//! Which modules and crates a source mentions, by `use` or by a path in the middle of code.

use super::source::{Source, Token, tokens};

/// One path as it was written, made absolute where it starts with `crate`, `self` or `super`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// `crate::wire::frame`, `std::thread`, `snow::Builder`.
    pub path: String,
    /// The name it goes by after `as`, or the last part.
    pub name: String,
    /// Counted from 1.
    pub line: usize,
}

/// All mentions in a source. Paths that start at a local name are reported as they stand.
#[must_use]
pub fn mentions(source: &Source) -> Vec<Mention> {
    let tokens = tokens(&source.code);
    let mut reader = Reader {
        tokens: &tokens,
        module: module_of(&source.path),
        found: Vec::new(),
    };
    reader.run();
    reader.found
}

/// Names that the crate root re-exports, with the path behind them, so that `crate::Thing` cannot hide an arrow.
#[must_use]
pub fn reexports(root: &Source) -> Vec<(String, String)> {
    mentions(root)
        .into_iter()
        .filter_map(|m| {
            let path = m.path.strip_prefix("self::").unwrap_or(&m.path);
            let path = path.strip_prefix("crate::").unwrap_or(path);
            let outside = ["std", "core", "alloc"]
                .iter()
                .any(|c| path.split("::").next() == Some(c));
            (path.contains("::") && !outside)
                .then(|| (format!("crate::{}", m.name), format!("crate::{path}")))
        })
        .collect()
}

/// The module a file holds: `a/src/wire/frame.rs` is `wire::frame`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.rsplit_once("src/").map_or(path, |(_, inner)| inner);
    let stem = inner.strip_suffix(".rs").unwrap_or(inner);
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if parts
        .last()
        .is_some_and(|last| last == "mod" || last == "lib" || last == "main")
    {
        parts.pop();
    }
    parts
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    module: Vec<String>,
    found: Vec<Mention>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn run(&mut self) {
        let mut at = 0;
        let mut depth = 0usize;
        let mut inline: Vec<usize> = Vec::new();
        while at < self.tokens.len() {
            let token = self.tokens[at];
            let starts = at == 0 || self.text(at - 1) != "::" || self.is_global(at - 1);
            match token.text {
                "use" => {
                    let global = usize::from(self.text(at + 1) == "::");
                    at = self.tree(at + 1 + global, &mut Vec::new());
                    continue;
                }
                "crate" if at > 0 && self.text(at - 1) == "extern" => {
                    at = self.tree(at + 1, &mut Vec::new());
                    continue;
                }
                "mod" if self.text(at + 2) == "{" => {
                    inline.push(depth);
                    self.module.push(self.text(at + 1).to_owned());
                }
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        self.module.pop();
                    }
                }
                _ if token.is_word() && starts && self.text(at + 1) == "::" => {
                    at = self.tree(at, &mut Vec::new());
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Whether the `::` at `at` has nothing before it, as in `::snow::Builder`.
    fn is_global(&self, at: usize) -> bool {
        at == 0 || !(self.tokens[at - 1].is_word() || matches!(self.text(at - 1), ">" | "]" | ")" | "}"))
    }

    /// Reads one path or one use-tree from `at`; returns the index behind it.
    fn tree(&mut self, mut at: usize, prefix: &mut Vec<String>) -> usize {
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        let base = prefix.len();
        let mut alias = None;
        while let Some(token) = self.tokens.get(at).copied() {
            if token.is_word() {
                prefix.push(token.text.to_owned());
                at += 1;
                if self.text(at) == "::" {
                    at += 1;
                    continue;
                }
                if self.text(at) == "as" && self.tokens.get(at + 1).is_some_and(Token::is_word) {
                    alias = Some(self.text(at + 1).to_owned());
                }
            } else if token.text == "{" {
                at = self.group(at + 1, prefix);
                prefix.truncate(base);
                return at;
            } else if token.text == "*" {
                at += 1;
            }
            break;
        }
        self.push(prefix, alias, line);
        prefix.truncate(base);
        at
    }

    fn group(&mut self, mut at: usize, prefix: &mut Vec<String>) -> usize {
        while at < self.tokens.len() && self.text(at) != "}" {
            at = self.tree(at, prefix);
            while at < self.tokens.len() && !matches!(self.text(at), "," | "}") {
                at += 1;
            }
            if self.text(at) == "," {
                at += 1;
            }
        }
        at + 1
    }

    fn push(&mut self, parts: &[String], alias: Option<String>, line: usize) {
        // `use a::{self}` names `a`.
        let parts = match parts {
            [head @ .., last] if last == "self" && !head.is_empty() => head,
            whole => whole,
        };
        let Some(last) = parts.last() else { return };
        let mut absolute: Vec<String> = Vec::new();
        let mut rest = parts;
        match parts[0].as_str() {
            "crate" => rest = &parts[1..],
            "self" | "super" => {
                absolute.clone_from(&self.module);
                while let [first, tail @ ..] = rest {
                    match first.as_str() {
                        "self" => {}
                        "super" => drop(absolute.pop()),
                        _ => break,
                    }
                    rest = tail;
                }
            }
            _ => {
                let name = alias.unwrap_or_else(|| last.clone());
                return self.found.push(Mention {
                    path: parts.join("::"),
                    name,
                    line,
                });
            }
        }
        absolute.insert(0, "crate".to_owned());
        absolute.extend_from_slice(rest);
        self.found.push(Mention {
            path: absolute.join("::"),
            name: alias.unwrap_or_else(|| last.clone()),
            line,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(file: &str, text: &str) -> Vec<String> {
        mentions(&Source::new(file, text))
            .into_iter()
            .map(|m| m.path)
            .collect()
    }

    #[test]
    fn use_trees_are_unfolded() {
        let found = paths(
            "a/src/x.rs",
            "use crate::{wire::{self, Frame}, packet as p, *};\nuse snow;\nuse ::mio::Poll;",
        );
        assert_eq!(
            found,
            [
                "crate::wire",
                "crate::wire::Frame",
                "crate::packet",
                "crate",
                "snow",
                "mio::Poll"
            ]
        );
    }

    #[test]
    fn relative_paths_become_absolute() {
        let found = paths(
            "a/src/wire/frame.rs",
            "use super::super::packet::Open; mod m { use super::ack; } use self::x;",
        );
        assert_eq!(
            found,
            [
                "crate::packet::Open",
                "crate::wire::frame::ack",
                "crate::wire::frame::x"
            ]
        );
    }

    #[test]
    fn paths_in_code_count_too() {
        let found = paths(
            "a/src/x.rs",
            "fn f() { let v = Vec::<u8>::new(); ::snow::Builder::new(&crate::net::N {}) }",
        );
        assert_eq!(found, ["Vec", "snow::Builder::new", "crate::net::N"]);
    }

    #[test]
    fn the_root_lends_names() {
        let root = Source::new(
            "a/src/lib.rs",
            "mod wire; pub use wire::{Frame as F}; pub use self::packet::Open; use std::fmt;",
        );
        let names = reexports(&root);
        let expected = [
            ("crate::F", "crate::wire::Frame"),
            ("crate::Open", "crate::packet::Open"),
        ];
        assert_eq!(names, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
