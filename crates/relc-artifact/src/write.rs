//! Writing artifacts.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};

use prost::Message;
use relc_ir::remark::PassRecord;
use relc_ir::{Graph, Values};
use relc_program::{Constant, Program};
use xxhash_rust::xxh3::xxh3_64;

use crate::{ALIGN, ArtifactError, FORMAT, HEADER, MAGIC, Model, PresetText, Target, aligned, message};

/// All that an artifact holds.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// What was compiled.
    pub model: &'a Model,
    /// What it was compiled with.
    pub preset: &'a PresetText,
    /// What it was compiled for.
    pub target: &'a Target,
    /// The graph as it was imported.
    pub forward: &'a Graph,
    /// The graph after all passes.
    pub graph: &'a Graph,
    /// The passes over it.
    pub passes: &'a [PassRecord],
    /// The program after all passes.
    pub program: &'a Program,
    /// What [`Module::packed`](relc_program::Module::packed) gives.
    pub packed: &'a [Values],
}

/// Blocks in the making.
#[derive(Default)]
struct Blocks<'a> {
    blocks: Vec<Cow<'a, [u8]>>,
    length: u64,
}

impl<'a> Blocks<'a> {
    fn add(&mut self, bytes: Cow<'a, [u8]>) -> Option<message::Block> {
        let block = message::Block { offset: self.length, length: bytes.len() as u64, hash: xxh3_64(&bytes) };
        self.length = aligned(self.length.checked_add(block.length)?)?;
        self.blocks.push(bytes);
        Some(block)
    }
}

/// The little-endian bytes of numbers.
fn bytes_of<T: bytemuck::NoUninit, const N: usize>(
    values: &[T],
    le_bytes: impl Fn(&T) -> [u8; N],
) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return bytemuck::cast_slice(values).into();
    }
    values.iter().flat_map(le_bytes).collect::<Vec<u8>>().into()
}

/// Writes an artifact.
///
/// # Errors
/// If it can't be written, or a weight or a constant has no values.
pub fn write(parts: &Parts<'_>, mut to: impl Write) -> Result<(), ArtifactError> {
    let mut blocks = Blocks::default();
    let too_large = || ArtifactError::malformed("more bytes than a file can have");
    let (mut constants, mut known) = (Vec::new(), HashSet::new());
    for weight in parts.forward.weights().chain(parts.graph.weights()) {
        let values = weight.data().ok_or_else(|| without_values(weight.name()))?;
        if known.insert((weight.hash(), size_of_val(&values[..]))) {
            let bytes = bytes_of(values, |value| value.to_le_bytes());
            constants.push(blocks.add(bytes).ok_or_else(too_large)?);
        }
    }
    for (name, constant) in &parts.program.constants {
        // A weight of the program is one of the graph.
        if let Constant::Derived(constant) = constant {
            let data = constant.data().ok_or_else(|| without_values(name))?;
            // The text has the value that all are.
            if constant.uniform().is_none() && known.insert((constant.hash(), size_of_val(&data[..]))) {
                let bytes = bytes_of(data, |value| value.to_le_bytes());
                constants.push(blocks.add(bytes).ok_or_else(too_large)?);
            }
        }
    }
    let packed = parts.packed.iter().map(|values| blocks.add(bytes_of(values, |value| value.to_le_bytes())));
    let packed = packed.collect::<Option<Vec<_>>>().ok_or_else(too_large)?;
    let message = message::Artifact {
        relc: env!("CARGO_PKG_VERSION").into(),
        model: Some(message::Model {
            file: parts.model.file.clone(),
            options: parts.model.options.clone(),
            least: parts.model.input_limits.map(|(least, _)| least),
            largest: parts.model.input_limits.map(|(_, largest)| largest),
            bytes: parts.model.bytes,
            sha256: parts.model.sha256.clone(),
        }),
        preset: Some(message::Preset {
            name: parts.preset.name.clone(),
            description: parts.preset.description.clone(),
            citation: parts.preset.citation.clone(),
            text: parts.preset.text.clone(),
        }),
        target: Some(message::Target {
            backend: parts.target.backend.clone(),
            isa: parts.target.isa.clone(),
            machine: parts.target.machine.clone(),
            caches: parts.target.caches.clone(),
        }),
        forward: parts.forward.to_string(),
        graph: parts.graph.to_string(),
        program: parts.program.to_string(),
        passes: parts.passes.iter().map(pass).collect(),
        constants,
        packed,
    };
    let message = message.encode_to_vec();
    to.write_all(&MAGIC)?;
    to.write_all(&FORMAT.to_le_bytes())?;
    to.write_all(&[0; 4])?;
    for number in [message.len() as u64, xxh3_64(&message), blocks.length] {
        to.write_all(&number.to_le_bytes())?;
    }
    to.write_all(&message)?;
    pad(&mut to, HEADER + message.len())?;
    for block in &blocks.blocks {
        to.write_all(block)?;
        pad(&mut to, block.len())?;
    }
    Ok(to.flush()?)
}

fn without_values(name: &str) -> ArtifactError {
    ArtifactError::malformed(format!("the constant @{name} has no values"))
}

fn pass(record: &PassRecord) -> message::Pass {
    let remark = |remark: &relc_ir::remark::Remark| message::Remark {
        kind: remark.kind.name().into(),
        node: remark.node.clone(),
        message: remark.message.clone(),
    };
    message::Pass { name: record.name.to_string(), remarks: record.remarks.iter().map(remark).collect() }
}

/// Zeros up to where a block may begin.
fn pad(to: &mut impl Write, length: usize) -> io::Result<()> {
    let over = length % ALIGN as usize;
    to.write_all(&[0; ALIGN as usize][..if over == 0 { 0 } else { ALIGN as usize - over }])
}
