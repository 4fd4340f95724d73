//! Attributes in their text form: `name=value` pairs, shared by the printer, the parser and every op.

use std::fmt;

use crate::types::Dim;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// An integer: `group=2`.
    Int(i64),
    /// A real number, always printed with a point or an exponent: `epsilon=1e-5`.
    Float(f64),
    /// A bare word: `bias=exclude`.
    Word(String),
    /// A quoted string: `terms="a*w+"`.
    Text(String),
    /// A list of integers, `N` for the batch: `shape=[N,512]`.
    List(Vec<Item>),
}

/// An item of a list attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A number.
    Int(i64),
    /// The symbolic batch, `N`.
    Batch,
}

/// Attributes in the order in which they are printed.
pub type Attrs = Vec<(&'static str, Attr)>;

impl Attr {
    /// A list of sizes.
    pub fn sizes(values: &[usize]) -> Attr {
        Attr::List(values.iter().map(|&v| Item::Int(v as i64)).collect())
    }

    /// A list of dimensions.
    pub fn dims(values: &[Dim]) -> Attr {
        Attr::List(values.iter().map(|d| d.fixed().map_or(Item::Batch, |n| Item::Int(n as i64))).collect())
    }

    /// A list of integers.
    pub fn ints(values: &[i64]) -> Attr {
        Attr::List(values.iter().map(|&v| Item::Int(v)).collect())
    }

    /// A yes-or-no word.
    pub fn flag(value: bool) -> Attr {
        Attr::Word(if value { "yes" } else { "no" }.into())
    }
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attr::Int(v) => write!(f, "{v}"),
            Attr::Float(v) => write!(f, "{v:?}"),
            Attr::Word(w) => f.write_str(w),
            Attr::Text(t) => write!(f, "{}", Quoted(t)),
            Attr::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i > 0 { "," } else { "" })?;
                    match item {
                        Item::Int(v) => write!(f, "{v}")?,
                        Item::Batch => f.write_str("N")?,
                    }
                }
                f.write_str("]")
            }
        }
    }
}

/// A string in quotes, with `\"`, `\\`, `\n`, `\t` and `\u{..}` escapes.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Parsed attributes that an op takes its own from; what is left over is an error.
#[derive(Debug, Default)]
pub struct AttrMap(Vec<(String, Attr)>);

impl AttrMap {
    /// Adds an attribute.
    ///
    /// # Errors
    /// If the name is there already.
    pub fn insert(&mut self, name: String, value: Attr) -> Result<(), String> {
        if self.has(&name) {
            return Err(format!("attribute \"{name}\" given twice"));
        }
        self.0.push((name, value));
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<Attr> {
        let i = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(i).1)
    }

    fn required(&mut self, name: &str) -> Result<Attr, String> {
        self.take(name).ok_or_else(|| format!("attribute \"{name}\" is missing"))
    }

    /// Whether there is an attribute of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Takes a required integer that is not negative.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn size(&mut self, name: &str) -> Result<usize, String> {
        match self.required(name)? {
            Attr::Int(v) => usize::try_from(v).map_err(|_| mismatch(name, &Attr::Int(v), "a size")),
            other => Err(mismatch(name, &other, "a size")),
        }
    }

    /// Takes a required integer.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn int(&mut self, name: &str) -> Result<i64, String> {
        match self.required(name)? {
            Attr::Int(v) => Ok(v),
            other => Err(mismatch(name, &other, "an integer")),
        }
    }

    /// Takes a required real number.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn float(&mut self, name: &str) -> Result<f64, String> {
        match self.required(name)? {
            Attr::Float(v) => Ok(v),
            other => Err(mismatch(name, &other, "a real number")),
        }
    }

    /// Takes a required word.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn word(&mut self, name: &str) -> Result<String, String> {
        match self.required(name)? {
            Attr::Word(v) => Ok(v),
            other => Err(mismatch(name, &other, "a word")),
        }
    }

    /// Takes a required quoted string.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn text(&mut self, name: &str) -> Result<String, String> {
        match self.required(name)? {
            Attr::Text(v) => Ok(v),
            other => Err(mismatch(name, &other, "a quoted string")),
        }
    }

    /// Takes a required `yes` or `no`.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.word(name)?.as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            other => Err(format!("attribute \"{name}\": got {other}, expected yes or no")),
        }
    }

    /// Takes a required list of dimensions.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn dims(&mut self, name: &str) -> Result<Vec<Dim>, String> {
        let value = self.required(name)?;
        let Attr::List(items) = &value else { return Err(mismatch(name, &value, "a list")) };
        let dim = |item: &Item| match item {
            Item::Batch => Ok(Dim::Batch),
            Item::Int(v) => usize::try_from(*v).map(Dim::Fixed).map_err(|_| mismatch(name, &value, "sizes")),
        };
        items.iter().map(dim).collect()
    }

    /// Takes a required list of integers.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn ints(&mut self, name: &str) -> Result<Vec<i64>, String> {
        let value = self.required(name)?;
        let Attr::List(items) = &value else { return Err(mismatch(name, &value, "a list")) };
        let int = |item: &Item| match item {
            Item::Int(v) => Ok(*v),
            Item::Batch => Err(mismatch(name, &value, "integers")),
        };
        items.iter().map(int).collect()
    }

    /// Takes a required list of sizes.
    ///
    /// # Errors
    /// If it is missing or of another kind.
    pub fn sizes(&mut self, name: &str) -> Result<Vec<usize>, String> {
        let values = self.ints(name)?;
        let size = |v: &i64| usize::try_from(*v).map_err(|_| mismatch(name, &Attr::ints(&values), "sizes"));
        values.iter().map(size).collect()
    }

    /// Takes a required list of exactly `K` sizes.
    ///
    /// # Errors
    /// If it is missing or of another kind or length.
    pub fn sizes_n<const K: usize>(&mut self, name: &str) -> Result<[usize; K], String> {
        let values = self.sizes(name)?;
        <[usize; K]>::try_from(values.as_slice())
            .map_err(|_| mismatch(name, &Attr::sizes(&values), &format!("{K} sizes")))
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Names the attributes that nobody took.
    pub fn finish(self) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.0.into_iter().map(|(n, _)| format!("\"{n}\"")).collect();
        Err(format!("unknown attribute {}", names.join(", ")))
    }
}

fn mismatch(name: &str, got: &Attr, expected: &str) -> String {
    format!("attribute \"{name}\": got {got}, expected {expected}")
}
