//! Rust text as the guards see it: comments, strings and tests told apart from code.
//!
//! A full parser is not needed. The scanner knows comments (nested too), string and character literals (raw ones
//! too) and lifetimes; the rest is words and punctuation.

use std::fs;
use std::path::Path;

/// One source file in three layers of equal line numbers.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// Comments are blank, contents of literals are zeros.
    pub code: String,
    /// Comments are blank, literals as written.
    pub text: String,
    /// Only the comments.
    pub comments: String,
}

/// A word or a piece of punctuation, and the line it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The characters.
    pub text: &'a str,
    /// Counted from 1.
    pub line: usize,
}

impl Token<'_> {
    /// Whether this is an identifier or keyword.
    #[must_use]
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Whether `path` lies in `room`: the file `room.rs`, the file `room` itself or anything under `room/`.
#[must_use]
pub fn inside(path: &str, room: &str) -> bool {
    match path.strip_prefix(room) {
        Some(rest) => rest.is_empty() || rest == ".rs" || rest.starts_with('/') || room.ends_with('/'),
        None => false,
    }
}

/// Every Rust source of the repository, sorted by path; build output and hidden directories are left out.
///
/// # Panics
/// When a directory or file cannot be read.
#[must_use]
pub fn all(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort_by(|a: &Source, b| a.path.cmp(&b.path));
    found
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap_or_else(|e| panic!("{}: {e}", dir.display())).path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            // A cache tag marks build output wherever it was put.
            if name != "target" && !name.starts_with('.') && !path.join("CACHEDIR.TAG").exists() {
                walk(root, &path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let relative = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .replace('\\', "/");
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            found.push(Source::new(&relative, &text));
        }
    }
}

impl Source {
    /// Scans a text.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let mut scanner = Scanner {
            chars: text.chars().collect(),
            at: 0,
            out: Self::empty(path),
        };
        scanner.run();
        scanner.out
    }

    fn empty(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            code: String::new(),
            text: String::new(),
            comments: String::new(),
        }
    }

    /// Whether the whole file is test code: under a `tests` directory, or named `tests.rs`.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let mut parts = self.path.split('/').rev();
        parts.next() == Some("tests.rs") || parts.any(|part| part == "tests")
    }

    /// The same file without items under `#[cfg(test)]`; empty when the whole file is test code.
    #[must_use]
    pub fn product(&self) -> Self {
        let mut product = self.clone();
        if self.is_test() {
            return Self::empty(&self.path);
        }
        for (first, last) in test_items(&tokens(&self.code)) {
            blank(&mut product.code, first, last);
            blank(&mut product.text, first, last);
        }
        product
    }

    /// Lines that hold code.
    #[must_use]
    pub fn code_lines(&self) -> usize {
        self.code.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

/// Splits scanned code into tokens; `::`, `=>` and `->` stay whole.
#[must_use]
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else if ["::", "=>", "->"].iter().any(|pair| rest.starts_with(pair)) {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(length);
            found.push(Token {
                text,
                line: number + 1,
            });
            rest = after.trim_start();
        }
    }
    found
}

