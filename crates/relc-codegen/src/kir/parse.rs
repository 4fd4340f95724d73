//! Reading the text form back.
//!
//! ```text
//! kernel    = "kernel" @name "(" [buffer {"," buffer}] ")" "tasks" "=" "[" int {"," int} "]"
//!             "{" "for" %name {"," %name} "in" "tasks" block "}"
//! buffer    = ("in" | "out" | "inout" | "const") @name ":" ("f32" | "f64") "[" int "]"
//! block     = "{" {statement} "}"
//! statement = "for" %name "in" int ".." int "step" int ["unroll"] block
//!           | "let" ["mut"] %name ":" type "=" op
//!           | "set" %name "=" %name
//!           | "store" %name "," place
//! op        = %name | "const" number | ("load" | "load.splat") place | "extract" %name "," int
//!           | name %name {"," %name}
//! place     = @name "[" term {"+" term} "]"
//! term      = int | %name ["*" int]
//! ```
//! A `;` starts a comment that ends with the line. Names consist of letters, digits, `_`, `.`, `/` and `-`.

use std::collections::HashMap;
use std::str::FromStr;

use super::lex::{Spanned, Token, lex};
use super::{
    Binary, Buf, Buffer, BufferKind, Compare, Elem, For, Idx, Kernel, MAX_DEPTH, Op, Place, Stmt, TaskDim,
    Ty, Unary, Val, ValueDecl, Var,
};

/// Why a text is no kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
#[non_exhaustive]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
    /// "got X, expected Y".
    pub message: String,
}

/// Reads a kernel. The result is not verified.
///
/// # Errors
/// Where the text leaves the grammar or uses a name that is not defined before.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let error = |at: usize, message: String| {
        let before = text.get(..at).unwrap_or(text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = at - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
        ParseError { line, column, message }
    };
    let tokens = lex(text).map_err(|at| error(at, "got a character that starts no token".to_owned()))?;
    let kernel = Kernel {
        name: String::new(),
        buffers: Vec::new(),
        tasks: Vec::new(),
        vars: Vec::new(),
        values: Vec::new(),
        body: Vec::new(),
    };
    let mut parser =
        Parser { tokens: &tokens, next: 0, kernel, buffers: HashMap::new(), locals: HashMap::new() };
    match parser.kernel() {
        Ok(()) => Ok(parser.kernel),
        Err(message) => {
            let last = parser.next.saturating_sub(1);
            Err(error(tokens.get(last).map_or(text.len(), |token| token.0), message))
        }
    }
}

#[derive(Clone, Copy)]
enum Local {
    Var(Var),
    Val(Val),
}

/// An error is a sentence about the token that was taken last.
type Parsed<T> = Result<T, String>;

struct Parser<'a> {
    tokens: &'a [Spanned<'a>],
    next: usize,
    kernel: Kernel,
    buffers: HashMap<&'a str, Buf>,
    locals: HashMap<&'a str, Local>,
}

fn describe(token: Token<'_>) -> String {
    match token {
        Token::At(name) => format!("`@{name}`"),
        Token::Percent(name) => format!("`%{name}`"),
        Token::Word(text) | Token::Number(text) => format!("`{text}`"),
        Token::Range => "`..`".to_owned(),
        Token::Punct(c) => format!("`{c}`"),
        Token::End => "the end of the text".to_owned(),
    }
}

fn unexpected<T>(got: Token<'_>, expected: &str) -> Parsed<T> {
    Err(format!("got {}, expected {expected}", describe(got)))
}

