//! What the process ends with, and the one error every command returns.

use std::fmt;

/// Exit codes; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The work could not be done.
    Failed = 1,
    /// The command line is wrong, or names what does not exist yet.
    Usage = 2,
    /// A configuration or a file is wrong.
    Config = 3,
    /// Authentication or handshake.
    Auth = 4,
    /// Nobody answered.
    Unreachable = 5,
    /// A privilege is missing.
    Privilege = 6,
    /// A gate did not pass.
    Gate = 7,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM before the work began.
    Terminated = 143,
}

/// A failure with its exit code and a message that says what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) code: Code,
    /// For people.
    pub(crate) message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The result of every command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Makes a failure.
pub(crate) fn fail<T>(code: Code, message: impl fmt::Display) -> Outcome<T> {
    Err(Failure {
        code,
        message: message.to_string(),
    })
}

/// Gives an error an exit code and says what was being done.
pub(crate) trait Context<T> {
    /// `what` stands before the error's own words.
    fn or_fail(self, code: Code, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn or_fail(self, code: Code, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure {
            code,
            message: format!("{what}: {error}"),
        })
    }
}
