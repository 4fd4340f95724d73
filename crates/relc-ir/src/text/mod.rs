//! What the text forms of graphs and programs share: tokens, a cursor over them, names and quoted strings.

mod lex;

use std::ops::DerefMut;

use crate::attr::{Attr, AttrMap, Item};
use crate::error::IrError;
use crate::types::{Dim, TensorType};
pub use lex::Kind;
use lex::{Token, lex};

pub use crate::attr::Quoted;
pub use crate::print::Name;

/// What a parser gives.
pub type Parsed<T> = Result<T, IrError>;

/// The tokens of a text, and which is at hand.
#[derive(Debug)]
pub struct Cursor {
    tokens: Vec<Token>,
    pub(crate) at: usize,
}

/// Takes `item {"," item} close`, or `close` alone, with a parser over a cursor.
///
/// # Errors
/// If something else is at hand, or `item` says so.
pub fn list<P: DerefMut<Target = Cursor>>(
    parser: &mut P,
    close: char,
    mut item: impl FnMut(&mut P) -> Parsed<()>,
) -> Parsed<()> {
    if parser.accept(close) {
        return Ok(());
    }
    loop {
        item(parser)?;
        if !parser.accept(',') {
            return parser.punct(close);
        }
    }
}

impl Cursor {
    /// At the first token of a text.
    ///
    /// # Errors
    /// If the text has a character that no token has.
    pub fn new(text: &str) -> Parsed<Cursor> {
        Ok(Cursor { tokens: lex(text)?, at: 0 })
    }

    /// The token at hand.
    pub fn peek(&self) -> &Kind {
        self.tokens.get(self.at).map_or(&Kind::End, |t| &t.kind)
    }

    /// Takes the token at hand.
    #[expect(clippy::should_implement_trait, reason = "there is always a next token: the end")]
    pub fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.at += 1;
        kind
    }

    /// An error at the token before the current one.
    ///
    /// # Errors
    /// Always.
    pub fn error<T>(&self, message: impl Into<String>) -> Parsed<T> {
        let token = self.tokens.get(self.at.saturating_sub(1)).or(self.tokens.last());
        let (line, column) = token.map_or((1, 1), |t| (t.line, t.column));
        Err(IrError::Parse { line, column, message: message.into() })
    }

    /// An error that says what was got and what is expected.
    ///
    /// # Errors
    /// Always.
    pub fn unexpected<T>(&self, got: &Kind, expected: &str) -> Parsed<T> {
        self.error(format!("got {}, expected {expected}", got.describe()))
    }

    /// Whether the token at hand is this character.
    pub fn is_punct(&self, c: char) -> bool {
        *self.peek() == Kind::Punct(c)
    }

    /// Whether the token at hand is this word.
    pub fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(w) if w == word)
    }

    /// Takes this character if it is at hand.
    pub fn accept(&mut self, c: char) -> bool {
        let is = self.is_punct(c);
        self.at += usize::from(is);
        is
    }

    /// Takes this word if it is at hand.
    pub fn accept_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.at += usize::from(is);
        is
    }

    /// Takes this character.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn punct(&mut self, c: char) -> Parsed<()> {
        match self.next() {
            Kind::Punct(p) if p == c => Ok(()),
            other => self.unexpected(&other, &Kind::Punct(c).describe()),
        }
    }

    /// Takes this word.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn keyword(&mut self, word: &str) -> Parsed<()> {
        match self.next() {
            Kind::Word(w) if w == word => Ok(()),
            other => self.unexpected(&other, &format!("\"{word}\"")),
        }
    }

    /// Takes a word.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn word(&mut self, what: &str) -> Parsed<String> {
        match self.next() {
            Kind::Word(w) => Ok(w),
            other => self.unexpected(&other, what),
        }
    }

    /// Takes a quoted string.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn text(&mut self, what: &str) -> Parsed<String> {
        match self.next() {
            Kind::Text(t) => Ok(t),
            other => self.unexpected(&other, what),
        }
    }

    /// Takes a name: a word or a quoted string.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn name(&mut self) -> Parsed<String> {
        match self.next() {
            Kind::Word(w) | Kind::Text(w) => Ok(w),
            other => self.unexpected(&other, "a name"),
        }
    }

    /// Takes an integer that is not negative.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn size(&mut self, what: &str) -> Parsed<usize> {
        match self.next() {
            Kind::Int(v) if v >= 0 => Ok(v as usize),
            other => self.unexpected(&other, what),
        }
    }

    /// Takes a type: `f32[N,3,224,224]`.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn ty(&mut self) -> Parsed<TensorType> {
        self.keyword("f32")?;
        self.punct('[')?;
        let mut dims = Vec::new();
        self.items(']', |p| {
            dims.push(match p.next() {
                Kind::Int(v) if v >= 0 => Dim::Fixed(v as usize),
                Kind::Word(w) if w == "N" => Dim::Batch,
                other => return p.unexpected(&other, "a dimension"),
            });
            Ok(())
        })?;
        Ok(TensorType::new(dims))
    }

    /// Takes the value of an attribute.
    ///
    /// # Errors
    /// If something else is at hand.
    pub fn attribute(&mut self, name: String, attrs: &mut AttrMap) -> Parsed<()> {
        let value = match self.next() {
            Kind::Int(v) => Attr::Int(v),
            Kind::Float(v) => Attr::Float(v),
            Kind::Word(w) => Attr::Word(w),
            Kind::Text(t) => Attr::Text(t),
            Kind::Punct('[') => {
                let mut items = Vec::new();
                self.items(']', |p| {
                    items.push(match p.next() {
                        Kind::Int(v) => Item::Int(v),
                        Kind::Word(w) if w == "N" => Item::Batch,
                        other => return p.unexpected(&other, "a number or N"),
                    });
                    Ok(())
                })?;
                Attr::List(items)
            }
            other => return self.unexpected(&other, "an attribute's value"),
        };
        attrs.insert(name, value).or_else(|e| self.error(e))
    }

    /// Takes `item {"," item} close`, or `close` alone.
    ///
    /// # Errors
    /// If something else is at hand, or `item` says so.
    pub fn items(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        list(&mut &mut *self, close, |cursor| item(cursor))
    }
}