fn id(len: usize) -> Parsed<u32> {
    u32::try_from(len).map_err(|_| "got more names than fit in 32 bits".to_owned())
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).map_or(Token::End, |token| token.1)
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn accept(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == token;
        self.next += usize::from(found);
        found
    }

    fn punct(&mut self, c: char) -> Parsed<()> {
        match self.take() {
            Token::Punct(got) if got == c => Ok(()),
            got => unexpected(got, &format!("`{c}`")),
        }
    }

    fn keyword(&mut self, word: &str) -> Parsed<()> {
        match self.take() {
            Token::Word(got) if got == word => Ok(()),
            got => unexpected(got, &format!("`{word}`")),
        }
    }

    fn word(&mut self, expected: &str) -> Parsed<&'a str> {
        match self.take() {
            Token::Word(word) => Ok(word),
            got => unexpected(got, expected),
        }
    }

    fn at_name(&mut self) -> Parsed<&'a str> {
        match self.take() {
            Token::At(name) => Ok(name),
            got => unexpected(got, "a name with `@`"),
        }
    }

    fn percent_name(&mut self) -> Parsed<&'a str> {
        match self.take() {
            Token::Percent(name) => Ok(name),
            got => unexpected(got, "a name with `%`"),
        }
    }

    fn number<T: FromStr>(&mut self, expected: &str) -> Parsed<T> {
        match self.take() {
            Token::Number(text) | Token::Word(text) => {
                text.parse().or_else(|_| unexpected(Token::Number(text), expected))
            }
            got => unexpected(got, expected),
        }
    }

    /// `item {"," item}` up to `close`, possibly empty.
    fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        if self.accept(Token::Punct(close)) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.accept(Token::Punct(close)) {
                return Ok(items);
            }
            self.punct(',')?;
        }
    }

    fn kernel(&mut self) -> Parsed<()> {
        self.keyword("kernel")?;
        self.kernel.name = self.at_name()?.to_owned();
        self.punct('(')?;
        self.list(')', Self::buffer)?;
        self.keyword("tasks")?;
        self.punct('=')?;
        self.punct('[')?;
        let extents = self.list(']', |p| p.number::<u64>("a number of tasks"))?;
        self.punct('{')?;
        self.keyword("for")?;
        for (k, extent) in extents.into_iter().enumerate() {
            if k > 0 {
                self.punct(',')?;
            }
            let var = self.define_var()?;
            self.kernel.tasks.push(TaskDim { var, extent });
        }
        self.keyword("in")?;
        self.keyword("tasks")?;
        self.kernel.body = self.block(0)?;
        self.punct('}')?;
        match self.take() {
            Token::End => Ok(()),
            got => unexpected(got, "the end of the text"),
        }
    }

    fn define_buffer(&mut self, name: &'a str, buffer: Buf) -> Parsed<()> {
        match self.buffers.insert(name, buffer) {
            None => Ok(()),
            Some(_) => Err(format!("got a second definition of `@{name}`, expected one")),
        }
    }

    fn define_local(&mut self, name: &'a str, local: Local) -> Parsed<()> {
        match self.locals.insert(name, local) {
            None => Ok(()),
            Some(_) => Err(format!("got a second definition of `%{name}`, expected one")),
        }
    }

    fn define_var(&mut self) -> Parsed<Var> {
        let name = self.percent_name()?;
        let var = Var(id(self.kernel.vars.len())?);
        self.kernel.vars.push(name.to_owned());
        self.define_local(name, Local::Var(var))?;
        Ok(var)
    }

    fn buffer(&mut self) -> Parsed<()> {
        let word = self.word("in, out, inout or const")?;
        let kind = BufferKind::ALL.into_iter().find(|kind| kind.name() == word);
        let Some(kind) = kind else { return unexpected(Token::Word(word), "in, out, inout or const") };
        let name = self.at_name()?;
        self.punct(':')?;
        let elem = match self.word("f32 or f64")? {
            "f32" => Elem::F32,
            "f64" => Elem::F64,
            other => return unexpected(Token::Word(other), "f32 or f64"),
        };
        self.punct('[')?;
        let len = self.number("a length")?;
        self.punct(']')?;
        self.define_buffer(name, Buf(id(self.kernel.buffers.len())?))?;
        self.kernel.buffers.push(Buffer { name: name.to_owned(), kind, elem, len });
        Ok(())
    }

    fn block(&mut self, depth: usize) -> Parsed<Vec<Stmt>> {
        self.punct('{')?;
        let mut body = Vec::new();
        while !self.accept(Token::Punct('}')) {
            body.push(self.statement(depth)?);
        }
        Ok(body)
    }

    fn statement(&mut self, depth: usize) -> Parsed<Stmt> {
        let expected = "for, let, set, store or `}`";
        match self.word(expected)? {
            "for" => self.for_loop(depth),
            "let" => self.definition(),
            "set" => {
                let value = self.val()?;
                self.punct('=')?;
                Ok(Stmt::Set { value, from: self.val()? })
            }
            "store" => {
                let value = self.val()?;
                self.punct(',')?;
                let buffer = self.at_name()?;
                Ok(Stmt::Store { value, at: self.place(buffer)? })
            }
            other => unexpected(Token::Word(other), expected),
        }
    }

    fn for_loop(&mut self, depth: usize) -> Parsed<Stmt> {
        if depth >= MAX_DEPTH {
            return Err(format!("got more than {MAX_DEPTH} nested loops, expected fewer"));
        }
        let var = self.define_var()?;
        self.keyword("in")?;
        let start = self.number("an integer")?;
        match self.take() {
            Token::Range => {}
            got => return unexpected(got, "`..`"),
        }
        let end = self.number("an integer")?;
        self.keyword("step")?;
        let step = self.number("an integer")?;
        let unroll = self.accept(Token::Word("unroll"));
        let body = self.block(depth + 1)?;
        Ok(Stmt::For(For { var, start, end, step, unroll, body }))
    }

    fn definition(&mut self) -> Parsed<Stmt> {
        let mutable = self.accept(Token::Word("mut"));
        let name = self.percent_name()?;
        self.punct(':')?;
        let word = self.word("a type")?;
        let Some(ty) = Ty::ALL.into_iter().find(|ty| ty.name() == word) else {
            return unexpected(Token::Word(word), "f32, f32x4, f64, f64x2, bool or boolx4");
        };
        self.punct('=')?;
        let op = self.op(ty)?;
        // Defined after its operands are read, so that it cannot be its own operand.
        let value = Val(id(self.kernel.values.len())?);
        self.kernel.values.push(ValueDecl { name: name.to_owned(), ty, mutable });
        self.define_local(name, Local::Val(value))?;
        Ok(Stmt::Let { value, op })
    }

    fn op(&mut self, ty: Ty) -> Parsed<Op> {
        if let Token::Percent(_) = self.peek() {
            return Ok(Op::Copy(self.val()?));
        }
        let word = self.word("an operation")?;
        if let Some(op) = Unary::ALL.into_iter().find(|op| op.name() == word) {
            return Ok(Op::Unary(op, self.val()?));
        }
        let binary = Binary::ALL.into_iter().find(|op| op.name() == word);
        let compare = Compare::ALL.into_iter().find(|op| op.name() == word);
        Ok(match (word, binary, compare) {
            (_, Some(op), _) => Op::Binary(op, self.val()?, self.another()?),
            (_, _, Some(op)) => Op::Compare(op, self.val()?, self.another()?),
            ("const", ..) if matches!(ty, Ty::F32 | Ty::F32x4) => {
                Op::Const(f64::from(self.number::<f32>("a number")?))
            }
            ("const", ..) => Op::Const(self.number("a number")?),
            ("load" | "load.splat", ..) => {
                let buffer = self.at_name()?;
                let place = self.place(buffer)?;
                if word == "load" { Op::Load(place) } else { Op::LoadSplat(place) }
            }
            ("fma", ..) => Op::Fma(self.val()?, self.another()?, self.another()?),
            ("select", ..) => Op::Select(self.val()?, self.another()?, self.another()?),
            ("extract", ..) => {
                let a = self.val()?;
                self.punct(',')?;
                Op::Extract(a, self.number("a lane")?)
            }
            _ => return unexpected(Token::Word(word), "an operation"),
        })
    }

    fn val(&mut self) -> Parsed<Val> {
        let name = self.percent_name()?;
        match self.locals.get(name) {
            Some(Local::Val(value)) => Ok(*value),
            Some(Local::Var(_)) => Err(format!("got the loop variable `%{name}`, expected a value")),
            None => Err(format!("got `%{name}`, which is not defined, expected a value")),
        }
    }

    fn another(&mut self) -> Parsed<Val> {
        self.punct(',')?;
        self.val()
    }

    /// The place in the buffer whose name was just taken.
    fn place(&mut self, name: &str) -> Parsed<Place> {
        let Some(buffer) = self.buffers.get(name).copied() else {
            return Err(format!("got `@{name}`, expected the name of a buffer"));
        };
        self.punct('[')?;
        let mut index = self.term()?;
        loop {
            match self.take() {
                Token::Punct(']') => return Ok(Place { buffer, index }),
                Token::Punct('+') => index = index + self.term()?,
                got => return unexpected(got, "`+` or `]`"),
            }
        }
    }

    fn term(&mut self) -> Parsed<Idx> {
        if let Token::Number(_) = self.peek() {
            return Ok(Idx::from(self.number::<i64>("an integer")?));
        }
        let name = self.percent_name()?;
        let var = match self.locals.get(name) {
            Some(Local::Var(var)) => *var,
            Some(Local::Val(_)) => return Err(format!("got the value `%{name}`, expected a loop variable")),
            None => return Err(format!("got `%{name}`, which is not defined, expected a loop variable")),
        };
        let factor = if self.accept(Token::Punct('*')) { self.number("an integer")? } else { 1 };
        Ok(var * factor)
    }
}
