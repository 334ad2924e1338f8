//! One pass over a frame: is it a message at all (rule 13), of which type, for whom, and where in the text is its
//! `from`. Relays are cut and pasted from what came; everything else in them stays byte for byte.

use bytestring::ByteString;
use std::{borrow::Cow, ops::Range};

/// How deep objects and arrays may be nested, the message itself included (rule 13).
pub const MAX_DEPTH: u32 = 32;
/// How many characters a number may have (rule 13).
pub const MAX_NUMBER: usize = 40;

/// Why a frame is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// RFC 8259 doesn't allow it, or half of a surrogate pair stands alone in it.
    #[error("not JSON, at byte {0}")]
    Syntax(usize),
    /// Something else than an object.
    #[error("not a JSON object")]
    NotObject,
    /// Over [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Over [`MAX_NUMBER`], or beyond what a double can hold: common parsers raise at both.
    #[error("a number of more than {MAX_NUMBER} characters or out of range")]
    Number,
    /// Two parsers could disagree on which of the two counts.
    #[error("`{0}` is there twice")]
    Twice(&'static str),
    /// No `type`, or an empty one.
    #[error("no `type`")]
    NoType,
    /// A field of the envelope that is something else than text.
    #[error("`{0}` is not a string")]
    NotText(&'static str),
}

/// What the server needs to know of a message to pass it on.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// The `type`, never empty.
    pub kind: Cow<'a, str>,
    /// The `target_id`. `null` and "" are none.
    pub target: Option<Cow<'a, str>>,
    frame: &'a str,
    /// Where the value of `type` is, with its quotes.
    kind_at: Range<usize>,
    /// Where `from` and its value are, with one of the commas beside them.
    from_at: Option<Range<usize>>,
    /// Where the last brace is.
    end: usize,
}

impl<'a> Envelope<'a> {
    /// Reads a frame.
    pub fn scan(frame: &'a str) -> Result<Self, Bad> {
        let mut scanner = Scanner { bytes: frame.as_bytes(), at: 0 };
        let mut fields = Fields { frame, ..Fields::default() };
        scanner.space();
        if scanner.peek() != Some(b'{') {
            return Err(Bad::NotObject);
        }
        scanner.members(1, |member| fields.add(&member))?;
        let end = scanner.at - 1;
        scanner.space();
        if scanner.peek().is_some() {
            return Err(Bad::Syntax(scanner.at));
        }
        let Some((kind, kind_at)) = fields.kind.filter(|(kind, _)| !kind.is_empty()) else {
            return Err(Bad::NoType);
        };
        let target = fields.target.filter(|target| !target.is_empty());
        Ok(Self { kind, target, frame, kind_at, from_at: fields.from, end })
    }

    /// The message with `id` as its only `from`. `id` has no control characters, as rule 2 wants it.
    pub fn with_from(&self, id: &str) -> ByteString {
        const KEY: &str = ",\"from\":\"";
        let (head, tail) = self.frame.split_at(self.end);
        let cut = self.from_at.clone().unwrap_or(self.end..self.end);
        // Exactly what is needed: Bytes then keeps this very allocation.
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

    /// The message with another `type`, a plain word.
    pub fn with_kind(&self, word: &str) -> ByteString {
        [&self.frame[..self.kind_at.start], "\"", word, "\"", &self.frame[self.kind_at.end..]].concat().into()
    }
}

/// One member of the outermost object.
struct Member {
    key: Text,
    value: Range<usize>,
    /// Whether the value is a string and, if so, whether it has escapes.
    text: Option<Text>,
    /// What to cut so that this member is gone and the commas still fit.
    cut: Range<usize>,
}

/// A string literal, with its quotes.
#[derive(Clone)]
struct Text {
    at: Range<usize>,
    escaped: bool,
}

impl Text {
    fn read<'a>(&self, frame: &'a str) -> Result<Cow<'a, str>, Bad> {
        let literal = &frame[self.at.clone()];
        if self.escaped {
            serde_json::from_str::<String>(literal).map(Cow::Owned).map_err(|_| Bad::Syntax(self.at.start))
        } else {
            Ok(Cow::Borrowed(&literal[1..literal.len() - 1]))
        }
    }
}

/// What was found among the members.
#[derive(Default)]
struct Fields<'a> {
    frame: &'a str,
    kind: Option<(Cow<'a, str>, Range<usize>)>,
    /// Empty for null.
    target: Option<Cow<'a, str>>,
    from: Option<Range<usize>>,
}

impl Fields<'_> {
    fn add(&mut self, member: &Member) -> Result<(), Bad> {
        match &*member.key.read(self.frame)? {
            "type" => {
                let text = member.text.as_ref().ok_or(Bad::NotText("type"))?.read(self.frame)?;
                once("type", self.kind.replace((text, member.value.clone())).is_none())
            }
            "target_id" => {
                let text = match &member.text {
                    Some(text) => text.read(self.frame)?,
                    None if &self.frame[member.value.clone()] == "null" => Cow::Borrowed(""),
                    None => return Err(Bad::NotText("target_id")),
                };
                once("target_id", self.target.replace(text).is_none())
            }
            "from" => once("from", self.from.replace(member.cut.clone()).is_none()),
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

    /// Any value; `depth` is its own where it is an object or an array. Tells where a string was.
    fn value(&mut self, depth: u32) -> Result<Option<Text>, Bad> {
        match self.peek() {
            Some(b'"') => return self.string().map(Some),
            Some(b'{') => self.members(depth, |_| Ok(()))?,
            Some(b'[') => self.elements(depth)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => return Err(self.bad()),
        }
        Ok(None)
    }

    fn word(&mut self, word: &str) -> Result<(), Bad> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.bad());
        }
        self.at += word.len();
        Ok(())
    }

    fn members(&mut self, depth: u32, mut each: impl FnMut(Member) -> Result<(), Bad>) -> Result<(), Bad> {
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
            each(Member { key, value: begin..end, text, cut })?;
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

    fn string(&mut self) -> Result<Text, Bad> {
        let start = self.at;
        let mut escaped = false;
        self.expect(b'"')?;
        loop {
            self.at += plain(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text { at: start..self.at, escaped });
                }
                Some(b'\\') => escaped = true,
                _ => return Err(self.bad()),
            }
            // Lines end with two of them.
            while self.peek() == Some(b'\\') {
                self.escape()?;
            }
        }
    }

    /// A backslash and what belongs to it.
    fn escape(&mut self) -> Result<(), Bad> {
        let start = self.at;
        let letter = self.bytes.get(start + 1).copied();
        self.at += 2;
        match letter {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => match self.hex()? {
                0xD800..=0xDBFF => {
                    self.word("\\u")?;
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

/// How many bytes at the start mean nothing but themselves in a string: up to a quote, a backslash or a control
/// character. Eight at a time, as SDP is long.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // In each of these the lowest bit that is set belongs to the first byte that matches; higher ones may err.
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
