//! What is wrong with a preset.

use relc_ir::spelling::did_you_mean;

/// A preset that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresetError {
    /// No preset has that name.
    #[error("there is no preset \"{name}\"; expected {}, or a .toml file{}", known.join(" or "), did_you_mean(name, known.iter().copied()))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// The file is no preset.
    #[error("{file}, line {line}: {message}")]
    Malformed {
        /// The file, or the preset's name.
        file: String,
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// An option was given that no line of the preset looks at.
    #[error(
        "preset \"{preset}\" fixes the bias in every line, so bias = {bias} would do nothing; leave it out, or use the \
         preset \"paper\", which leaves it open"
    )]
    BiasFixed {
        /// The preset.
        preset: String,
        /// The policy that was asked for.
        bias: &'static str,
    },
}
