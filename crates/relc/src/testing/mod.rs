//! Filetests for passes: a graph (or a program) goes in as text, and the one that comes out and what the pass said are
//! compared with a file. Behind the feature `testing`, for tests; relc's own passes are tested by it.
//!
//! A file `NAME.relc` has these parts, with a line `; ----` between them:
//! 1. lines that start with `;`: options, and whatever else should be said;
//! 2. the graph, as [`Graph`](relc_ir::Graph) prints it;
//! 3. the graph that the pass leaves, or the error that it gives;
//! 4. its remarks, one a line.
//!
//! `RELC_BLESS=1 cargo test` writes what is expected, so a new file needs the first two parts alone. The options:
//!
//! | option | meaning | unless given |
//! |---|---|---|
//! | `; preset: NAME` | the preset that relc's passes follow | `conserve` |
//! | `; split: POLICY`, `; gate: POLICY` | as `--split` and `--gate` of the command | the preset's |
//! | `; batchnorm: POLICY` | `keep`, `fold` or `fold-as-zennit` | `keep` |
//! | `; mask: GLOB=CHANNELS`, `; readout: AT=SHARE` | as `--mask` and `--readout` | the preset's |
//! | `; after: PASS` | the pipeline runs first, to this pass and with it | the pass runs alone |
//! | `; after: pipeline` | the pipeline runs first: up to the pass if it is one of relc's, else all of it | |
//!
//! Files of lowering and of passes over programs hold a graph whose relevance was derived (or is, with `; after: pipeline`)
//! or a program; a graph is lowered, and goes through the passes before. They are made for the instruction set `; isa: NAME`
//! (`portable` unless given) and the class of machines `; machine: NAME` (any that has the instruction set unless given), with
//! the caches of its table.
//!
//! A pass may have options of its own ([`Filetests::made_by`]).
//!
//! ```
//! use relc::unstable::ir::Graph;
//! use relc::testing::Filetests;
//! use relc::{Pass, PassError, Remarks};
//!
//! /// Says which nodes have no name.
//! struct NameCheck;
//!
//! impl Pass for NameCheck {
//!     fn name(&self) -> &'static str {
//!         "name-check"
//!     }
//!     fn description(&self) -> &'static str {
//!         "say which nodes have no name"
//!     }
//!     fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
//!         for node in graph.forward_order().unwrap_or_default() {
//!             if graph.node(node).name.is_empty() {
//!                 remarks.warning(graph.describe(node), "has no name");
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! // A test has one line: Filetests::of(NameCheck).check("tests/name-check");
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("relu.relc");
//! std::fs::write(&file, r#"; A Relu without a name.
//! graph @t (%x: f32[N,4]) -> (%1 "y") {
//!   %1 = relu %x : f32[N,4]
//! }
//! ; ----
//! graph @t (%x: f32[N,4]) -> (%1 "y") {
//!   %1 = relu %x : f32[N,4]
//! }
//! ; ----
//! warning: "" (%1 relu): has no name
//! "#)?;
//! Filetests::of(NameCheck).check(&file);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Snapshot`] is the text of a graph and of what passes said, for snapshot tests as of the crate `insta`.

mod case;
mod program;
mod snapshot;

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use relc_passes::{Pass, PassError, PassManager, pipeline};
use relc_program::Backend;
use similar::TextDiff;

use case::Case;

pub use case::{FiletestError, Header};
pub use snapshot::Snapshot;

/// What separates the parts of a file.
const RULER: &str = "; ----\n";

/// The ending of files.
const ENDING: &str = "relc";

/// The lines around a difference that are shown.
const CONTEXT: usize = 3;

/// What makes a pass from the options of a file.
type Maker = Box<dyn Fn(&Header) -> Result<Box<dyn Pass>, String>>;

enum Subject {
    /// One of relc's passes.
    Named(String),
    /// Another.
    Own(Maker),
    /// One over programs, of a back end.
    OfBackend(String, Box<program::MakeBackend>),
}

/// The passes that run before, and the one that is tested.
struct Plan {
    before: Vec<Box<dyn Pass>>,
    pass: Box<dyn Pass>,
}

/// Filetests of one pass.
pub struct Filetests {
    subject: Subject,
}

impl Filetests {
    /// Tests of a pass of one's own.
    pub fn of(pass: impl Pass + 'static) -> Filetests {
        let pass = std::sync::Arc::new(pass);
        Filetests::made_by(move |_| Ok(Box::new(pass.clone())))
    }

    /// Tests of a pass of one's own that each file makes from its options: `; NAME: VALUE` is
    /// [`header.get("NAME")`](Header::get).
    pub fn made_by(make: impl Fn(&Header) -> Result<Box<dyn Pass>, String> + 'static) -> Filetests {
        Filetests { subject: Subject::Own(Box::new(make)) }
    }

