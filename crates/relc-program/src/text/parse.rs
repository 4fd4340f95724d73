//! Reading the text form.
//!
//! ```text
//! program   = "program" "@" name "{" [constants] values "ends" value "," value "," value "," value
//!             {"tap" string value} "forward" "{" {step} "}" "backward" "{" {step} "}" "}"
//! constants = "constants" "{" {"@" name ":" ("f32" dims "#" hex16 | "f64" dims ("#" hex16 | "=" numbers))} "}"
//! numbers   = number | "(" number {"," number} ")"
//! values    = "values" "{" {value ":" "f32[N," int ["," int] "," int "," int "]" ["blocks" "=" int] ["halo" "=" ints] ["slot" "=" int]} "}"
//! step      = [value {"," value} "="] op [argument {"," argument}] ";" string string string
//! argument  = value | "@" name | word "=" attribute
//! value     = "%" int
//! ```
//! The ends are the input, the output, the seed and the input's relevance. Behind a step stand the label, the op and the
//! name of the node that it is for. One number is the value of every element; `kernel_id` is the number of the kernel.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use relc_ir::text::{Cursor, Kind, Parsed, list};
use relc_ir::{AttrMap, Dim, TensorType, Weight};

use super::MOST;
use crate::layout::{Blocked, Halo};
use crate::op::StepOp;
use crate::program::{Constant, Derived, Ends, Origin, Program, Step, Value, ValueId};

/// Parses the text form of a program; see the source of this module for the grammar.
///
/// # Errors
/// With line and column: what was got and what is expected.
pub fn parse(text: &str) -> Parsed<Program> {
    let mut parser = Parser { cursor: Cursor::new(text)?, origins: HashMap::new(), left: MOST };
    parser.program()
}

struct Parser {
    cursor: Cursor,
    origins: HashMap<Origin, Arc<Origin>>,
    /// How many values the text may still write out.
    left: usize,
}

impl Deref for Parser {
    type Target = Cursor;

    fn deref(&self) -> &Cursor {
        &self.cursor
    }
}

impl DerefMut for Parser {
    fn deref_mut(&mut self) -> &mut Cursor {
        &mut self.cursor
    }
}

impl Parser {
    fn program(&mut self) -> Parsed<Program> {
        self.keyword("program")?;
        self.punct('@')?;
        let name = self.name()?;
        self.punct('{')?;
        let mut constants = BTreeMap::new();
        if self.accept_word("constants") {
            self.punct('{')?;
            while !self.accept('}') {
                self.punct('@')?;
                let name = self.name()?;
                let constant = self.constant(&name)?;
                if constants.insert(name.clone(), constant).is_some() {
                    return self.error(format!("got @{name} again, expected every constant once"));
                }
            }
        }
        self.keyword("values")?;
        self.punct('{')?;
        let mut values = BTreeMap::new();
        while !self.accept('}') {
            let id = self.value()?;
            if values.insert(id, self.described()?).is_some() {
                return self.error(format!("got {id} again, expected every value once"));
            }
        }
        self.keyword("ends")?;
        let mut ends = [ValueId(0); 4];
        for (at, end) in ends.iter_mut().enumerate() {
            if at > 0 {
                self.punct(',')?;
            }
            *end = self.value()?;
        }
        let [input, output, seed, relevance] = ends;
        let mut taps = BTreeMap::new();
        while self.accept_word("tap") {
            let label = self.text("the label of a graph's value in quotes")?;
            taps.insert(label, self.value()?);
        }
        self.keyword("forward")?;
        let forward = self.steps()?;
        self.keyword("backward")?;
        let backward = self.steps()?;
        self.punct('}')?;
        if *self.peek() != Kind::End {
            let got = self.next();
            return self.unexpected(&got, "the end of the text");
        }
        let ends = Ends { input, output, seed, relevance };
        Ok(Program { name, constants, values, forward, backward, ends, taps })
    }

    fn value(&mut self) -> Parsed<ValueId> {
        self.punct('%')?;
        let number = self.size("a value's number")?;
        match u32::try_from(number) {
            Ok(number) if number < u32::MAX => Ok(ValueId(number)),
            _ => self.error(format!("got %{number}, expected a smaller number")),
        }
    }

