//! The text of a kernel, which [`super::parse`](super::parse()) reads back.

use std::fmt;

use super::{Idx, Kernel, Op, Place, Stmt, Ty, Val, Var};

/// Names and constants of one kernel; ids of others print as `?`.
pub(super) struct Names<'a>(pub &'a Kernel);

impl Names<'_> {
    pub fn val(&self, value: Val) -> String {
        let decl = self.0.values.get(value.0 as usize);
        format!("%{}", decl.map_or("?", |decl| &decl.name))
    }

    pub fn var(&self, var: Var) -> String {
        format!("%{}", self.0.vars.get(var.0 as usize).map_or("?", String::as_str))
    }

    fn idx(&self, idx: &Idx) -> String {
        let term = |&(var, coefficient): &(Var, i64)| match coefficient {
            1 => self.var(var),
            _ => format!("{}*{coefficient}", self.var(var)),
        };
        let mut terms: Vec<String> = idx.terms().iter().map(term).collect();
        if idx.constant() != 0 || terms.is_empty() {
            terms.push(idx.constant().to_string());
        }
        terms.join(" + ")
    }

    fn place(&self, place: &Place) -> String {
        let buffer = self.0.buffers.get(place.buffer.0 as usize);
        format!("@{}[{}]", buffer.map_or("?", |buffer| &buffer.name), self.idx(&place.index))
    }

    fn op(&self, op: &Op, ty: Ty) -> String {
        match op {
            // The shortest text that reads back as the same f32.
            Op::Const(value) if matches!(ty, Ty::F32 | Ty::F32x4) => format!("const {:?}", *value as f32),
            Op::Const(value) => format!("const {value:?}"),
            Op::Load(place) | Op::LoadSplat(place) => format!("{} {}", op.name(), self.place(place)),
            Op::Copy(a) => self.val(*a),
            Op::Extract(a, lane) => format!("extract {}, {lane}", self.val(*a)),
            Op::Unary(..) | Op::Binary(..) | Op::Fma(..) | Op::Compare(..) | Op::Select(..) => {
                let operands: Vec<_> = op.operands().into_iter().map(|a| self.val(a)).collect();
                format!("{} {}", op.name(), operands.join(", "))
            }
        }
    }

    /// A statement on one line; of a loop the head.
    pub fn line(&self, stmt: &Stmt) -> String {
        match stmt {
            Stmt::For(inner) => {
                let unroll = if inner.unroll { " unroll" } else { "" };
                let (var, step) = (self.var(inner.var), inner.step);
                format!("for {var} in {}..{} step {step}{unroll} {{", inner.start, inner.end)
            }
            Stmt::Let { value, op } => {
                let decl = self.0.values.get(value.0 as usize);
                let ty = decl.map_or(Ty::F32, |decl| decl.ty);
                let mutable = if decl.is_some_and(|decl| decl.mutable) { "mut " } else { "" };
                format!("let {mutable}{}: {} = {}", self.val(*value), ty.name(), self.op(op, ty))
            }
            Stmt::Set { value, from } => format!("set {} = {}", self.val(*value), self.val(*from)),
            Stmt::Store { value, at } => format!("store {}, {}", self.val(*value), self.place(at)),
        }
    }

    fn block(&self, f: &mut fmt::Formatter<'_>, body: &[Stmt], indent: usize) -> fmt::Result {
        for stmt in body {
            writeln!(f, "{:indent$}{}", "", self.line(stmt))?;
            if let Stmt::For(inner) = stmt {
                self.block(f, &inner.body, indent + 2)?;
                writeln!(f, "{:indent$}}}", "")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Names(self);
        let buffer =
            |b: &super::Buffer| format!("{} @{}: {}[{}]", b.kind.name(), b.name, b.elem.name(), b.len);
        let buffers: Vec<_> = self.buffers.iter().map(buffer).collect();
        let extents: Vec<_> = self.tasks.iter().map(|dim| dim.extent.to_string()).collect();
        writeln!(f, "kernel @{} ({}) tasks=[{}] {{", self.name, buffers.join(", "), extents.join(", "))?;
        let vars: Vec<_> = self.tasks.iter().map(|dim| names.var(dim.var)).collect();
        writeln!(f, "  for {} in tasks {{", vars.join(", "))?;
        names.block(f, &self.body, 4)?;
        writeln!(f, "  }}\n}}")
    }
}
