//! Tokens of the text form.

/// A token and its byte offset.
pub(super) type Spanned<'a> = (usize, Token<'a>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `@name`: a kernel or buffer.
    At(&'a str),
    /// `%name`: a variable or value.
    Percent(&'a str),
    /// A word.
    Word(&'a str),
    /// A number, also `-inf` and `-1`.
    Number(&'a str),
    /// `..`
    Range,
    /// One of `( ) [ ] { } , : = * +`.
    Punct(char),
    /// No more text.
    End,
}

/// Whether a character can stand in a name.
pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

/// The tokens of a text, with [`Token::End`] last; the offset of the first character that starts none otherwise.
pub(super) fn lex(text: &str) -> Result<Vec<Spanned<'_>>, usize> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (len, token) = match c {
            ';' => (rest.find('\n').unwrap_or(rest.len()), None),
            c if c.is_whitespace() => (c.len_utf8(), None),
            '@' | '%' => {
                let name = prefix(&rest[1..], is_name);
                let token = if c == '@' { Token::At(name) } else { Token::Percent(name) };
                (1 + name.len(), Some(token))
            }
            c if c.is_ascii_alphabetic() => {
                let word = prefix(rest, is_name);
                (word.len(), Some(Token::Word(word)))
            }
            c if c.is_ascii_digit() || c == '-' => {
                let number = number(rest);
                (number.len(), Some(Token::Number(number)))
            }
            '.' if rest.starts_with("..") => (2, Some(Token::Range)),
            '(' | ')' | '[' | ']' | '{' | '}' | ',' | ':' | '=' | '*' | '+' => (1, Some(Token::Punct(c))),
            _ => return Err(at),
        };
        tokens.extend(token.map(|token| (at, token)));
        at += len;
    }
    tokens.push((at, Token::End));
    Ok(tokens)
}

fn prefix(text: &str, keep: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !keep(c)).unwrap_or(text.len())]
}

/// `-`, then `inf` or digits with an optional fraction and exponent. A `..` ends the number.
fn number(text: &str) -> &str {
    let sign = usize::from(text.starts_with('-'));
    if text[sign..].starts_with("inf") {
        return &text[..sign + 3];
    }
    let digits = |from: usize| prefix(&text[from..], |c| c.is_ascii_digit()).len();
    let mut end = sign + digits(sign);
    if text[end..].starts_with('.') && !text[end..].starts_with("..") {
        end += 1;
        end += digits(end);
    }
    if text[end..].starts_with('e') {
        let signed = usize::from(text[end + 1..].starts_with('-'));
        end += 1 + signed;
        end += digits(end);
    }
    &text[..end]
}
