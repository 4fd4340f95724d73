//! Reading the text form.
//!
//! ```text
//! graph     = "graph" "@" name "(" [input {"," input}] ")" "->" "(" [output {"," output}] ")" "{" {item} "}"
//! input     = "%" name ":" type
//! output    = value string
//! item      = weights | "head" word ["of" "=" int "apart" "=" int] | "note" string | node | residual | relevance | claim
//! weights   = "weights" "{" {"@" name ":" type "#" hex16} "}"
//! node      = value {"," value} "=" op [argument {"," argument}] ":" type {"," type} ["!" rule] [";" string]
//! argument  = value | word "=" attribute
//! rule      = word "(" [word "=" attribute {"," ...}] ")" "from" string
//! residual  = "residual" value "fork" "=" value "skip" "=" int "[" branch {"," branch} "]"
//! branch    = word ":" int ":" int
//! relevance = "relevance" "{" {node | "return" value "for" value} "}"
//! claim     = "claim" ("conserving" | value ":" word {"," value ":" word})
//! value     = "%" (int | name) | "@" name
//! type      = "f32" "[" [dim {"," dim}] "]"
//! ```
//!
//! Values are defined before they are used. A relevance node's forward node is its attribute `of`.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use crate::attr::AttrMap;
use crate::error::IrError;
use crate::graph::{Claim, Graph, NodeId, ValueId};
use crate::head::{Groups, Head};
use crate::op::Op;
use crate::residual::{Branch, Residual};
use crate::rule::{AssignedRule, Rule};
use crate::text::{Cursor, Kind, Parsed, list};
use crate::types::TensorType;
use crate::weight::Weight;

/// Parses the text form of a graph; see the source of this module for the grammar.
///
/// # Errors
/// [`IrError::Parse`] with line and column: what was got and what is expected.
pub fn parse(text: &str) -> Result<Graph, IrError> {
    let cursor = Cursor::new(text)?;
    let mut parser = Parser { cursor, graph: Graph::new(""), values: HashMap::new() };
    parser.graph()?;
    Ok(parser.graph)
}

struct Parser {
    cursor: Cursor,
    graph: Graph,
    /// Values by their labels: `%12`, `%r13`, `%input`, `@w`.
    values: HashMap<(char, String), ValueId>,
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
    fn ir<T>(&self, result: Result<T, IrError>) -> Parsed<T> {
        result.or_else(|e| self.error(e.to_string()))
    }

    // -- values -----------------------------------------------------------------------------------------------

    fn label(&mut self) -> Parsed<(char, String)> {
        match self.next() {
            Kind::Punct('%') => match self.next() {
                Kind::Int(v) if v >= 0 => Ok(('%', v.to_string())),
                // A quoted name is an input's even where it looks like a number.
                Kind::Text(name) => Ok(('i', name)),
                Kind::Word(w) if relevance_number(&w).is_some() => Ok(('%', w)),
                Kind::Word(w) => Ok(('i', w)),
                other => self.unexpected(&other, "a value's name"),
            },
            Kind::Punct('@') => Ok(('@', self.name()?)),
            other => self.unexpected(&other, "a value (%name or @name)"),
        }
    }

    fn value(&mut self) -> Parsed<ValueId> {
        let label = self.label()?;
        match self.values.get(&label) {
            Some(value) => Ok(*value),
            None => {
                let sigil = if label.0 == '@' { '@' } else { '%' };
                self.error(format!("got {sigil}{}, expected a value that is defined above", label.1))
            }
        }
    }

    // -- items ------------------------------------------------------------------------------------------------

