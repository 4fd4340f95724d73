//! Programs: values, constants and steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use relc_ir::{Values, Weight, content_hash};

use crate::layout::{Blocked, Image};
use crate::op::{Algorithm, Epilogue, Exactness, StepOp, WeightSource};

/// A value of a program, `%12` in its text: `f32[C,D,H,W]` of each sample of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Channels, slices, height and width of a sample. A picture has one slice, a signal `f32[N,C,L]` one of one row,
    /// `f32[N,K]` K channels of one pixel; other ranks keep their row-major order.
    pub image: Image,
    /// How a sample lies in memory; none until choose-layouts has run.
    pub layout: Option<Blocked>,
    /// The memory that it has, together with values that live at other times; none until plan-memory has run.
    pub slot: Option<usize>,
}

impl Value {
    /// A value of this image, of which nothing else is known.
    pub fn new(image: Image) -> Value {
        Value { image, layout: None, slot: None }
    }
}

/// A constant: a weight of the model, or what the compiler made of some.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// A weight of the model, f32.
    Weight(Weight),
    /// What the compiler made, f64: a back end rounds it to what it computes with.
    Derived(Derived),
}

/// A constant that the compiler made.
#[derive(Clone)]
pub struct Derived {
    dims: Vec<usize>,
    data: Option<Arc<[f64]>>,
    hash: u64,
}

impl Derived {
    /// Values with their sizes, row-major.
    ///
    /// # Errors
    /// If the number of values is not that of the sizes.
    pub fn new(dims: Vec<usize>, data: impl Into<Arc<[f64]>>) -> Result<Derived, String> {
        let data = data.into();
        let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(data.len()) {
            return Err(format!("got {} values, expected those of {dims:?}", data.len()));
        }
        let hash = content_hash(&data, f64::to_le_bytes);
        Ok(Derived { dims, hash, data: Some(data) })
    }

    /// A constant without its values, as a text names it.
    pub fn without_data(dims: Vec<usize>, hash: u64) -> Derived {
        Derived { dims, data: None, hash }
    }

    /// The constant with its values, if it has none: those whose [hash](Self::hash) it has.
    ///
    /// # Errors
    /// If the number of values is not that of its sizes.
    pub fn with_data(self, data: Arc<[f64]>) -> Result<Derived, String> {
        let count = self.dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(data.len()) {
            return Err(format!("got {} values, expected those of {:?}", data.len(), self.dims));
        }
        Ok(Derived { data: Some(data), ..self })
    }

    /// The sizes.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The values, row-major; none if the program came from text.
    pub fn data(&self) -> Option<&Arc<[f64]>> {
        self.data.as_ref()
    }

    /// xxh3-64 of the little-endian bytes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The number that all values are, if there is one.
    pub fn uniform(&self) -> Option<f64> {
        let data = self.data.as_ref()?;
        let first = data.first()?;
        data.iter().all(|v| v.to_bits() == first.to_bits()).then_some(*first)
    }
}

impl PartialEq for Derived {
    /// Sizes and content hashes; not whether the values are there.
    fn eq(&self, other: &Self) -> bool {
        self.dims == other.dims && self.hash == other.hash
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f64{:?} #{:016x}", self.dims, self.hash)
    }
}

impl Constant {
    /// How many values it has; none if that overflows.
    pub fn len(&self) -> Option<usize> {
        match self {
            Constant::Weight(weight) => weight.ty().elements(),
            Constant::Derived(derived) => derived.dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Its values in f32; none if they are not there.
    pub fn values(&self) -> Option<Values> {
        match self {
            Constant::Weight(weight) => weight.data().cloned(),
            Constant::Derived(derived) => Some(derived.data()?.iter().map(|v| *v as f32).collect()),
        }
    }
}

/// The node of the graph that a step is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// How the graph's text writes it: `%12`, `%r13`.
    pub label: String,
    /// Its op.
    pub op: String,
    /// The name of the ONNX node that it comes from.
    pub name: String,
}

impl Origin {
    /// How messages name it, as [`Graph::describe`](relc_ir::Graph::describe) does.
    pub fn describe(&self) -> String {
        format!("\"{}\" ({} {})", self.name, self.label, self.op)
    }
}

/// A thing to do for each sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What.
    pub op: StepOp,
    /// What it reads.
    pub reads: Vec<ValueId>,
    /// The constants that it takes, by name.
    pub constants: Vec<String>,
    /// What it writes.
    pub writes: Vec<ValueId>,
    /// The number of the kernel that it runs, equal for steps that can share one; none until share-kernels has run.
    pub kernel: Option<usize>,
    /// The node that it is for.
    pub origin: Arc<Origin>,
}

