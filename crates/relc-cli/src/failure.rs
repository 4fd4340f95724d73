//! How commands fail.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// What a failure is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum About {
    /// The command line asks for something that does not exist.
    Usage,
    /// One input; others may do.
    Input,
    /// All else.
    Run,
}

/// A failure with its exit code: 2 for wrong usage, 1 for all else.
#[derive(Debug)]
pub struct Failure {
    source: Box<dyn Error + Send + Sync>,
    about: About,
}

impl Failure {
    /// The command line asks for something that does not exist.
    pub fn usage(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Failure { source: source.into(), about: About::Usage }
    }

    /// One input fails; others may do.
    pub fn input(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Failure { source: source.into(), about: About::Input }
    }

    /// Whether one input fails and others may do.
    pub fn is_of_input(&self) -> bool {
        self.about == About::Input
    }

    /// The exit code: 1 or 2.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.about == About::Usage { 2 } else { 1 })
    }

    /// The message and the chain of its causes, each on its line; a cause that its parent's message already holds is
    /// left out. Further lines are indented, so that none passes for a message of its own.
    pub fn text(&self) -> String {
        let messages = relc::messages(self.source.as_ref()).into_iter();
        messages.map(|message| message.replace('\n', "\n  ")).collect::<Vec<_>>().join("\n  because: ")
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(source: E) -> Self {
        Failure { source: source.into(), about: About::Run }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.text())
    }
}
