//! Globs on names.

use std::fmt;

use globset::{Glob, GlobMatcher, GlobSet};

/// The most characters of a glob: names are shorter, and a compiled glob takes many times its length.
const MAX_GLOB: usize = 4096;

/// A glob on the ONNX names of nodes: `/layer4/*`, `*conv[12]`, `{stem,head}.*`.
#[derive(Clone, Debug)]
pub struct NameGlob {
    matcher: GlobMatcher,
}

impl NameGlob {
    /// Reads a glob.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn new(text: &str) -> Result<NameGlob, String> {
        let length = text.chars().count();
        if length > MAX_GLOB {
            let start: String = text.chars().take(20).collect();
            return Err(format!(
                "the glob \"{start}...\" has {length} characters, expected at most {MAX_GLOB}"
            ));
        }
        let glob = Glob::new(text).map_err(|e| e.to_string())?;
        // A matcher of one glob panics on what its regular expression can't be; a set of one says so.
        GlobSet::builder()
            .add(glob.clone())
            .build()
            .map_err(|e| format!("the glob \"{text}\": {}", e.kind()))?;
        Ok(NameGlob { matcher: glob.compile_matcher() })
    }

    /// Whether a name matches.
    pub fn is_match(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }

    /// The text that was read.
    pub fn as_str(&self) -> &str {
        self.matcher.glob().glob()
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_names() {
        let glob = NameGlob::new("/layer[12]/{conv,bn}*").unwrap();
        assert!(glob.is_match("/layer2/conv.0") && !glob.is_match("/layer3/conv.0"));
        assert_eq!(glob.to_string(), "/layer[12]/{conv,bn}*");
    }

    /// Whatever is refused, nothing panics: too long, too deep, unfinished.
    #[test]
    fn no_glob_panics() {
        let error = NameGlob::new(&"*".repeat(120_000)).unwrap_err();
        assert!(error.contains("120000 characters, expected at most 4096"), "{error}");
        assert!(error.len() < 200, "{error}");
        for depth in [10, 200, 260, 1000, 2048] {
            let _ = NameGlob::new(&format!("{}a{}", "{".repeat(depth), "}".repeat(depth)));
        }
        for part in ["*", "?", "**/", "[!a]", "[a-é]", "[é-ÿ]", "{a,b}", "{*,?}", "\\*", "/**", "é"] {
            for times in [1, 100, MAX_GLOB / part.chars().count()] {
                let _ = NameGlob::new(&part.repeat(times));
            }
        }
        for text in ["[", "{", "}", "\\", "[b-a]", "{a,{b}", "[]", "[!]", "***"] {
            let _ = NameGlob::new(text);
        }
    }
}
