//! Reads the envelope of a frame in one pass, without parsing it into values: whether it is a message (rule 13), its
//! `type`, its `target_id`, and the place of its `from`. A relayed message is the received text with `from` replaced; all
//! other bytes stay as they are.

use bytestring::ByteString;
use std::{borrow::Cow, ops::Range};

/// How deep objects and arrays may be nested, the message itself included (rule 13).
pub const MAX_DEPTH: u32 = 32;
/// How many characters a number may have (rule 13).
pub const MAX_NUMBER: usize = 40;

/// Why a frame is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The text violates RFC 8259, or has half of a surrogate pair.
    #[error("not JSON, at byte {0}")]
    Syntax(usize),
    /// The value is not an object.
    #[error("not a JSON object")]
    NotObject,
    /// The nesting exceeds [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A number exceeds [`MAX_NUMBER`], or the range of a double. Common parsers raise on both.
    #[error("a number of more than {MAX_NUMBER} characters or out of range")]
    Number,
    /// A field occurs twice. Parsers disagree on which of the two counts.
    #[error("`{0}` occurs twice")]
    Twice(&'static str),
    /// `type` is missing or empty.
    #[error("`type` is missing")]
    NoType,
    /// A field of the envelope is not a string.
    #[error("`{0}` is not a string")]
    NotText(&'static str),
}

/// The fields that the server needs to relay a message.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// The `type`, never empty.
    pub kind: Cow<'a, str>,
    /// The `target_id`. `null` and "" count as absent.
    pub target: Option<Cow<'a, str>>,
    frame: &'a str,
    /// The place of the value of `type`, with its quotes.
    kind_at: Range<usize>,
    /// The place of `from` and its value, with one of the adjacent commas.
    from_at: Option<Range<usize>>,
    /// The place of the last brace.
    end: usize,
}

impl<'a> Envelope<'a> {
    /// Reads a frame.
    pub fn scan(frame: &'a str) -> Result<Self, Bad> {
        let mut scanner = Scanner { bytes: frame.as_bytes(), at: 0 };
        let mut found = Found { frame, ..Found::default() };
        scanner.space();
        if scanner.peek() != Some(b'{') {
            return Err(Bad::NotObject);
        }
        scanner.members(1, |field| found.add(&field))?;
        let end = scanner.at - 1;
        scanner.space();
        if scanner.peek().is_some() {
            return Err(Bad::Syntax(scanner.at));
        }
        let Some((kind, kind_at)) = found.kind.filter(|(kind, _)| !kind.is_empty()) else {
            return Err(Bad::NoType);
        };
        let target = found.target.filter(|target| !target.is_empty());
        Ok(Self { kind, target, frame, kind_at, from_at: found.from, end })
    }

    /// The message with `id` as its only `from`. `id` must have no control characters (rule 2).
    pub fn with_from(&self, id: &str) -> ByteString {
        const KEY: &str = ",\"from\":\"";
        let (head, tail) = self.frame.split_at(self.end);
        let cut = self.from_at.clone().unwrap_or(self.end..self.end);
        // The exact size, because Bytes keeps this allocation only if it is full.
        let escapes = id.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        let size = self.frame.len() - cut.len() + KEY.len() + id.len() + escapes + 1;
        let mut text = String::with_capacity(size);
        text.push_str(&head[..cut.start]);
        text.push_str(&head[cut.end..]);
        text.push_str(KEY);
        for part in id.split_inclusive(['"', '\\']) {
            match part.strip_suffix(['"', '\\']) {
                Some(plain) => {
                    text.push_str(plain);
                    text.push('\\');
                    text.push_str(&part[plain.len()..]);
                }
                None => text.push_str(part),
            }
        }
        text.push('"');
        text.push_str(tail);
        text.into()
    }

    /// The message with another `type`, which must need no escapes.
    pub fn with_kind(&self, kind: &str) -> ByteString {
        [&self.frame[..self.kind_at.start], "\"", kind, "\"", &self.frame[self.kind_at.end..]].concat().into()
    }
}

/// One name and value of the outermost object.
struct Field {
    key: StringLiteral,
    value: Range<usize>,
    /// The value, if it is a string.
    text: Option<StringLiteral>,
    /// The text to cut to remove this field with one comma.
    cut: Range<usize>,
}

/// A string literal, with its quotes.
#[derive(Clone)]
struct StringLiteral {
    at: Range<usize>,
    escaped: bool,
}

impl StringLiteral {
    fn read<'a>(&self, frame: &'a str) -> Result<Cow<'a, str>, Bad> {
        let literal = &frame[self.at.clone()];
        if self.escaped {
            serde_json::from_str::<String>(literal).map(Cow::Owned).map_err(|_| Bad::Syntax(self.at.start))
        } else {
            Ok(Cow::Borrowed(&literal[1..literal.len() - 1]))
        }
    }
}

/// The fields of the envelope that were found.
#[derive(Default)]
struct Found<'a> {
    frame: &'a str,
    kind: Option<(Cow<'a, str>, Range<usize>)>,
    /// `null` as "".
    target: Option<Cow<'a, str>>,
    from: Option<Range<usize>>,
}

