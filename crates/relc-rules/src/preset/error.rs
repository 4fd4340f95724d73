//! What is wrong with a preset.

/// A preset that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresetError {
    /// No preset has that name.
    #[error("there is no preset \"{name}\"; expected {}, or a .toml file{}", known.join(" or "), suggest(nearest))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
        /// The nearest of them, if any is near.
        nearest: Option<String>,
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
        "preset \"{preset}\" fixes the bias in every line, so bias = include would do nothing; use the preset \"paper\""
    )]
    BiasFixed {
        /// The preset.
        preset: String,
    },
}

fn suggest(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!(" (did you mean \"{n}\"?)")).unwrap_or_default()
}
