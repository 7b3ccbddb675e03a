use std::fmt::Display;

use anyhow::Error;

/// What a command that failed tells the user: what, why, and what to do.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    help: Option<String>,
}

impl Failure {
    /// A failure with its reason in one text, `what: why`.
    pub fn new(message: impl Display) -> Self {
        Self { error: Error::msg(message.to_string()), help: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The lines for stderr.
    pub fn report(&self) -> String {
        let mut report = "error".to_owned();
        // Some errors repeat their cause's words; they are said once.
        for cause in self.error.chain().map(ToString::to_string) {
            if !report.contains(&cause) {
                report.push_str(": ");
                report.push_str(&cause);
            }
        }
        if let Some(help) = &self.help {
            report.push_str("\nhelp: ");
            report.push_str(help);
        }
        report
    }
}

/// Adds what was tried, and what to do, to a library's error.
pub trait Explain<T> {
    /// `what` failed because of this error.
    fn explain(self, what: impl Display) -> Result<T, Failure>;
    /// The same, with what to do about it.
    fn explain_help(self, what: impl Display, help: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Error>> Explain<T> for Result<T, E> {
    fn explain(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure { error: error.into().context(what.to_string()), help: None })
    }

    fn explain_help(self, what: impl Display, help: impl Into<String>) -> Result<T, Failure> {
        self.explain(what).map_err(|failure| failure.help(help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_why_and_what_to_do_each_once() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::new(cause).context("cannot write x: disk on fire");
        let report = Err::<(), _>(error).explain_help("cannot keep the history", "call somebody").unwrap_err().report();
        assert_eq!(report, "error: cannot keep the history: cannot write x: disk on fire\nhelp: call somebody");
    }
}