    fn graph(&mut self) -> Parsed<()> {
        self.keyword("graph")?;
        self.punct('@')?;
        self.graph = Graph::new(self.name()?);
        self.punct('(')?;
        list(self, ')', |p: &mut Self| {
            p.punct('%')?;
            let name = p.name()?;
            p.punct(':')?;
            let ty = p.ty()?;
            let added = p.graph.add_input(&name, ty);
            let value = p.ir(added)?;
            p.values.insert(('i', name), value);
            Ok(())
        })?;
        self.punct('>')?;
        self.punct('(')?;
        let mut outputs = Vec::new();
        list(self, ')', |p: &mut Self| {
            let label = p.label()?;
            outputs.push((label, p.text("the output's name in quotes")?, p.at));
            Ok(())
        })?;
        self.punct('{')?;
        while !self.accept('}') {
            self.item()?;
        }
        if *self.peek() != Kind::End {
            let got = self.next();
            return self.unexpected(&got, "the end of the text");
        }
        for (label, name, at) in outputs {
            let Some(value) = self.values.get(&label).copied() else {
                self.at = at;
                return self.error(format!("the output \"{name}\" names a value that is not defined"));
            };
            self.graph.add_output(&name, value);
        }
        Ok(())
    }

    fn item(&mut self) -> Parsed<()> {
        if self.is_punct('%') {
            return self.node();
        }
        match self.word("a node, weights, head, note, residual, relevance, claim or }")?.as_str() {
            "weights" => self.weights(),
            "head" => {
                let name = self.word("a head")?;
                match Head::ALL.iter().find(|(n, _)| *n == name) {
                    Some((_, head)) => self.graph.head = head.over(self.groups()?),
                    None => {
                        return self.error(format!(
                            "got the head \"{name}\", expected softmax, log_softmax or sigmoid"
                        ));
                    }
                }
                Ok(())
            }
            "note" => {
                let note = self.text("a note in quotes")?;
                self.graph.notes.push(note);
                Ok(())
            }
            "residual" => self.residual(),
            "relevance" => self.relevance(),
            "claim" => self.claim(),
            other => self.error(format!("got \"{other}\", expected a node or a section")),
        }
    }

    fn weights(&mut self) -> Parsed<()> {
        self.punct('{')?;
        while !self.accept('}') {
            self.punct('@')?;
            let name = self.name()?;
            self.punct(':')?;
            let ty = self.ty()?;
            if let Err(e) = ty.check() {
                return self.error(e);
            }
            let hash = match self.next() {
                Kind::Hash(h) => h,
                other => return self.unexpected(&other, "the content's hash"),
            };
            let added = self.graph.add_weight(Weight::without_data(name.clone(), ty, hash));
            let value = self.ir(added)?;
            self.values.insert(('@', name), value);
        }
        Ok(())
    }

    fn node(&mut self) -> Parsed<()> {
        let mut results = Vec::new();
        loop {
            results.push(self.label()?);
            if !self.accept(',') {
                break;
            }
        }
        self.punct('=')?;
        let mnemonic = self.word("an op")?;
        let (operands, mut attrs, of) = self.arguments()?;
        let mut types = vec![self.ty()?];
        while self.accept(',') {
            types.push(self.ty()?);
        }
        let op = match Op::from_text(&mnemonic, std::mem::take(&mut attrs)) {
            Ok(op) => op,
            Err(e) => return self.error(format!("{mnemonic}: {e}")),
        };
        let number = self.number(&results, &op)?;
        let rule = if self.accept('!') { Some(self.rule()?) } else { None };
        let name = match of {
            Some(of) => self.graph.node(of).name.clone(),
            None if self.accept(';') => self.text("the node's name in quotes")?,
            None => String::new(),
        };
        let added = self.graph.add_numbered(op, &name, of, &operands, number);
        let node = self.ir(added)?;
        let inferred = self.graph.node(node).types();
        if inferred != types || results.len() != types.len() {
            let show = |t: &[TensorType]| t.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return self.error(format!("got type {}, expected {}", show(&types), show(inferred)));
        }
        if let Some(rule) = rule {
            self.graph.rules.insert(node, rule);
        }
        for (port, label) in results.into_iter().enumerate() {
            if self.values.insert(label.clone(), ValueId { node, port }).is_some() {
                return self
                    .error(format!("got %{} again, expected every value to be defined once", label.1));
            }
        }
        Ok(())
    }