    /// Tests of a pass over programs that a [back end](relc_program::Backend) of one's own has among its
    /// [passes](relc_program::Backend::passes); each file makes the back end from its options.
    pub fn of_backend<B: Backend + 'static>(
        pass: &str,
        make: impl Fn(&Header) -> Result<B, String> + 'static,
    ) -> Filetests {
        let make = move |header: &Header| {
            let backend = make(header).map_err(FiletestError::Option)?;
            Ok::<Box<dyn Backend>, _>(Box::new(backend))
        };
        Filetests { subject: Subject::OfBackend(pass.to_string(), Box::new(make)) }
    }

    /// Tests of one of relc's passes, with what the file's preset says.
    pub fn named(pass: &str) -> Filetests {
        Filetests { subject: Subject::Named(pass.to_string()) }
    }

    /// Tests a file, or every `*.relc` of a folder.
    ///
    /// # Panics
    /// If a file's expectations are not met, with the difference; so too if there is no file, or it can't be read.
    #[track_caller]
    pub fn check(&self, path: impl AsRef<Path>) {
        let failures = self.failures(path);
        assert!(
            failures.is_empty(),
            "{} filetest(s) failed; RELC_BLESS=1 writes what was got\n\n{}",
            failures.len(),
            failures.join("\n")
        );
    }

    /// As [`check`](Self::check), but says what is wrong: a text for each file that fails.
    pub fn failures(&self, path: impl AsRef<Path>) -> Vec<String> {
        let path = path.as_ref();
        match files(path) {
            Ok(files) if files.is_empty() => vec![format!("{}: no file *.{ENDING}\n", path.display())],
            Ok(files) => files.iter().filter_map(|file| self.failure(file)).collect(),
            Err(e) => vec![format!("{}: {e}\n", path.display())],
        }
    }

    /// What is wrong with a file.
    fn failure(&self, file: &Path) -> Option<String> {
        let named = |what: &dyn std::fmt::Display| Some(format!("{}: {what}\n", file.display()));
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) => return named(&e),
        };
        // A pass that panics fails its file, not the others.
        let got = match catch_unwind(AssertUnwindSafe(|| self.run(&text))) {
            Ok(Ok(got)) => got,
            Ok(Err(e)) => return named(&e),
            Err(panic) => return named(&format!("the pass panicked: {}", said(panic.as_ref()))),
        };
        if got == text {
            return None;
        }
        if blesses() {
            return fs::write(file, got).err().and_then(|e| named(&e));
        }
        let diff = TextDiff::from_lines(&text, &got);
        let diff = diff.unified_diff().context_radius(CONTEXT).header("expected", "got").to_string();
        Some(format!("{}\n{diff}", file.display()))
    }

    /// The text that a file should have whose first two parts are those of `text`: its options, its graph, the graph
    /// that the pass leaves (or its error), and what the pass says.
    ///
    /// # Errors
    /// If the options or the graph are malformed, a pass that comes before fails, or the pass leaves a graph that the
    /// verifier refuses.
    pub fn run(&self, text: &str) -> Result<String, FiletestError> {
        match &self.subject {
            Subject::Named(name) if program::is_known(name) => {
                return program::run_file(text, name, &program::processor);
            }
            Subject::OfBackend(name, make) => return program::run_file(text, name, make),
            _ => {}
        }
        let Case { header, mut graph } = Case::parse(text)?;
        let input = graph.to_string();
        let Plan { before, pass } = self.plan(&header)?;
        PassManager::new(before).run(&mut graph, |_, _| {}).map_err(FiletestError::Before)?;
        let (graph, remarks) = match PassManager::new(vec![pass]).run(&mut graph, |_, _| {}) {
            Ok(records) => {
                let remarks = records.iter().flat_map(|r| &r.remarks);
                (graph.to_string(), remarks.map(|r| format!("{r}\n")).collect())
            }
            Err(error @ PassError::Verify { .. }) => return Err(FiletestError::Malformed(error)),
            Err(error) => (format!("{error}\n"), String::new()),
        };
        Ok(format!("{header}{input}{RULER}{graph}{RULER}{remarks}"))
    }

    /// What is run on a file of these options.
    fn plan(&self, header: &Header) -> Result<Plan, FiletestError> {
        let mut passes = pipeline(&header.preset()?, header.batchnorm()?);
        let (upto, pass) = match &self.subject {
            Subject::Named(name) => {
                let at = case::position(&passes, name)?;
                let pass = passes.remove(at);
                (at, pass)
            }
            Subject::Own(make) => (passes.len(), make(header).map_err(FiletestError::Option)?),
            Subject::OfBackend(name, _) => {
                return Err(FiletestError::Option(format!("\"{name}\" is no pass over graphs")));
            }
        };
        let before = match header.get("after") {
            None => 0,
            Some("pipeline") => upto,
            Some(name) => case::position(&passes, name)? + 1,
        };
        passes.truncate(before);
        Ok(Plan { before: passes, pass })
    }
}

/// The file, or those of the folder in the order of their names.
fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().filter(|file| file.extension().is_some_and(|e| e == ENDING)).collect();
    files.sort();
    Ok(files)
}

/// Whether `RELC_BLESS` asks for expectations to be written.
fn blesses() -> bool {
    std::env::var_os("RELC_BLESS").is_some_and(|value| !value.is_empty() && value != "0")
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}
