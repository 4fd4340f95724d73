//! Reading artifacts.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rayon::prelude::*;
use relc_ir::remark::{PassRecord, Remark, RemarkKind};
use relc_ir::{Graph, Values, Weight};
use relc_program::{Constant, Program};
use xxhash_rust::xxh3::xxh3_64;

use crate::{ArtifactError, FORMAT, HEADER, MAGIC, Model, PresetText, Target, aligned, message};

/// The longest message: texts of graphs and programs, some megabytes for the largest networks.
const MOST: u64 = 64 << 20;

/// What an artifact says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The version of relc that wrote it.
    pub relc: String,
    /// What was compiled.
    pub model: Model,
    /// What it was compiled with.
    pub preset: PresetText,
    /// What it was compiled for.
    pub target: Target,
}

/// An artifact that was read and verified. Texts are parsed when they are asked for.
#[derive(Clone)]
pub struct Artifact {
    /// What it says of itself.
    pub summary: Summary,
    /// The passes over its graph, and what they said.
    pub passes: Vec<PassRecord>,
    /// Of the graphs and of the program.
    texts: [String; 3],
    /// By hash and length.
    constants: HashMap<(u64, usize), Bytes>,
    packed: Vec<Values>,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact").field("summary", &self.summary).finish_non_exhaustive()
    }
}

/// Whether a file that begins with these bytes is an artifact, of whatever version, whole or damaged.
pub fn is_artifact(beginning: &[u8]) -> bool {
    beginning.starts_with(&MAGIC)
}

/// Reads an artifact and verifies all of it.
///
/// # Errors
/// If it is none, of another format, damaged, or what no relc of this version writes.
pub fn read(bytes: &Bytes) -> Result<Artifact, ArtifactError> {
    read_beside(bytes, |artifact| artifact)
}

/// As [`read`], but what is to be done with the artifact is done while its blocks are verified, by another thread. What that
/// gives is given only if they are as they were written; till then their values may be any, and nobody but `use_it` is to see
/// what it does.
///
/// # Errors
/// As of [`read`].
pub fn read_beside<T: Send>(
    bytes: &Bytes,
    use_it: impl FnOnce(Artifact) -> T + Send,
) -> Result<T, ArtifactError> {
    let (mut message, blocks) = opened(bytes)?;
    let places = Places {
        constants: std::mem::take(&mut message.constants),
        packed: std::mem::take(&mut message.packed),
    };
    places.check_order(&blocks)?;
    let artifact = contents(message, &places, &blocks)?;
    let (used, verified) = rayon::join(|| use_it(artifact), || places.verify(&blocks));
    verified?;
    Ok(used)
}

/// What an artifact says of itself. Its blocks are not looked at.
///
/// # Errors
/// As of [`read`].
pub fn summary(bytes: &Bytes) -> Result<Summary, ArtifactError> {
    summarised(&mut opened(bytes)?.0)
}

/// The message, verified, and the blocks, which are not.
fn opened(bytes: &Bytes) -> Result<(message::Artifact, Bytes), ArtifactError> {
    if !is_artifact(bytes) {
        return Err(ArtifactError::NoArtifact);
    }
    let number = |at: usize| -> Option<u64> { Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)) };
    let cut = || ArtifactError::damaged(format!("it ends after {} bytes", bytes.len()));
    let version = number(8).ok_or_else(cut)?;
    let format = version as u32;
    if format != FORMAT {
        return Err(ArtifactError::Format { got: format });
    }
    let [Some(length), Some(hash), Some(blocks)] = [16, 24, 32].map(number) else { return Err(cut()) };
    let start =
        Some(length).filter(|length| *length <= MOST).and_then(|length| aligned(HEADER as u64 + length));
    let whole = start.and_then(|start| start.checked_add(blocks));
    let (Some(start), true) = (start, whole == Some(bytes.len() as u64) && version >> 32 == 0) else {
        let expected = whole.map_or("fewer".to_string(), |whole| whole.to_string());
        return Err(ArtifactError::damaged(format!("it has {} bytes, expected {expected}", bytes.len())));
    };
    // Both lie in the file.
    let (message, start) = (bytes.slice(HEADER..HEADER + length as usize), start as usize);
    let (between, blocks) = (bytes.slice(HEADER + length as usize..start), bytes.slice(start..));
    if xxh3_64(&message) != hash {
        return Err(ArtifactError::damaged("its description is not what was written"));
    }
    let message = message::Artifact::decode(message).map_err(ArtifactError::malformed)?;
    if between.iter().any(|byte| *byte != 0) {
        return Err(ArtifactError::damaged("there is something behind its description"));
    }
    Ok((message, blocks))
}

