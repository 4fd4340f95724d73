//! Where a model comes from.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use relc_ir::Graph;

/// A model: an ONNX file, the bytes of one, or a graph.
///
/// ```no_run
/// use relc::{Compiler, Preset};
///
/// let compiler = Compiler::new(Preset::named("two_level")?);
/// let from_path = compiler.compile("model.onnx")?;
/// let from_bytes = compiler.compile(std::fs::read("model.onnx")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// An ONNX file; external data lies beside it.
    Path(PathBuf),
    /// The bytes of an ONNX file, without external data.
    Bytes(Bytes),
    /// A forward graph, as an importer makes it.
    Graph(Box<Graph>),
}

impl fmt::Display for Source {
    /// What errors call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => write!(f, "{}", path.display()),
            Source::Bytes(bytes) => write!(f, "the model of {} bytes", bytes.len()),
            Source::Graph(graph) => write!(f, "the graph @{}", graph.name()),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Source {
    fn from(path: &P) -> Source {
        Source::Path(path.as_ref().to_path_buf())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::Path(path)
    }
}

impl From<String> for Source {
    fn from(path: String) -> Source {
        Source::Path(path.into())
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Source {
        Source::Bytes(bytes.into())
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Source {
        Source::Bytes(bytes)
    }
}

impl From<Graph> for Source {
    fn from(graph: Graph) -> Source {
        Source::Graph(Box::new(graph))
    }
}