/// The index of the bracket that closes the one at `open`, or the last index when it never closes.
#[must_use]
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// First and last lines of the items that stand under `#[cfg(test)]`.
fn test_items(tokens: &[Token<'_>]) -> Vec<(usize, usize)> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut found = Vec::new();
    let mut at = 0;
    while at + MARK.len() < tokens.len() {
        if !MARK
            .iter()
            .zip(&tokens[at..])
            .all(|(mark, token)| *mark == token.text)
        {
            at += 1;
            continue;
        }
        let first = tokens[at].line;
        at += MARK.len();
        while tokens.get(at).is_some_and(|t| t.text == "#") {
            at = closing(tokens, at + 1) + 1;
        }
        let is_use = tokens.get(at).is_some_and(|t| t.text == "use");
        while let Some(token) = tokens.get(at) {
            match token.text {
                ";" => break,
                "{" if !is_use => {
                    at = closing(tokens, at);
                    break;
                }
                "(" | "[" | "{" => at = closing(tokens, at) + 1,
                _ => at += 1,
            }
        }
        let last = tokens.get(at).or(tokens.last()).map_or(first, |token| token.line);
        found.push((first, last));
    }
    found
}

fn blank(text: &mut String, first: usize, last: usize) {
    let lines: Vec<&str> = text
        .lines()
        .enumerate()
        .map(|(i, line)| {
            if (first..=last).contains(&(i + 1)) {
                ""
            } else {
                line
            }
        })
        .collect();
    *text = lines.join("\n");
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    out: Source,
}

#[derive(Clone, Copy)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Scanner {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('/')) => self.take_while(Kind::Comment, |c| c != '\n'),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('\'', _) => self.quote(),
                ('r', _) if !self.in_word() => self.raw_or_word(),
                // `br"…"` and `cr"…"`: the prefix letter is code, what follows is a raw string.
                ('b' | 'c', Some('r')) if !self.in_word() => {
                    self.take(Kind::Code);
                    self.raw_or_word();
                }
                _ => self.take(Kind::Code),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn in_word(&self) -> bool {
        self.at > 0
            && self
                .chars
                .get(self.at - 1)
                .is_some_and(|c| c.is_alphanumeric() || *c == '_')
    }

    /// Moves one character into the three layers.
    fn take(&mut self, kind: Kind) {
        let Some(c) = self.peek(0) else { return };
        self.at += 1;
        let (code, text, comment) = match (c, kind) {
            ('\n', _) => ('\n', '\n', '\n'),
            (c, Kind::Code) => (c, c, ' '),
            (c, Kind::Comment) => (' ', ' ', c),
            (c, Kind::Literal) => ('0', c, ' '),
        };
        self.out.code.push(code);
        self.out.text.push(text);
        self.out.comments.push(comment);
    }

    fn take_while(&mut self, kind: Kind, goes_on: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&goes_on) {
            self.take(kind);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => {
                    self.take(Kind::Comment);
                    depth += 1;
                }
                ('*', Some('/')) => {
                    self.take(Kind::Comment);
                    depth -= 1;
                }
                _ => {}
            }
            self.take(Kind::Comment);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.take(Kind::Code);
        while let Some(c) = self.peek(0) {
            match c {
                '"' => return self.take(Kind::Code),
                '\\' => {
                    self.take(Kind::Literal);
                    self.take(Kind::Literal);
                }
                _ => self.take(Kind::Literal),
            }
        }
    }

    fn raw_or_word(&mut self) {
        let hashes = self.chars[self.at + 1..]
            .iter()
            .take_while(|c| **c == '#')
            .count();
        self.take(Kind::Code);
        if self.peek(hashes) != Some('"') {
            return;
        }
        for _ in 0..=hashes {
            self.take(Kind::Code);
        }
        while let Some(c) = self.peek(0) {
            if c == '"' && (1..=hashes).all(|i| self.peek(i) == Some('#')) {
                for _ in 0..=hashes {
                    self.take(Kind::Code);
                }
                return;
            }
            self.take(Kind::Literal);
        }
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) {
        let literal = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.take(Kind::Code);
        if !literal {
            return;
        }
        if self.peek(0) == Some('\\') {
            self.take(Kind::Literal);
        }
        self.take(Kind::Literal);
        self.take_while(Kind::Literal, |c| c != '\'');
        self.take(Kind::Code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_lifetimes_are_told_apart() {
        let text = concat!(
            "fn f<'a>(x: &'a str) { // unsafe one\n",
            "  let c = '{'; let q = '\\''; /* unsafe /* two */ unsafe */ let s = \"unsafe }\\\" {\";\n",
            "  let r = r#\"unsafe \" }\"#; let b = br\"unsafe\"; let radius = '\\u{7d}';\n}\n",
        );
        let source = Source::new("x.rs", text);
        assert!(!source.code.contains("unsafe"));
        assert_eq!(source.comments.matches("unsafe").count(), 3);
        assert_eq!(source.text.matches("unsafe").count(), 3);
        let words = tokens(&source.code);
        let open = words.iter().position(|t| t.text == "{").unwrap();
        assert_eq!(closing(&words, open), words.len() - 1);
        assert!(words.iter().any(|t| t.text == "radius" && t.line == 3));
    }

    #[test]
    fn tests_are_not_product() {
        let text = "fn a() {}\n#[cfg(test)]\nuse a::{b, c};\n#[cfg(test)]\n#[rustfmt::skip]\nmod tests {\n fn b() {}\n}\nfn c() {}\n";
        let product = Source::new("src/x.rs", text).product();
        let words: Vec<&str> = tokens(&product.code)
            .iter()
            .map(|t| t.text)
            .filter(|t| t.len() == 1)
            .collect();
        assert_eq!(words.concat(), "a(){}c(){}");
        assert_eq!(product.code_lines(), 2);
        assert_eq!(Source::new("a/tests/x.rs", text).product().code_lines(), 0);
        assert_eq!(Source::new("a/src/tests.rs", text).product().code_lines(), 0);
        assert!(!Source::new("transport-tests/src/x.rs", text).is_test());
    }

    #[test]
    fn rooms_end_at_their_walls() {
        assert!(inside("a/src/net/sys/linux.rs", "a/src/net"));
        assert!(inside("a/src/net.rs", "a/src/net"));
        assert!(inside("a/src/lib.rs", "a/src/lib.rs"));
        assert!(!inside("a/src/network.rs", "a/src/net"));
    }
}