/// The bytes with the hash that their description has, if they are long enough for one: what a hostile writer would do.
/// Blocks keep the hashes that the description says.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let end = number(16).and_then(|length| usize::try_from(length).ok()?.checked_add(HEADER));
    let message = end.and_then(|end| bytes.get(HEADER..end));
    if let (Some(message), Some(hash)) = (message, sealed.get_mut(24..32)) {
        hash.copy_from_slice(&xxh3_64(message).to_le_bytes());
    }
    sealed
}

/// A block's bytes.
fn block(place: &message::Block, blocks: &Bytes) -> Result<Bytes, ArtifactError> {
    let found = || {
        let (start, length) = (usize::try_from(place.offset).ok()?, usize::try_from(place.length).ok()?);
        let end = start.checked_add(length).filter(|end| *end <= blocks.len())?;
        Some(blocks.slice(start..end))
    };
    found().ok_or_else(|| ArtifactError::malformed("a block lies beyond its end"))
}

/// Where the blocks are.
struct Places {
    constants: Vec<message::Block>,
    packed: Vec<message::Block>,
}

impl Places {
    fn all(&self) -> Vec<&message::Block> {
        self.constants.iter().chain(&self.packed).collect()
    }

    /// Checks that the blocks are in the order in which they are written, so that each byte is looked at once, and that
    /// they are all.
    fn check_order(&self, blocks: &Bytes) -> Result<(), ArtifactError> {
        let mut end = 0;
        for place in self.all() {
            if place.offset != end {
                return Err(ArtifactError::malformed("its blocks are not in order"));
            }
            let next = place.offset.checked_add(place.length).and_then(aligned);
            end = next.ok_or_else(|| ArtifactError::malformed("a block lies beyond its end"))?;
        }
        if end != blocks.len() as u64 {
            return Err(ArtifactError::malformed("its blocks are not all"));
        }
        Ok(())
    }

    /// Checks every block against its hash, and that there is nothing but zeros behind it.
    fn verify(&self, blocks: &Bytes) -> Result<(), ArtifactError> {
        self.all().into_par_iter().try_for_each(|place| {
            let bytes = block(place, blocks)?;
            let end = place.offset + place.length;
            let rest =
                message::Block { offset: end, length: aligned(end).map_or(0, |next| next - end), hash: 0 };
            if xxh3_64(&bytes) == place.hash && block(&rest, blocks)?.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            Err(ArtifactError::damaged(format!(
                "the {} bytes at {} of its blocks are not what was written",
                place.length, place.offset
            )))
        })
    }
}

fn contents(
    mut message: message::Artifact,
    places: &Places,
    blocks: &Bytes,
) -> Result<Artifact, ArtifactError> {
    let mut constants = HashMap::with_capacity(places.constants.len());
    for place in &places.constants {
        let bytes = block(place, blocks)?;
        constants.insert((place.hash, bytes.len()), bytes);
    }
    let packed = places.packed.iter().map(|place| {
        let values = Values::from_le_bytes(block(place, blocks)?);
        values.ok_or_else(|| ArtifactError::malformed("a block of floats is cut"))
    });
    let packed = packed.collect::<Result<_, _>>()?;
    let summary = summarised(&mut message)?;
    Ok(Artifact {
        summary,
        passes: message.passes.into_iter().map(pass).collect::<Result<_, _>>()?,
        texts: [message.forward, message.graph, message.program],
        constants,
        packed,
    })
}

