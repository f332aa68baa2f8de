//! The list of granted exceptions, `tidy.allow`. Each carries a figure and a reason, and may only shrink.
//!
//! One exception a line: *kind*, *where*, *figure*, *reason*. `#` starts a comment.

use std::collections::BTreeMap;

/// A measured breach of a limit: kind and place, the figure, and the sentence shown when it is not granted.
#[derive(Clone, Debug)]
pub struct Breach {
    /// `lines`, `function` or `duplicate`.
    pub kind: &'static str,
    /// A path, `path::function` or `path+path`.
    pub place: String,
    /// What was measured.
    pub figure: usize,
    /// What is wrong and what to do.
    pub finding: String,
}

/// Holds the breaches against the list. A breach must be granted and not above its figure; an entry must still be
/// needed and not be far above what is measured.
#[must_use]
pub fn check(list: &str, breaches: &[Breach]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut granted: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for (number, line) in list
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [kind, place, figure, _, ..] if figure.parse::<usize>().is_ok() => {
                granted.insert((kind, place), (figure.parse().unwrap_or(0), number + 1));
            }
            _ => findings.push(format!(
                "tidy.allow:{}: wants `kind place figure reason`",
                number + 1
            )),
        }
    }
    for breach in breaches {
        match granted.remove(&(breach.kind, breach.place.as_str())) {
            Some((figure, _)) if breach.figure > figure => {
                findings.push(format!(
                    "{} (tidy.allow grants {figure}; that figure may only fall)",
                    breach.finding
                ));
            }
            Some((figure, line)) if figure > breach.figure + breach.figure / 10 => findings.push(format!(
                "tidy.allow:{line}: {} {} has come down to {}; lower the figure {figure}",
                breach.kind, breach.place, breach.figure
            )),
            Some(_) => {}
            None => findings.push(breach.finding.clone()),
        }
    }
    for ((kind, place), (_, line)) in granted {
        findings.push(format!(
            "tidy.allow:{line}: {kind} {place} no longer needs an exception; delete the line"
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(list: &str, figure: usize) -> usize {
        let place = "a/src/x.rs".to_owned();
        let breaches = [Breach {
            kind: "lines",
            place,
            figure,
            finding: "too long".to_owned(),
        }];
        check(list, if figure == 0 { &[] } else { &breaches }).len()
    }

    #[test]
    fn the_list_only_shrinks() {
        let list = "# kind place figure reason\n\nlines a/src/x.rs 650 a table that reads best whole\n";
        assert_eq!(findings("", 650), 1, "not granted");
        assert_eq!(findings(list, 650), 0, "granted");
        assert_eq!(findings(list, 640), 0, "a little better");
        assert_eq!(findings(list, 651), 1, "grown");
        assert_eq!(findings(list, 590), 1, "much better: lower the figure");
        assert_eq!(findings(list, 0), 1, "no longer needed");
        assert_eq!(findings("lines a/src/x.rs 650\n", 0), 1, "no reason given");
        assert_eq!(findings("lines a/src/x.rs many because\n", 0), 1, "no figure");
    }
}
