//! Things that must not stand in a commit: switched-off tests, gaps, lints silenced without a reason.

use super::source::{Source, Token, closing, tokens};

/// Findings in one file, tests included.
#[must_use]
pub fn check(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let mut findings = Vec::new();
    let mut say = |line: usize, what: &str| findings.push(format!("{}:{line}: {what}", source.path));
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).map_or("", |t| t.text);
        if matches!(token.text, "todo" | "unimplemented") && next == "!" {
            say(
                token.line,
                "a gap in the code: write it, or return an error that says so",
            );
        }
        if token.text == "#" {
            let open = if next == "!" { at + 2 } else { at + 1 };
            if tokens.get(open).is_some_and(|t| t.text == "[") {
                let attribute = &tokens[open + 1..closing(&tokens, open).max(open + 1)];
                if ignores(attribute) {
                    say(
                        token.line,
                        "a test that is switched off: repair or delete it; long ones belong in the soak",
                    );
                }
                if silences_without_reason(attribute) {
                    say(
                        token.line,
                        "a lint silenced without a reason: add `reason = \"…\"`",
                    );
                }
            }
        }
    }
    for (number, line) in source.comments.lines().enumerate() {
        if line.contains(MARKER) {
            say(
                number + 1,
                "a note to repair something: do it now, or describe the limit in a sentence",
            );
        }
    }
    findings
}

const MARKER: &str = concat!("FIX", "ME");

fn ignores(attribute: &[Token<'_>]) -> bool {
    match attribute.first().map(|t| t.text) {
        Some("ignore") => true,
        Some("cfg_attr") => attribute.iter().any(|t| t.text == "ignore"),
        _ => false,
    }
}

fn silences_without_reason(attribute: &[Token<'_>]) -> bool {
    let conditional = attribute.first().is_some_and(|t| t.text == "cfg_attr");
    (0..attribute.len().saturating_sub(1)).any(|at| {
        matches!(attribute[at].text, "allow" | "expect")
            && attribute[at + 1].text == "("
            && (at == 0 || conditional)
            && !attribute[at..=closing(attribute, at + 1)]
                .iter()
                .any(|t| t.text == "reason")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Source::new("x.rs", text)).len()
    }

    #[test]
    fn each_bad_habit_is_found() {
        for bad in [
            "#[test]\n#[ignore]\nfn f() {}",
            "#[ignore = \"slow\"] fn f() {}",
            "#[cfg_attr(miri, ignore)] fn f() {}",
            "fn f() { todo!() }",
            "fn f() { unimplemented!(\"later\") }",
            concat!("// FIX", "ME later"),
            "#[allow(dead_code)] fn f() {}",
            "#![expect(clippy::all)]",
            "#[cfg_attr(test, allow(dead_code))] fn f() {}",
        ] {
            assert_eq!(findings(bad), 1, "{bad}");
        }
    }

    #[test]
    fn the_decent_forms_pass() {
        for good in [
            "#[allow(dead_code, reason = \"read by the debugger\")] fn f() {}",
            "#![expect(\n    clippy::print_stdout,\n    reason = \"prints its report\"\n)]",
            "fn ignore(todo: u8) -> bool { allow(todo) }",
            concat!("fn f() { g(\"FIX", "ME todo!()\") }"),
            "#[doc = include_str!(\"x\")] fn f() {}",
        ] {
            assert_eq!(findings(good), 0, "{good}");
        }
    }
}
