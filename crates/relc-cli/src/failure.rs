//! How commands fail.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// A failure with its exit code: 2 for wrong usage, 1 for all else.
#[derive(Debug)]
pub struct Failure {
    source: Box<dyn Error + Send + Sync>,
    usage: bool,
}

impl Failure {
    /// The command line asks for something that does not exist.
    pub fn usage(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Failure { source: source.into(), usage: true }
    }

    /// Whether the reader of standard output went away.
    pub fn is_broken_pipe(&self) -> bool {
        let io = self.source.downcast_ref::<std::io::Error>();
        io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The exit code: 1 or 2.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(source: E) -> Self {
        Failure { source: source.into(), usage: false }
    }
}

impl fmt::Display for Failure {
    /// The message and the chain of its causes, each on its line; a cause that its parent's message already holds
    /// is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.source.to_string();
        write!(f, "error: {said}")?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !said.contains(&message) {
                write!(f, "\n  because: {}", message.replace('\n', "\n  "))?;
            }
            said = message;
            cause = error.source();
        }
        Ok(())
    }
}
