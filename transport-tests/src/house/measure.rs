//! Lengths of functions, blocks that stand twice, fields of a struct.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::source::{Source, Token, closing, tokens};

/// A function and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name; methods are not told apart by type.
    pub name: String,
    /// Where it starts.
    pub line: usize,
    /// Lines of code from `fn` to the closing brace.
    pub lines: usize,
    /// Whether it is one exhaustive `match` whose arms are single calls.
    pub dispatch: bool,
}

/// The functions of a source that have a body.
#[must_use]
pub fn functions(source: &Source) -> Vec<Function> {
    let tokens = tokens(&source.code);
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !pair[1].is_word() {
            continue;
        }
        let Some(open) = body(&tokens, at) else { continue };
        let close = closing(&tokens, open);
        let lines = lines_between(&tokens, at, close);
        let dispatch = is_dispatch(&tokens, open, close, lines);
        found.push(Function {
            name: pair[1].text.to_owned(),
            line: pair[0].line,
            lines,
            dispatch,
        });
    }
    found
}

/// The brace that opens the body of the function at `at`, if it has one.
fn body(tokens: &[Token<'_>], mut at: usize) -> Option<usize> {
    loop {
        match tokens.get(at)?.text {
            "{" => return Some(at),
            ";" => return None,
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
}

/// Lines that hold a token from index `from` to index `to`.
fn lines_between(tokens: &[Token<'_>], from: usize, to: usize) -> usize {
    let mut lines: Vec<usize> = tokens[from..=to].iter().map(|t| t.line).collect();
    lines.dedup();
    lines.len()
}

/// One `match` that fills at least four fifths of the function, has no `_` arm, and no arm above eight lines.
fn is_dispatch(tokens: &[Token<'_>], open: usize, close: usize, lines: usize) -> bool {
    let Some(at) = (open..close).find(|i| tokens[*i].text == "match") else {
        return false;
    };
    let Some(inner) = body(tokens, at) else {
        return false;
    };
    let end = closing(tokens, inner);
    if lines_between(tokens, at, end) * 5 < lines * 4 {
        return false;
    }
    let mut arrows = vec![inner];
    let mut i = inner + 1;
    while i < end {
        match tokens[i].text {
            "(" | "[" | "{" => i = closing(tokens, i),
            "=>" if tokens[i - 1].text == "_" => return false,
            "=>" => arrows.push(i),
            _ => {}
        }
        i += 1;
    }
    arrows.push(end);
    arrows
        .windows(2)
        .all(|pair| lines_between(tokens, pair[0], pair[1]) <= 9)
}

/// The same lines in two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The two files, in order.
    pub files: (String, String),
    /// First lines of the block in each.
    pub at: (usize, usize),
    /// Non-trivial lines they share.
    pub lines: usize,
}

/// Blocks of at least `least` identical non-trivial lines that stand in two files.
#[must_use]
pub fn duplicates(sources: &[Source], least: usize) -> Vec<Duplicate> {
    let files: Vec<Vec<(usize, u64)>> = sources.iter().map(weighty).collect();
    let mut seen: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
    let mut found = Vec::new();
    for (file, lines) in files.iter().enumerate() {
        for (at, window) in lines.windows(least).enumerate() {
            let places = seen
                .entry(digest(window.iter().map(|(_, line)| line)))
                .or_default();
            for &(other, start) in places.iter().filter(|(other, _)| *other != file) {
                let (a, b) = (&files[other], &files[file]);
                let starts_here = start == 0 || at == 0 || a[start - 1].1 != b[at - 1].1;
                if starts_here {
                    let same = a[start..]
                        .iter()
                        .zip(&b[at..])
                        .take_while(|(x, y)| x.1 == y.1)
                        .count();
                    found.push(Duplicate {
                        files: (sources[other].path.clone(), sources[file].path.clone()),
                        at: (a[start].0, b[at].0),
                        lines: same,
                    });
                }
            }
            places.push((file, at));
        }
    }
    found
}

/// Line number and digest of the lines that mean something: no imports, attributes or lone brackets.
fn weighty(source: &Source) -> Vec<(usize, u64)> {
    let trivial = |line: &str| {
        line.chars().filter(|c| c.is_alphanumeric()).count() < 3
            || [
                "use ",
                "pub use ",
                "pub(crate) use ",
                "mod ",
                "pub mod ",
                "#[",
                "#![",
            ]
            .iter()
            .any(|s| line.starts_with(s))
    };
    let lines = source
        .text
        .lines()
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !trivial(line));
    lines
        .map(|(i, line)| (i + 1, digest(std::iter::once(line))))
        .collect()
}

fn digest<T: Hash>(parts: impl Iterator<Item = T>) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.for_each(|part| part.hash(&mut hasher));
    hasher.finish()
}

/// How many named fields `struct name` has in this source, if it stands there.
#[must_use]
pub fn fields(source: &Source, name: &str) -> Option<usize> {
    let tokens = tokens(&source.code);
    let at = tokens
        .windows(2)
        .position(|pair| pair[0].text == "struct" && pair[1].text == name)?;
    let open = body(&tokens, at)?;
    let close = closing(&tokens, open);
    let mut count = 0;
    let mut i = open + 1;
    while i < close {
        match tokens[i].text {
            "(" | "[" | "{" => i = closing(&tokens, i),
            ":" => count += 1,
            _ => {}
        }
        i += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text)
    }

    fn numbered(lines: std::ops::Range<usize>) -> String {
        lines.fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "    let value{i} = compute({i});");
            text
        })
    }

    #[test]
    fn functions_are_measured_in_code_lines() {
        let text = format!(
            "trait T {{ fn none(&self, x: [u8; 3]); }}\nfn long() {{\n// words\n\n{}}}\n",
            numbered(0..80)
        );
        let found = functions(&source("x.rs", &text));
        assert_eq!(
            found,
            [Function {
                name: "long".into(),
                line: 2,
                lines: 82,
                dispatch: false
            }]
        );
    }

    #[test]
    fn only_an_exhaustive_match_of_calls_is_a_dispatch() {
        let arms = |range: std::ops::Range<usize>| {
            range.fold(String::new(), |mut text, i| {
                let _ = writeln!(
                    text,
                    "        Frame::F{i} {{ a, .. }} => self.f{i}(a, |x| match x {{ _ => 1 }}),"
                );
                text
            })
        };
        let is_dispatch =
            |body: &str| functions(&source("x.rs", &format!("fn f() {{\n{body}}}\n")))[0].dispatch;
        assert!(is_dispatch(&format!(
            "    match frame {{\n{}    }}\n",
            arms(0..90)
        )));
        assert!(!is_dispatch(&format!(
            "    match frame {{\n{}        _ => {{}}\n    }}\n",
            arms(0..90)
        )));
        assert!(!is_dispatch(&format!(
            "    match frame {{\n{}    }}\n{}",
            arms(0..20),
            numbered(0..60)
        )));
        let arm = format!("        Frame::Big => {{\n{}        }}\n", numbered(0..20));
        assert!(!is_dispatch(&format!(
            "    match frame {{\n{}{arm}    }}\n",
            arms(0..60)
        )));
    }

    #[test]
    fn a_block_in_two_files_is_found_once_and_whole() {
        let a = source("a.rs", &format!("fn a() {{\n{}}}\n", numbered(0..20)));
        let b = source(
            "b.rs",
            &format!(
                "use x;\nfn b() {{\n    // elsewhere\n{}    done();\n}}\n",
                numbered(3..18)
            ),
        );
        let found = duplicates(&[a.clone(), b], 12);
        assert_eq!(
            found,
            [Duplicate {
                files: ("a.rs".into(), "b.rs".into()),
                at: (5, 4),
                lines: 15
            }]
        );
        let c = source("c.rs", &numbered(0..11));
        assert_eq!(duplicates(&[a, c], 12), []);
    }

    #[test]
    fn fields_are_counted() {
        let text = "pub struct Connection<T: Clone> {\n a: Vec<a::B>,\n pub(crate) b: [u8; 4],\n #[doc(x)] c: fn(x: u8) -> u8,\n}";
        assert_eq!(fields(&source("x.rs", text), "Connection"), Some(3));
        assert_eq!(fields(&source("x.rs", text), "Other"), None);
    }
}
