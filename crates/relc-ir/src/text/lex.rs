//! Tokens of the text forms.

use crate::error::IrError;

/// A token and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub line: usize,
    pub column: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A plain name or word.
    Word(String),
    /// A quoted string, unescaped.
    Text(String),
    /// An integer.
    Int(i64),
    /// A real number.
    Float(f64),
    /// `#` and 16 hexadecimal digits.
    Hash(u64),
    /// `%`, `@`, `(`, `)`, `[`, `]`, `{`, `}`, `,`, `:`, `=`, `;`, `!`, or `>` for `->`.
    Punct(char),
    /// The end of the text.
    End,
}

impl Kind {
    /// How messages call the token.
    pub fn describe(&self) -> String {
        match self {
            Kind::Word(w) => format!("\"{w}\""),
            Kind::Text(t) => format!("the string {t:?}"),
            Kind::Int(v) => v.to_string(),
            Kind::Float(v) => format!("{v:?}"),
            Kind::Hash(h) => format!("#{h:016x}"),
            Kind::Punct('>') => "\"->\"".into(),
            Kind::Punct(c) => format!("\"{c}\""),
            Kind::End => "the end of the text".into(),
        }
    }
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    column: usize,
}

/// Splits a text into tokens; the last is [`Kind::End`].
pub(super) fn lex(text: &str) -> Result<Vec<Token>, IrError> {
    let mut lexer = Lexer { rest: text.chars().peekable(), line: 1, column: 1 };
    let mut tokens = Vec::new();
    loop {
        while lexer.rest.peek().is_some_and(|c| c.is_whitespace()) {
            lexer.bump();
        }
        let (line, column) = (lexer.line, lexer.column);
        let kind = lexer.token().map_err(|message| IrError::Parse { line, column, message })?;
        let end = kind == Kind::End;
        tokens.push(Token { kind, line, column });
        if end {
            return Ok(tokens);
        }
    }
}

impl Lexer<'_> {
    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(&c) = self.rest.peek().filter(|c| keep(**c)) {
            taken.push(c);
            self.bump();
        }
        taken
    }

    fn token(&mut self) -> Result<Kind, String> {
        let Some(&c) = self.rest.peek() else { return Ok(Kind::End) };
        match c {
            '"' => self.text(),
            '#' => {
                self.bump();
                let digits = self.take_while(|c| c.is_ascii_hexdigit());
                u64::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 16)
                    .map(Kind::Hash)
                    .ok_or_else(|| format!("got the hash #{digits}, expected 16 hexadecimal digits"))
            }
            '-' => {
                self.bump();
                if self.rest.peek() == Some(&'>') {
                    self.bump();
                    return Ok(Kind::Punct('>'));
                }
                let digits = self.take_while(|c| c.is_ascii_alphanumeric() || ".+-".contains(c));
                number(&format!("-{digits}"))
            }
            '0'..='9' => {
                let digits = self.take_while(|c| c.is_ascii_alphanumeric() || ".+-".contains(c));
                number(&digits)
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let word = self.take_while(|c| c.is_ascii_alphanumeric() || "_.-/$^+".contains(c));
                Ok(match word.as_str() {
                    "inf" => Kind::Float(f64::INFINITY),
                    "NaN" => Kind::Float(f64::NAN),
                    _ => Kind::Word(word),
                })
            }
            '%' | '@' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ':' | '=' | ';' | '!' => {
                self.bump();
                Ok(Kind::Punct(c))
            }
            other => Err(format!("got the character {other:?}, expected a name, a number or punctuation")),
        }
    }

    fn text(&mut self) -> Result<Kind, String> {
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump().ok_or("got the end of the text inside a string")? {
                '"' => return Ok(Kind::Text(text)),
                '\\' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        match self.bump() {
            Some(c @ ('"' | '\\')) => Ok(c),
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('u') => {
                self.bump().filter(|c| *c == '{').ok_or("got \\u without {")?;
                let digits = self.take_while(|c| c.is_ascii_hexdigit());
                self.bump().filter(|c| *c == '}').ok_or("got \\u{ without }")?;
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| format!("got \\u{{{digits}}}, which is no character"))
            }
            other => Err(format!("got the escape {other:?}, expected one of \\\" \\\\ \\n \\t \\u{{..}}")),
        }
    }
}

fn number(digits: &str) -> Result<Kind, String> {
    if let Ok(v) = digits.parse::<i64>() {
        return Ok(Kind::Int(v));
    }
    digits.parse::<f64>().map(Kind::Float).map_err(|_| format!("got \"{digits}\", expected a number"))
}