/// What a message says first, taken out of it.
fn summarised(message: &mut message::Artifact) -> Result<Summary, ArtifactError> {
    let missing = |what: &str| ArtifactError::malformed(format!("it has no {what}"));
    let model = message.model.take().ok_or_else(|| missing("model"))?;
    let preset = message.preset.take().ok_or_else(|| missing("preset"))?;
    let target = message.target.take().ok_or_else(|| missing("target"))?;
    Ok(Summary {
        relc: std::mem::take(&mut message.relc),
        model: Model {
            file: model.file,
            options: model.options,
            input_limits: model.least.zip(model.largest),
            bytes: model.bytes,
            sha256: model.sha256,
        },
        preset: PresetText {
            name: preset.name,
            description: preset.description,
            citation: preset.citation,
            text: preset.text,
        },
        target: Target {
            backend: target.backend,
            isa: target.isa,
            machine: target.machine,
            caches: target.caches,
        },
    })
}

fn pass(pass: message::Pass) -> Result<PassRecord, ArtifactError> {
    let remark = |remark: message::Remark| {
        let kinds = [RemarkKind::Applied, RemarkKind::Missed, RemarkKind::Warning];
        let kind = kinds.into_iter().find(|kind| kind.name() == remark.kind);
        let kind =
            kind.ok_or_else(|| ArtifactError::malformed(format!("got a remark of kind {:?}", remark.kind)))?;
        Ok(Remark { kind, node: remark.node, message: remark.message })
    };
    let remarks = pass.remarks.into_iter().map(remark).collect::<Result<_, ArtifactError>>()?;
    Ok(PassRecord { name: pass.name.into(), time: Duration::ZERO, remarks })
}

impl Artifact {
    /// The graph as it was imported.
    ///
    /// # Errors
    /// If its text is none, or a weight is missing.
    pub fn forward(&self) -> Result<Graph, ArtifactError> {
        let [forward, _, _] = &self.texts;
        self.parsed(forward)
    }

    /// The graph after all passes, with relevance.
    ///
    /// # Errors
    /// As of [`forward`](Self::forward).
    pub fn graph(&self) -> Result<Graph, ArtifactError> {
        let [_, graph, _] = &self.texts;
        self.parsed(graph)
    }

    fn parsed(&self, text: &str) -> Result<Graph, ArtifactError> {
        let mut graph = relc_ir::parse(text).map_err(ArtifactError::malformed)?;
        graph.fill_weights(|weight| self.filled(weight)).map_err(ArtifactError::malformed)?;
        Ok(graph)
    }

    /// The bytes of so many values of some size.
    fn values(&self, hash: u64, count: Option<usize>, size: usize) -> Result<Bytes, String> {
        let bytes = count.and_then(|count| self.constants.get(&(hash, count.checked_mul(size)?)));
        bytes.cloned().ok_or_else(|| format!("it has no values of the hash {hash:016x}"))
    }

    /// A weight with its values.
    fn filled(&self, weight: &Weight) -> Result<Weight, String> {
        let bytes = self.values(weight.hash(), weight.ty().elements(), size_of::<f32>())?;
        // Whole floats, by their number.
        weight.clone().with_data(Values::from_le_bytes(bytes).unwrap_or_default())
    }

    /// The program after all passes.
    ///
    /// # Errors
    /// If its text is none or no valid program, or a constant is missing.
    pub fn program(&self) -> Result<Program, ArtifactError> {
        let [_, _, text] = &self.texts;
        let mut program = relc_program::parse(text).map_err(ArtifactError::malformed)?;
        for constant in program.constants.values_mut() {
            let count = constant.len();
            match constant {
                Constant::Weight(weight) => {
                    *weight = self.filled(weight).map_err(ArtifactError::malformed)?
                }
                Constant::Derived(derived) if derived.data().is_some() => {}
                Constant::Derived(derived) => {
                    let bytes = self.values(derived.hash(), count, size_of::<f64>());
                    let bytes = bytes.map_err(ArtifactError::malformed)?;
                    let values = bytes.as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value));
                    *derived =
                        derived.clone().with_data(values.collect()).map_err(ArtifactError::malformed)?;
                }
            }
        }
        relc_program::verify(&program).map_err(ArtifactError::malformed)?;
        Ok(program)
    }

    /// The weights as the target's kernels read them, in the order in which the program's steps ask for them.
    pub fn packed(&self) -> Vec<Values> {
        self.packed.clone()
    }
}
