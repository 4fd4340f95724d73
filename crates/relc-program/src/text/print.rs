//! Writing the text form; the grammar is in [`parse`](super::parse).

use std::fmt;

use relc_ir::text::{Name, Quoted};

use super::MOST;
use crate::program::{Constant, Derived, Ends, Program, Step, Value, ValueId};

/// Constants of at most so many values are printed with them.
const FEW: usize = 4;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.writes.is_empty() {
            let writes: Vec<String> = self.writes.iter().map(ToString::to_string).collect();
            write!(f, "{} = ", writes.join(", "))?;
        }
        let mut parts: Vec<String> = self.reads.iter().map(ToString::to_string).collect();
        parts.extend(self.constants.iter().map(|name| format!("@{}", Name(name))));
        parts.extend(self.op.attrs().into_iter().map(|(name, value)| format!("{name}={value}")));
        parts.extend(self.kernel.map(|kernel| format!("kernel_id={kernel}")));
        let space = if parts.is_empty() { "" } else { " " };
        let origin = &self.origin;
        write!(f, "{}{space}{}", self.op.mnemonic(), parts.join(", "))?;
        write!(f, " ; {} {} {}", Quoted(&origin.label), Quoted(&origin.op), Quoted(&origin.name))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program @{} {{", Name(&self.name))?;
        if !self.constants.is_empty() {
            writeln!(f, "  constants {{")?;
            for (name, constant) in &self.constants {
                write!(f, "    @{}: ", Name(name))?;
                match constant {
                    Constant::Weight(weight) => writeln!(f, "{} #{:016x}", weight.ty(), weight.hash())?,
                    Constant::Derived(derived) => writeln!(f, "{}", derived_text(derived))?,
                }
            }
            writeln!(f, "  }}")?;
        }
        writeln!(f, "  values {{")?;
        for (id, value) in &self.values {
            writeln!(f, "    {}", value_text(*id, value))?;
        }
        writeln!(f, "  }}")?;
        let Ends { input, output, seed, relevance } = self.ends;
        writeln!(f, "  ends {input}, {output}, {seed}, {relevance}")?;
        for (label, value) in &self.taps {
            writeln!(f, "  tap {} {value}", Quoted(label))?;
        }
        for (name, steps) in [("forward", &self.forward), ("backward", &self.backward)] {
            writeln!(f, "  {name} {{")?;
            for step in steps {
                writeln!(f, "    {step}")?;
            }
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")
    }
}

fn derived_text(derived: &Derived) -> String {
    let dims: Vec<String> = derived.dims().iter().map(ToString::to_string).collect();
    let list = |values: &[f64]| values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", ");
    let ty = format!("f64[{}]", dims.join(","));
    match (derived.uniform(), derived.data()) {
        (Some(value), Some(data)) if value.is_finite() && data.len() <= MOST => format!("{ty} = {value:?}"),
        (_, Some(data)) if data.len() <= FEW && !data.is_empty() && data.iter().all(|v| v.is_finite()) => {
            format!("{ty} = ({})", list(data))
        }
        _ => format!("{ty} #{:016x}", derived.hash()),
    }
}

fn value_text(id: ValueId, value: &Value) -> String {
    let mut text = match value.image {
        [c, 1, h, w] => format!("{id}: f32[N,{c},{h},{w}]"),
        [c, d, h, w] => format!("{id}: f32[N,{c},{d},{h},{w}]"),
    };
    if let Some(layout) = value.layout {
        let halo = layout.halo();
        text += &format!(" blocks={}", layout.block());
        if halo != crate::layout::Halo::NONE {
            text += &format!(" halo=[{},{},{},{}]", halo.top, halo.left, halo.bottom, halo.right);
        }
    }
    if let Some(slot) = value.slot {
        text += &format!(" slot={slot}");
    }
    text
}
