//! `adit doctor`: what this machine has, what it lacks, and what to do about that. It changes nothing.

mod host;
mod network;
mod table;
mod vpn;

use serde_json::{Value, json};

use crate::{
    cli,
    config::{Config, Tun},
    exit::{Code, Outcome, fail},
    output, secrets,
};

/// What was looked at, and how it is.
struct Finding {
    name: &'static str,
    verdict: Verdict,
    value: String,
    /// What to do when it is not well; otherwise what it is good for, or nothing.
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Well,
    /// It works without this, less well or not all of it.
    Lacking,
    /// What was asked for does not work without this.
    Missing,
    /// The same, and a privilege is the reason.
    Forbidden,
}

impl Finding {
    fn well(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Well,
            value: value.into(),
            detail: String::new(),
        }
    }

    /// Well, or lacking with this advice.
    fn when(ok: bool, name: &'static str, value: impl Into<String>, advice: impl Into<String>) -> Self {
        let mut finding = Self::well(name, value);
        if !ok {
            (finding.verdict, finding.detail) = (Verdict::Lacking, advice.into());
        }
        finding
    }

    /// What only lacks is missing where it is needed.
    fn needed(mut self, needed: bool) -> Self {
        if needed && self.verdict == Verdict::Lacking {
            self.verdict = Verdict::Missing;
        }
        self
    }

    fn ok(&self) -> bool {
        self.verdict == Verdict::Well
    }

    fn is_missing(&self) -> bool {
        matches!(self.verdict, Verdict::Missing | Verdict::Forbidden)
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "ok": self.ok(), "missing": self.is_missing(), "value": self.value, "detail": self.detail })
    }
}

pub(crate) fn run(options: &cli::Doctor, as_json: bool) -> Outcome {
    let config = options.config.as_deref().map(Config::load).transpose()?;
    let tun = config
        .as_ref()
        .map(|config| &config.tun)
        .filter(|tun| tun.enabled);
    let findings = examine(tun);
    let failed = verdict(&findings);
    if as_json {
        let all: Vec<Value> = findings.iter().map(Finding::json).collect();
        output::json_line(&json!({ "ok": failed.is_none(), "checks": all }));
    } else {
        output::line(table::render(&findings).trim_end());
    }
    let Some(code) = failed else { return Ok(()) };
    let names: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.is_missing())
        .map(|finding| finding.name)
        .collect();
    fail(
        code,
        format!("this machine lacks what is needed: {}", names.join(", ")),
    )
}

/// With `tun`, what an IP tunnel of that configuration wants is needed.
fn examine(tun: Option<&Tun>) -> Vec<Finding> {
    let mut findings = network::socket();
    findings.extend(host::processor());
    findings.push(host::clock(transport_api::now().unix_ms / 1000));
    findings.push(host::kernel());
    findings.extend(vpn::device(tun.is_some()));
    findings.extend(vpn::forwarding(tun));
    findings.push(vpn::nft(tun));
    findings.push(vpn::resolvers());
    findings.push(host::files());
    // Last: it closes parts of /proc to this process.
    findings.extend(host::secrecy(secrets::protect()));
    findings
}

/// What the process ends with when something needed is not there. A privilege comes first: it may be the reason for the rest.
fn verdict(findings: &[Finding]) -> Option<Code> {
    let has = |verdict| findings.iter().any(|finding| finding.verdict == verdict);
    if has(Verdict::Forbidden) {
        Some(Code::Privilege)
    } else {
        has(Verdict::Missing).then_some(Code::Failed)
    }
}

/// A value of the kernel's, by its name as `sysctl` has it.
fn sysctl(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict) -> Finding {
        Finding {
            verdict,
            ..Finding::well("x", "1")
        }
    }

    #[test]
    fn only_what_is_missing_decides_and_a_privilege_comes_first() {
        let of = |verdicts: &[Verdict]| {
            let findings: Vec<_> = verdicts.iter().copied().map(finding).collect();
            verdict(&findings)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Verdict::Well, Verdict::Lacking]), None);
        assert_eq!(of(&[Verdict::Well, Verdict::Missing]), Some(Code::Failed));
        assert_eq!(
            of(&[Verdict::Missing, Verdict::Forbidden, Verdict::Lacking]),
            Some(Code::Privilege)
        );
    }

    #[test]
    fn a_need_turns_what_lacks_into_what_is_missing_and_nothing_else() {
        let turned = |verdict, needed| finding(verdict).needed(needed).verdict;
        assert_eq!(turned(Verdict::Lacking, true), Verdict::Missing);
        assert_eq!(turned(Verdict::Lacking, false), Verdict::Lacking);
        assert_eq!(turned(Verdict::Well, true), Verdict::Well);
        assert_eq!(turned(Verdict::Forbidden, true), Verdict::Forbidden);
    }

    #[test]
    fn a_finding_tells_scripts_what_it_tells_people() {
        let lacking = Finding::when(false, "GSO", "no", "a newer kernel").needed(true);
        assert_eq!(
            lacking.json(),
            json!({ "name": "GSO", "ok": false, "missing": true, "value": "no", "detail": "a newer kernel" })
        );
        assert_eq!(Finding::when(true, "GSO", "yes", "unused").json()["detail"], "");
    }
}