    fn constant(&mut self, name: &str) -> Parsed<Constant> {
        self.punct(':')?;
        if self.is_word("f32") {
            let ty = self.ty()?;
            if let Err(e) = ty.check() {
                return self.error(e);
            }
            let hash = self.hash()?;
            return Ok(Constant::Weight(Weight::without_data(name, ty, hash)));
        }
        self.keyword("f64")?;
        let mut dims = Vec::new();
        self.punct('[')?;
        list(self, ']', |p: &mut Self| {
            dims.push(p.size("a size")?);
            Ok(())
        })?;
        if !self.accept('=') {
            let hash = self.hash()?;
            return Ok(Constant::Derived(Derived::without_data(dims, hash)));
        }
        let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= self.left);
        let Some(count) = count else { return self.error(format!("got {dims:?}, expected fewer elements")) };
        self.left -= count;
        let mut data = Vec::new();
        if self.accept('(') {
            list(self, ')', |p: &mut Self| {
                data.push(p.number()?);
                Ok(())
            })?;
        } else {
            data = vec![self.number()?; count];
        }
        Derived::new(dims, data).map(Constant::Derived).or_else(|e| self.error(e))
    }

    fn number(&mut self) -> Parsed<f64> {
        match self.next() {
            Kind::Float(v) => Ok(v),
            other => self.unexpected(&other, "a real number"),
        }
    }

    fn hash(&mut self) -> Parsed<u64> {
        match self.next() {
            Kind::Hash(hash) => Ok(hash),
            other => self.unexpected(&other, "the content's hash"),
        }
    }

    /// What is known of a value.
    fn described(&mut self) -> Parsed<Value> {
        self.punct(':')?;
        let ty: TensorType = self.ty()?;
        let image = match *ty.dims() {
            [Dim::Batch, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => [c, 1, h, w],
            [Dim::Batch, Dim::Fixed(c), Dim::Fixed(d), Dim::Fixed(h), Dim::Fixed(w)] => [c, d, h, w],
            _ => return self.error(format!("got {ty}, expected f32[N,C,H,W] or f32[N,C,D,H,W]")),
        };
        if image.iter().try_fold(1usize, |n, size| n.checked_mul(*size)).is_none() {
            return self.error(format!("got {ty}, expected fewer elements"));
        }
        let mut value = Value::new(image);
        if self.accept_word("blocks") {
            self.punct('=')?;
            let block = self.size("channels of a block")?;
            let mut halo = Halo::NONE;
            if self.accept_word("halo") {
                self.punct('=')?;
                let mut attrs = AttrMap::default();
                self.attribute("halo".into(), &mut attrs)?;
                let [top, left, bottom, right] = attrs.sizes_n("halo").or_else(|e| self.error(e))?;
                halo = Halo { top, left, bottom, right };
            }
            let layout = Blocked::of(image, block, halo).or_else(|e| self.error(e.to_string()))?;
            value.layout = Some(layout);
        }
        if self.accept_word("slot") {
            self.punct('=')?;
            value.slot = Some(self.size("a slot")?);
        }
        Ok(value)
    }

    fn steps(&mut self) -> Parsed<Vec<Step>> {
        self.punct('{')?;
        let mut steps = Vec::new();
        while !self.accept('}') {
            steps.push(self.step()?);
        }
        Ok(steps)
    }

    fn step(&mut self) -> Parsed<Step> {
        let mut writes = Vec::new();
        if self.is_punct('%') {
            loop {
                writes.push(self.value()?);
                if !self.accept(',') {
                    break;
                }
            }
            self.punct('=')?;
        }
        let mnemonic = self.word("what a step does")?;
        let (mut reads, mut constants, mut attrs) = (Vec::new(), Vec::new(), AttrMap::default());
        list(self, ';', |p: &mut Self| {
            if p.is_punct('%') {
                reads.push(p.value()?);
            } else if p.accept('@') {
                constants.push(p.name()?);
            } else {
                let name = p.word("a value, a constant or an attribute")?;
                p.punct('=')?;
                p.attribute(name, &mut attrs)?;
            }
            Ok(())
        })?;
        let kernel = match attrs.has("kernel_id") {
            true => Some(attrs.size("kernel_id").or_else(|e| self.error(e))?),
            false => None,
        };
        let op = StepOp::from_text(&mnemonic, attrs).or_else(|e| self.error(format!("{mnemonic}: {e}")))?;
        let label = self.text("the node's label in quotes")?;
        let (node_op, name) =
            (self.text("the node's op in quotes")?, self.text("the node's name in quotes")?);
        let origin = Origin { label, op: node_op, name };
        let origin = self.origins.entry(origin.clone()).or_insert_with(|| Arc::new(origin)).clone();
        Ok(Step { op, reads, constants, writes, kernel, origin })
    }
}
