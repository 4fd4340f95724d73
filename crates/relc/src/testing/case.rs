//! A file: its options and its graph.

use std::fmt;

use relc_cpu::{Class, Isa, Machine};
use relc_ir::names::UnknownName;
use relc_ir::spelling::did_you_mean;
use relc_ir::{Graph, IrError, parse};
use relc_passes::{Pass, PassError};
use relc_program::{LowerError, Program, ProgramError, verify};
use relc_rules::{BatchNormPolicy, Preset, PresetError};

use super::RULER;

/// A filetest that can't be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FiletestError {
    /// An option of the file is not what is expected.
    #[error("{0}")]
    Option(String),
    /// The preset can't be used.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// The graph can't be read.
    #[error("the graph can't be read: {0}")]
    Graph(#[source] IrError),
    /// A pass that runs before the tested one fails.
    #[error("a pass that comes before fails: {0}")]
    Before(#[source] PassError),
    /// The graph can't be lowered.
    #[error("the graph can't be lowered: {0}")]
    Lower(#[source] LowerError),
    /// A pass over programs leaves one that the verifier refuses.
    #[error("{0}")]
    Program(#[source] ProgramError),
    /// The tested pass leaves a graph that the verifier refuses.
    #[error("{0}")]
    Malformed(#[source] PassError),
}

/// The lines above a file's graph.
#[derive(Clone, Debug)]
pub struct Header(String);

impl Header {
    /// What the line `; NAME: VALUE` says.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix("; ")?.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    }

    /// The preset, with the options in it.
    pub(super) fn preset(&self) -> Result<Preset, FiletestError> {
        let mut preset = Preset::named(self.get("preset").unwrap_or("conserve"))?;
        if let Some(split) = self.get("split") {
            preset = preset.with_split(split.parse().map_err(unknown)?);
        }
        if let Some(gate) = self.get("gate") {
            preset = preset.with_gate(gate.parse().map_err(unknown)?);
        }
        if let Some(mask) = self.get("mask") {
            preset = preset.with_mask(mask).map_err(FiletestError::Option)?;
        }
        if let Some(readout) = self.get("readout") {
            preset = preset.with_readouts(&[readout.to_string()]).map_err(FiletestError::Option)?;
        }
        Ok(preset)
    }

    /// The machine that programs are made for: a class (`machine`) and an instruction set (`isa`), never those of the machine
    /// that runs the test.
    pub(super) fn machine(&self) -> Result<Machine, FiletestError> {
        let isa = self
            .get("isa")
            .map_or(Ok(Isa::Portable), |name| name.parse())
            .map_err(|e: relc_cpu::IsaError| FiletestError::Option(e.to_string()))?;
        let class = self
            .get("machine")
            .map_or(Ok(Class::generic(isa)), |name| name.parse())
            .map_err(|e: relc_cpu::MachineError| FiletestError::Option(e.to_string()))?;
        Ok(Machine::of(class, isa))
    }

    /// What happens to BatchNormalization.
    pub(super) fn batchnorm(&self) -> Result<BatchNormPolicy, FiletestError> {
        let wanted = self.get("batchnorm").unwrap_or("keep");
        wanted.parse().map_err(unknown)
    }
}

fn unknown(name: UnknownName) -> FiletestError {
    FiletestError::Option(name.to_string())
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first two parts of a file.
pub(super) struct Case {
    pub header: Header,
    pub graph: Graph,
}

impl Case {
    /// Reads them from the text of a file; whatever comes behind them is left.
    pub fn parse(text: &str) -> Result<Case, FiletestError> {
        let (header, input) = Self::parts(text);
        let graph = parse(&input).map_err(FiletestError::Graph)?;
        Ok(Case { header, graph })
    }

    /// As [`parse`](Self::parse), of a file that holds a program.
    pub fn program(text: &str) -> Result<(Header, Program), FiletestError> {
        let (header, input) = Self::parts(text);
        let program = relc_program::parse(&input).map_err(FiletestError::Graph)?;
        verify(&program)
            .map_err(|errors| FiletestError::Option(format!("the program is malformed:\n{errors}")))?;
        Ok((header, program))
    }

    /// Whether a file holds a program rather than a graph.
    pub fn is_program(text: &str) -> bool {
        Self::parts(text).1.trim_start().starts_with("program")
    }

    /// The options of a file, and its graph or program on the lines on which it stands.
    fn parts(text: &str) -> (Header, String) {
        let input = text.split(RULER).next().unwrap_or_default();
        let lines: Vec<&str> = input.lines().take_while(|line| line.starts_with(';')).collect();
        let header: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // The parser counts lines as the file does.
        let blank = "\n".repeat(lines.len());
        let rest = input.strip_prefix(&header).unwrap_or_default();
        (Header(header), format!("{blank}{rest}"))
    }
}

/// Where a pass is in the pipeline.
pub(super) fn position(passes: &[Box<dyn Pass>], wanted: &str) -> Result<usize, FiletestError> {
    passes.iter().position(|pass| pass.name() == wanted).ok_or_else(|| {
        let names: Vec<&str> = passes.iter().map(|pass| pass.name()).collect();
        let hint = did_you_mean(wanted, names.iter().copied());
        FiletestError::Option(format!(
            "there is no pass \"{wanted}\"{hint}; expected pipeline or one of {}",
            names.join(", ")
        ))
    })
}
