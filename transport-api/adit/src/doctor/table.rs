//! Findings for people.

use std::fmt::Write;

use super::{Finding, Verdict};

/// A line for each, and below what is not well what to do.
pub(super) fn render(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Well => "ok     ",
            Verdict::Lacking => "note   ",
            Verdict::Missing | Verdict::Forbidden => "MISSING",
        };
        let _ = writeln!(text, "{mark}  {:<width$}  {}", finding.name, finding.value);
        if !finding.detail.is_empty() {
            let _ = writeln!(text, "{:9}{}", "", finding.detail);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_advice_below_its_line() {
        let findings = [
            Finding::well("UDP", "yes"),
            Finding::when(false, "descriptors", "256", "raise it"),
            Finding::when(false, "TUN", "no", "load it").needed(true),
        ];
        assert_eq!(
            render(&findings),
            "ok       UDP          yes\nnote     descriptors  256\n         raise it\nMISSING  TUN          no\n         load it\n"
        );
    }
}
