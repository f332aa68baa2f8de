//! One line that says how far a run is. Without a terminal, a line now and then.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINES: f64 = 8.0;

/// The line.
pub(super) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    silent: bool,
    total: f64,
    shown: f64,
}

impl Progress {
    /// A line for `total` seconds, on stderr.
    pub(super) fn new(total: f64, silent: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !silent;
        let target = if terminal {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some((total * 10.0) as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/dim} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            terminal,
            silent,
            total,
            shown: 0.0,
        }
    }

    /// `elapsed` seconds have passed; `what` goes on.
    pub(super) fn at(&mut self, elapsed: f64, what: &str) {
        let left = Duration::from_secs_f64((self.total - elapsed).max(0.0)).as_secs();
        let line = format!("{}:{:02} left · {what}", left / 60, left % 60);
        self.bar.set_position((elapsed * 10.0) as u64);
        self.bar.set_message(line.clone());
        if !self.terminal && !self.silent && elapsed >= self.shown {
            self.shown = elapsed + (self.total / LINES).max(5.0);
            eprintln!("{line}");
        }
    }

    /// The line goes.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