    /// The number of the first result; the others must follow it.
    fn number(&self, results: &[(char, String)], op: &Op) -> Parsed<u32> {
        let parse = |label: &(char, String)| match (op.is_relevance(), relevance_number(&label.1)) {
            (true, number) => number,
            (false, _) => label.1.parse::<u32>().ok(),
        };
        let numbers: Option<Vec<u32>> = results.iter().filter(|l| l.0 == '%').map(parse).collect();
        let first = numbers.as_ref().and_then(|n| n.first().copied());
        match (numbers, first) {
            (Some(n), Some(first))
                if n.len() == results.len()
                    && first < u32::MAX / 2
                    && n.iter().zip(first..).all(|(a, b)| *a == b) =>
            {
                Ok(first)
            }
            _ if op.is_relevance() => self.error("expected results %rK, %rK+1, ... of a relevance op"),
            _ => self.error("expected a result %K of a forward op"),
        }
    }

    fn arguments(&mut self) -> Parsed<(Vec<ValueId>, AttrMap, Option<NodeId>)> {
        let (mut operands, mut attrs, mut of) = (Vec::new(), AttrMap::default(), None);
        list(self, ':', |p: &mut Self| {
            if p.is_punct('%') || p.is_punct('@') {
                operands.push(p.value()?);
                return Ok(());
            }
            let name = p.word("an operand or an attribute")?;
            p.punct('=')?;
            if name == "of" {
                of = Some(p.value()?.node);
                return Ok(());
            }
            p.attribute(name, &mut attrs)
        })?;
        Ok((operands, attrs, of))
    }

    fn rule(&mut self) -> Parsed<AssignedRule> {
        let name = self.word("a rule")?;
        self.punct('(')?;
        let mut attrs = AttrMap::default();
        list(self, ')', |p: &mut Self| {
            let name = p.word("an attribute")?;
            p.punct('=')?;
            p.attribute(name, &mut attrs)
        })?;
        let rule = match Rule::from_text(&name, attrs) {
            Ok(rule) => rule,
            Err(e) => return self.error(format!("rule {name}: {e}")),
        };
        self.keyword("from")?;
        Ok(AssignedRule { rule, origin: self.text("the rule's origin in quotes")? })
    }

    /// The groups of a head, if it has some.
    fn groups(&mut self) -> Parsed<Option<Groups>> {
        if !self.accept_word("of") {
            return Ok(None);
        }
        self.punct('=')?;
        let size = self.size("a number of outputs")?;
        self.keyword("apart")?;
        self.punct('=')?;
        Ok(Some(Groups { size, stride: self.size("a number of outputs")? }))
    }

    fn residual(&mut self) -> Parsed<()> {
        let join = self.value()?.node;
        self.keyword("fork")?;
        self.punct('=')?;
        let fork = self.value()?.node;
        self.keyword("skip")?;
        self.punct('=')?;
        let skip = self.size("an index")?;
        self.punct('[')?;
        let mut branches = Vec::new();
        list(self, ']', |p: &mut Self| {
            let kind = match p.word("a branch kind")?.parse() {
                Ok(kind) => kind,
                Err(e) => return p.error::<()>(e),
            };
            p.punct(':')?;
            let weighted_layers = p.size("a number of layers")?;
            p.punct(':')?;
            branches.push(Branch { kind, weighted_layers, length: p.size("a length")? });
            Ok(())
        })?;
        self.graph.residuals.push(Residual { join, fork, branches, skip });
        Ok(())
    }

    fn relevance(&mut self) -> Parsed<()> {
        self.punct('{')?;
        while !self.accept('}') {
            if self.accept_word("return") {
                let value = self.value()?;
                self.keyword("for")?;
                let input = self.value()?.node;
                self.graph.relevance_outputs.push((input, value));
            } else {
                self.node()?;
            }
        }
        Ok(())
    }

    fn claim(&mut self) -> Parsed<()> {
        let mut claim = Claim::default();
        if !self.accept_word("conserving") {
            loop {
                let node = self.value()?.node;
                self.punct(':')?;
                match self.word("a contract")?.parse() {
                    Ok(contract) => claim.leaks.push((node, contract)),
                    Err(e) => return self.error::<()>(e),
                }
                if !self.accept(',') {
                    break;
                }
            }
        }
        self.graph.claim = Some(claim);
        Ok(())
    }
}

/// The number of a relevance value's label, `r12`.
fn relevance_number(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('r')?;
    (!digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok())?
}
