//! The lines of the demo: each a check with its measured figure.

use serde_json::{Value, json};

use crate::output;

/// One measured check.
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) detail: String,
}

/// All checks so far; each is shown as it comes.
pub(crate) struct Checks {
    done: Vec<Check>,
    quiet: bool,
}

impl Checks {
    /// With `quiet`, nothing is shown on the way.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            done: Vec::new(),
            quiet,
        }
    }

    /// Tells what is being done now.
    pub(crate) fn progress(&self, text: &str) {
        if !self.quiet {
            output::tell(format_args!("… {text}"));
        }
    }

    pub(crate) fn add(&mut self, check: Check) {
        if !self.quiet {
            let mark = if check.ok { "ok    " } else { "FAILED" };
            output::line(format_args!(
                "{mark} {:<44} {:>10.2} {:<8} {}",
                check.name, check.value, check.unit, check.detail
            ));
        }
        self.done.push(check);
    }

    /// A check that could not even be carried out.
    pub(crate) fn broken(&mut self, name: &str, why: &str) {
        self.add(Check {
            name: name.into(),
            ok: false,
            value: 0.0,
            unit: "",
            detail: why.into(),
        });
    }

    pub(crate) fn all_passed(&self) -> bool {
        !self.done.is_empty() && self.done.iter().all(|check| check.ok)
    }

    pub(crate) fn failed(&self) -> Vec<&str> {
        self.done
            .iter()
            .filter(|check| !check.ok)
            .map(|check| check.name.as_str())
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.done.len()
    }

    pub(crate) fn json(&self) -> Value {
        let one = |check: &Check| json!({ "name": check.name, "ok": check.ok, "value": check.value, "unit": check.unit, "detail": check.detail });
        self.done.iter().map(one).collect()
    }
}