impl Step {
    /// The values that it uses.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.reads.iter().chain(&self.writes).copied()
    }

    /// Memory that it needs besides its operands, if it does: the last of what it writes.
    pub fn scratch(&self) -> Option<ValueId> {
        match &self.op {
            StepOp::Conv(conv)
                if matches!(conv.algorithm, Some(Algorithm::Winograd2 | Algorithm::Winograd4)) =>
            {
                self.writes.last().copied()
            }
            _ => None,
        }
    }

    /// The place of the epilogue's constant among the constants of a convolution.
    pub fn epilogue_constant(&self) -> Option<&String> {
        match &self.op {
            StepOp::Conv(conv) => self.constants.get(usize::from(conv.has_weight())),
            _ => None,
        }
    }
}

impl crate::op::ConvOp {
    /// Whether its weights are a constant of the program, the first of the step's.
    pub fn has_weight(&self) -> bool {
        !matches!(self.weights.source, WeightSource::Tap(_))
    }

    /// Whether something is divided by its sums, of products of one sign: next to nothing is lost in them but by rounding.
    pub fn is_divisor_of_one_sign(&self) -> bool {
        self.exactness == Exactness::Divisor && self.signs.agree()
    }

    /// Whether nothing is done with its sums yet.
    pub fn is_bare(&self) -> bool {
        self.epilogue == Epilogue::None
    }
}

/// Where a program's inputs and results are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The model's input.
    pub input: ValueId,
    /// The explained output.
    pub output: ValueId,
    /// The relevance that it starts with.
    pub seed: ValueId,
    /// The relevance of the input.
    pub relevance: ValueId,
}

/// A lowered graph: what an explanation of one sample computes, step by step. A batch runs it for each of its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The model's name.
    pub name: String,
    /// The constants, by name.
    pub constants: BTreeMap<String, Constant>,
    /// The values. Passes take some away, and give new ones new numbers.
    pub values: BTreeMap<ValueId, Value>,
    /// The steps of the forward pass.
    pub forward: Vec<Step>,
    /// The steps from the seed to the input's relevance; they run once for each seed.
    pub backward: Vec<Step>,
    /// The inputs and results.
    pub ends: Ends,
    /// Values of the graph that a caller reads as well, by their labels in its text.
    pub taps: BTreeMap<String, ValueId>,
}

