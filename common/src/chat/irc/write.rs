//! Lines to clients. Whatever is put in stays in its place: a tag's value is
//! escaped, a parameter loses what would end it or the line.

use std::fmt::{self, Write};

/// Writes one line into a buffer, in the order tags, prefix, command, parameters.
#[derive(Debug)]
pub struct LineWriter<'a> {
    out: &'a mut String,
    tags: bool,
}

impl<'a> LineWriter<'a> {
    /// Begins a line at the end of `out`.
    #[must_use]
    pub const fn new(out: &'a mut String) -> Self {
        Self { out, tags: false }
    }

    /// Adds a tag. `key` is one of ours and is not checked.
    pub fn tag(&mut self, key: &str, value: impl fmt::Display) {
        self.out.push(if self.tags { ';' } else { '@' });
        self.tags = true;
        self.out.push_str(key);
        self.out.push('=');
        // Writing to a String can't fail.
        let _ = write!(Escaped(self.out), "{value}");
    }

    /// A tag without a value.
    pub fn flag(&mut self, key: &str) {
        self.out.push(if self.tags { ';' } else { '@' });
        self.tags = true;
        self.out.push_str(key);
    }

    /// Ends the tags with the source and the command.
    #[must_use]
    pub fn command(self, prefix: impl fmt::Display, command: &str) -> ParamWriter<'a> {
        if self.tags {
            self.out.push(' ');
        }
        let _ = write!(self.out, ":{prefix} {command}");
        ParamWriter { out: self.out }
    }

    /// The same without a source, as clients write and PING does.
    #[must_use]
    pub fn bare_command(self, command: &str) -> ParamWriter<'a> {
        if self.tags {
            self.out.push(' ');
        }
        self.out.push_str(command);
        ParamWriter { out: self.out }
    }
}

/// The rest of a line.
#[derive(Debug)]
pub struct ParamWriter<'a> {
    out: &'a mut String,
}

impl ParamWriter<'_> {
    /// A parameter in the middle. Spaces and what ends a line become `_`, as does
    /// an emptiness or a colon at its front, since it must stay one word.
    #[must_use]
    pub fn param(self, value: impl fmt::Display) -> Self {
        self.out.push(' ');
        let from = self.out.len();
        let _ = write!(Middle(self.out), "{value}");
        let word = self.out.get(from..).unwrap_or_default();
        if word.is_empty() || word.starts_with(':') {
            self.out.insert(from, '_');
        }
        self
    }

    /// The last parameter; it may hold spaces.
    pub fn trailing(self, value: impl fmt::Display) {
        self.out.push_str(" :");
        let _ = write!(OneLine(self.out), "{value}");
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                ';' => self.0.push_str("\\:"),
                ' ' => self.0.push_str("\\s"),
                '\\' => self.0.push_str("\\\\"),
                '\r' => self.0.push_str("\\r"),
                '\n' => self.0.push_str("\\n"),
                // No tag can hold it.
                '\0' => {}
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

struct Middle<'a>(&'a mut String);

impl Write for Middle<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let ends = |c: char| matches!(c, ' ' | '\r' | '\n' | '\0');
        self.0
            .extend(text.chars().map(|c| if ends(c) { '_' } else { c }));
        Ok(())
    }
}

struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let ends = |c: char| matches!(c, '\r' | '\n' | '\0');
        self.0
            .extend(text.chars().map(|c| if ends(c) { ' ' } else { c }));
        Ok(())
    }
}
