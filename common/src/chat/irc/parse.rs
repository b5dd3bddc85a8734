//! One line into its parts, without copying.

use std::borrow::Cow;

use super::{MAX_PARAMS, MAX_REST_BYTES, MAX_TAGS_BYTES};

/// Why a line can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("the line holds a NUL, CR or LF")]
    Control,
    #[error("the tags are longer than {MAX_TAGS_BYTES} bytes")]
    Tags,
    #[error("the line is longer than {MAX_REST_BYTES} bytes")]
    Length,
    #[error("the line has no command")]
    Command,
}

/// A line, borrowed from the buffer it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub tags: Tags<'a>,
    /// Without its colon.
    pub prefix: Option<&'a str>,
    /// As it was written; compare without case.
    pub command: &'a str,
    pub params: Params<'a>,
}

/// Parameters, the trailing one without its colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    all: [&'a str; MAX_PARAMS],
    count: usize,
}

impl<'a> Params<'a> {
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&'a str> {
        self.all.get(..self.count)?.get(at).copied()
    }

    #[must_use]
    pub fn as_slice(&self) -> &[&'a str] {
        self.all.get(..self.count).unwrap_or_default()
    }

    fn push(&mut self, param: &'a str) {
        if let Some(place) = self.all.get_mut(self.count) {
            *place = param;
            self.count += 1;
        }
    }

    const fn is_last(&self) -> bool {
        self.count + 1 >= MAX_PARAMS
    }
}

/// The raw tags of a line, read when somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tags<'a>(&'a str);

impl<'a> Tags<'a> {
    /// Keys and raw values, in order; a key may come twice.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0
            .split(';')
            .map(|tag| tag.split_once('=').unwrap_or((tag, "")))
            .filter(|(key, _)| !key.is_empty())
    }

    /// The value of a tag. Of several the last counts (IRCv3).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        let found = self.iter().filter(|(name, _)| *name == key).last();
        found.map(|(_, value)| unescape(value))
    }
}

/// Undoes the escapes of a tag's value.
#[must_use]
pub fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        let plain = if c == '\\' {
            match chars.next() {
                Some(':') => ';',
                Some('s') => ' ',
                Some('r') => '\r',
                Some('n') => '\n',
                // Any other character stands for itself, a lone one for nothing.
                Some(other) => other,
                None => break,
            }
        } else {
            c
        };
        out.push(plain);
    }
    Cow::Owned(out)
}

impl<'a> Line<'a> {
    /// Reads one line, without its CR LF.
    ///
    /// # Errors
    /// [`LineError`]; nothing of the line is to be acted upon.
    pub fn parse(line: &'a str) -> Result<Self, LineError> {
        if line.bytes().any(|b| matches!(b, b'\0' | b'\r' | b'\n')) {
            return Err(LineError::Control);
        }
        let mut rest = line;
        let mut tags = Tags::default();
        if let Some(tail) = rest.strip_prefix('@') {
            let (raw, tail) = tail.split_once(' ').ok_or(LineError::Command)?;
            if raw.len() + 2 > MAX_TAGS_BYTES {
                return Err(LineError::Tags);
            }
            tags = Tags(raw);
            rest = tail;
        }
        rest = rest.trim_start_matches(' ');
        if rest.len() > MAX_REST_BYTES {
            return Err(LineError::Length);
        }
        let mut prefix = None;
        if let Some(tail) = rest.strip_prefix(':') {
            let (source, tail) = tail.split_once(' ').ok_or(LineError::Command)?;
            prefix = Some(source);
            rest = tail.trim_start_matches(' ');
        }
        let (command, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if command.is_empty() || !command.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(LineError::Command);
        }
        let mut params = Params::default();
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                break;
            }
            if let Some(trailing) = rest.strip_prefix(':') {
                params.push(trailing);
                break;
            }
            if params.is_last() {
                params.push(rest);
                break;
            }
            let (param, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            params.push(param);
            rest = tail;
        }
        Ok(Self {
            tags,
            prefix,
            command,
            params,
        })
    }
}