impl Program {
    /// Every step in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.forward.iter().chain(&self.backward)
    }

    /// Every step in order, to be changed.
    pub fn steps_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        self.forward.iter_mut().chain(&mut self.backward)
    }

    /// Both lists of steps.
    pub fn halves_mut(&mut self) -> [&mut Vec<Step>; 2] {
        [&mut self.forward, &mut self.backward]
    }

    /// [Relocates](Weight::relocate) every weight that is among these.
    pub fn relocate_weights(&mut self, elsewhere: &[Weight]) {
        for constant in self.constants.values_mut() {
            if let Constant::Weight(weight) = constant {
                weight.relocate(elsewhere);
            }
        }
    }

    /// A new value.
    pub fn add_value(&mut self, image: Image) -> ValueId {
        let id = ValueId(self.values.last_key_value().map_or(0, |(last, _)| last.0 + 1));
        self.values.insert(id, Value::new(image));
        id
    }

    /// A new constant, under a name that is like `base`.
    ///
    /// # Errors
    /// As of [`Derived::new`].
    pub fn add_constant(
        &mut self,
        base: &str,
        dims: Vec<usize>,
        data: impl Into<Arc<[f64]>>,
    ) -> Result<String, String> {
        let constant = Constant::Derived(Derived::new(dims, data)?);
        Ok(add_named(&mut self.constants, base, constant))
    }

    /// The image of a value; of none that is not there.
    pub fn image(&self, value: ValueId) -> Option<Image> {
        self.values.get(&value).map(|v| v.image)
    }

    /// The layout of a value, if it has one.
    pub fn layout(&self, value: ValueId) -> Option<Blocked> {
        self.values.get(&value)?.layout
    }

    /// How many flags there are.
    pub fn flags(&self) -> usize {
        let flags = self.steps().filter_map(|step| match &step.op {
            StepOp::Flat(flat) => Some(flat.flag),
            op => op.raises(),
        });
        flags.max().map_or(0, |last| last.saturating_add(1))
    }

    /// The elements of the slots, by number: what the largest of the values in each takes.
    pub fn slots(&self) -> BTreeMap<usize, usize> {
        let mut slots = BTreeMap::new();
        for (slot, layout) in self.values.values().filter_map(|value| Some((value.slot?, value.layout?))) {
            let elements: &mut usize = slots.entry(slot).or_default();
            *elements = (*elements).max(layout.len());
        }
        slots
    }

    /// Bytes of all slots: what a sample takes.
    pub fn bytes(&self) -> usize {
        self.slots().values().map(|elements| elements.saturating_mul(size_of::<f32>())).sum()
    }

    /// How many kernels there are; 0 before share-kernels has run.
    pub fn kernels(&self) -> usize {
        self.steps().filter_map(|step| step.kernel).max().map_or(0, |last| last + 1)
    }

    /// Whether a caller gives or reads a value.
    pub fn is_end(&self, value: ValueId) -> bool {
        let Ends { input, output, seed, relevance } = self.ends;
        [input, output, seed, relevance].contains(&value) || self.taps.values().any(|tap| *tap == value)
    }

    /// Values that outlive the steps: what a caller reads, and what the forward steps or the caller give to every run of
    /// the backward ones.
    pub fn kept(&self) -> BTreeSet<ValueId> {
        let scratch: BTreeSet<ValueId> = self.steps().filter_map(Step::scratch).collect();
        let mut made: BTreeSet<ValueId> =
            self.forward.iter().flat_map(|step| step.writes.iter().copied()).collect();
        made.insert(self.ends.input);
        let read = self.backward.iter().flat_map(|step| step.reads.iter().copied());
        let kept = read.filter(|value| made.contains(value) && !scratch.contains(value));
        kept.chain([self.ends.output, self.ends.relevance]).chain(self.taps.values().copied()).collect()
    }

    /// Takes away the values and constants that no step and no end uses.
    pub fn prune(&mut self) {
        let Ends { input, output, seed, relevance } = self.ends;
        let mut used: BTreeSet<ValueId> = [input, output, seed, relevance].into();
        used.extend(self.taps.values());
        used.extend(self.steps().flat_map(Step::values));
        self.values.retain(|id, _| used.contains(id));
        let named: BTreeSet<String> = self.steps().flat_map(|step| step.constants.iter().cloned()).collect();
        self.constants.retain(|name, _| named.contains(name));
    }
}
/// Adds a constant under a name that is like `base`: the same constant again is the same constant.
pub(crate) fn add_named(
    constants: &mut BTreeMap<String, Constant>,
    base: &str,
    constant: Constant,
) -> String {
    let mut names = (0..).map(|i| if i == 0 { base.to_string() } else { format!("{base}.{i}") });
    let free = names.find(|name| constants.get(name).is_none_or(|other| *other == constant));
    let name = free.unwrap_or_default();
    constants.insert(name.clone(), constant);
    name
}