impl Found<'_> {
    fn add(&mut self, field: &Field) -> Result<(), Bad> {
        match &*field.key.read(self.frame)? {
            "type" => {
                let text = field.text.as_ref().ok_or(Bad::NotText("type"))?.read(self.frame)?;
                once("type", self.kind.replace((text, field.value.clone())).is_none())
            }
            "target_id" => {
                let text = match &field.text {
                    Some(text) => text.read(self.frame)?,
                    None if &self.frame[field.value.clone()] == "null" => Cow::Borrowed(""),
                    None => return Err(Bad::NotText("target_id")),
                };
                once("target_id", self.target.replace(text).is_none())
            }
            "from" => once("from", self.from.replace(field.cut.clone()).is_none()),
            _ => Ok(()),
        }
    }
}

fn once(name: &'static str, first: bool) -> Result<(), Bad> {
    if first { Ok(()) } else { Err(Bad::Twice(name)) }
}

/// RFC 8259, strictly. Recursion ends at [`MAX_DEPTH`].
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn bad(&self) -> Bad {
        Bad::Syntax(self.at)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Bad> {
        if self.eat(byte) { Ok(()) } else { Err(self.bad()) }
    }

    /// Skips any value; `depth` is that of an object or an array. Returns the value if it is a string.
    fn value(&mut self, depth: u32) -> Result<Option<StringLiteral>, Bad> {
        match self.peek() {
            Some(b'"') => return self.string().map(Some),
            Some(b'{') => self.members(depth, |_| Ok(()))?,
            Some(b'[') => self.elements(depth)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            _ => return Err(self.bad()),
        }
        Ok(None)
    }

    fn literal(&mut self, text: &str) -> Result<(), Bad> {
        if !self.rest().starts_with(text.as_bytes()) {
            return Err(self.bad());
        }
        self.at += text.len();
        Ok(())
    }

    fn members(&mut self, depth: u32, mut each: impl FnMut(Field) -> Result<(), Bad>) -> Result<(), Bad> {
        self.open(b'{', depth)?;
        if self.eat(b'}') {
            return Ok(());
        }
        let mut comma = None;
        loop {
            let start = self.at;
            let key = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            let begin = self.at;
            let text = self.value(depth + 1)?;
            let end = self.at;
            self.space();
            let next = self.eat(b',').then(|| self.at - 1);
            let cut = match (comma, next) {
                (Some(comma), _) => comma..end,
                (None, Some(next)) => start..next + 1,
                (None, None) => start..end,
            };
            each(Field { key, value: begin..end, text, cut })?;
            if next.is_none() {
                return self.expect(b'}');
            }
            comma = next;
            self.space();
        }
    }

    fn elements(&mut self, depth: u32) -> Result<(), Bad> {
        self.open(b'[', depth)?;
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            if !self.eat(b',') {
                return self.expect(b']');
            }
            self.space();
        }
    }

    fn open(&mut self, bracket: u8, depth: u32) -> Result<(), Bad> {
        if depth > MAX_DEPTH {
            return Err(Bad::TooDeep);
        }
        self.expect(bracket)?;
        self.space();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Bad> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        let scaled = self.eat(b'e') || self.eat(b'E');
        if scaled {
            let _signed = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let literal = self.bytes.get(start..self.at).unwrap_or_default();
        let in_range = || std::str::from_utf8(literal).ok()?.parse::<f64>().ok().filter(|n| n.is_finite());
        if literal.len() > MAX_NUMBER || (scaled && in_range().is_none()) {
            return Err(Bad::Number);
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Bad> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.bad()) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<StringLiteral, Bad> {
        let start = self.at;
        let mut escaped = false;
        self.expect(b'"')?;
        loop {
            self.at += plain(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(StringLiteral { at: start..self.at, escaped });
                }
                Some(b'\\') => escaped = true,
                _ => return Err(self.bad()),
            }
            // A line of SDP ends with two escapes.
            while self.peek() == Some(b'\\') {
                self.escape()?;
            }
        }
    }

    /// Skips an escape sequence.
    fn escape(&mut self) -> Result<(), Bad> {
        let start = self.at;
        let letter = self.bytes.get(start + 1).copied();
        self.at += 2;
        match letter {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => match self.hex()? {
                0xD800..=0xDBFF => {
                    self.literal("\\u")?;
                    if matches!(self.hex()?, 0xDC00..=0xDFFF) { Ok(()) } else { Err(Bad::Syntax(start)) }
                }
                0xDC00..=0xDFFF => Err(Bad::Syntax(start)),
                _ => Ok(()),
            },
            _ => Err(Bad::Syntax(start)),
        }
    }

    fn hex(&mut self) -> Result<u32, Bad> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or(self.bad())?;
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }
}

/// The number of bytes before the first quote, backslash or control character. It reads eight bytes at a time, because
/// SDP is long.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The lowest bit that is set belongs to the first byte that matches. Higher bits may be wrong.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let hit = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if hit != 0 {
            return index * 8 + hit.trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    words.len() * 8 + tail.iter().position(special).unwrap_or(tail.len())
}
