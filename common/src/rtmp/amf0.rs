//! AMF0 values, to and from bytes.
//!
//! Comes in: the body of a command or data message; goes out: owned [`Value`]s,
//! or the reverse. Nesting is at most [`MAX_DEPTH`] and one message holds at
//! most [`MAX_VALUES`] values in all, so decoding costs no more memory than a
//! small multiple of the message. Strings that are not UTF-8 are kept with
//! replacement characters: encoders put file names into them.
//! Spec: AMF 0 (Adobe, 2007), section 2.

use bytes::{BufMut, BytesMut};

/// Containers inside containers.
pub const MAX_DEPTH: usize = 32;
/// Values in one message, those inside containers included.
pub const MAX_VALUES: usize = 1024;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;

/// Named values in the order they were sent.
pub type Properties = Vec<(String, Value)>;

/// One AMF0 value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A double.
    Number(f64),
    /// A flag.
    Boolean(bool),
    /// A string of either length class.
    String(String),
    /// An anonymous object; a typed object loses its class name.
    Object(Properties),
    /// An associative array.
    EcmaArray(Properties),
    /// A dense array.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970 in UTC; the time zone field is reserved.
    Date(f64),
    /// Null.
    Null,
    /// Undefined, and the "unsupported" marker.
    Undefined,
}

impl Value {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The named values of an object or an associative array.
    pub fn as_properties(&self) -> Option<&[(String, Value)]> {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => Some(properties),
            _ => None,
        }
    }

    /// A named value of an object or an associative array.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let properties = self.as_properties()?;
        properties.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

/// Why bytes are not AMF0; offsets count from the start of the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// The body ends inside a value.
    #[error("ends inside a value at {0}")]
    Truncated(usize),
    /// A marker we do not read.
    #[error("marker {marker:#04x} at {at}")]
    Marker {
        /// The byte.
        marker: u8,
        /// Where it stands.
        at: usize,
    },
    /// Containers nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} at {0}")]
    TooDeep(usize),
    /// More values than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values at {0}")]
    TooMany(usize),
}

/// Reads the values of one message body.
#[derive(Debug)]
pub struct Decoder<'a> {
    body: &'a [u8],
    at: usize,
    values_left: usize,
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            at: 0,
            values_left: MAX_VALUES,
        }
    }

    /// The next value, or `None` at the end of the body.
    pub fn next_value(&mut self) -> Result<Option<Value>, AmfError> {
        if self.at >= self.body.len() {
            return Ok(None);
        }
        self.value(0).map(Some)
    }

    /// All values that are left.
    pub fn rest(&mut self) -> Result<Vec<Value>, AmfError> {
        let mut values = Vec::new();
        while let Some(value) = self.next_value()? {
            values.push(value);
        }
        Ok(values)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], AmfError> {
        let end = self
            .at
            .checked_add(count)
            .ok_or(AmfError::Truncated(self.at))?;
        let bytes = self
            .body
            .get(self.at..end)
            .ok_or(AmfError::Truncated(self.at))?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let at = self.at;
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| AmfError::Truncated(at))
    }

    fn number(&mut self) -> Result<f64, AmfError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn short_string(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.array()?);
        self.string(usize::from(length))
    }

    fn long_string(&mut self) -> Result<String, AmfError> {
        let length = u32::from_be_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| AmfError::Truncated(self.at))?;
        self.string(length)
    }

    fn string(&mut self, length: usize) -> Result<String, AmfError> {
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        let start = self.at;
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or(AmfError::TooMany(start))?;
        let [marker] = self.array()?;
        if depth >= MAX_DEPTH && matches!(marker, OBJECT | ECMA_ARRAY | STRICT_ARRAY | TYPED_OBJECT)
        {
            return Err(AmfError::TooDeep(start));
        }
        match marker {
            NUMBER => Ok(Value::Number(self.number()?)),
            BOOLEAN => Ok(Value::Boolean(self.array::<1>()? != [0])),
            STRING => Ok(Value::String(self.short_string()?)),
            LONG_STRING | XML => Ok(Value::String(self.long_string()?)),
            NULL => Ok(Value::Null),
            UNDEFINED | UNSUPPORTED => Ok(Value::Undefined),
            OBJECT => Ok(Value::Object(self.properties(depth + 1, false)?)),
            TYPED_OBJECT => {
                self.short_string()?;
                Ok(Value::Object(self.properties(depth + 1, false)?))
            }
            ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker rules.
                self.array::<4>()?;
                Ok(Value::EcmaArray(self.properties(depth + 1, true)?))
            }
            STRICT_ARRAY => self.strict_array(depth + 1),
            DATE => {
                let milliseconds = self.number()?;
                self.array::<2>()?;
                Ok(Value::Date(milliseconds))
            }
            _ => Err(AmfError::Marker { marker, at: start }),
        }
    }

    /// `may_end`: some encoders leave out the end marker of an array that is
    /// the last value of its message.
    fn properties(&mut self, depth: usize, may_end: bool) -> Result<Properties, AmfError> {
        let mut properties = Vec::new();
        loop {
            if may_end && self.at == self.body.len() {
                return Ok(properties);
            }
            let name = self.short_string()?;
            if name.is_empty() && self.body.get(self.at) == Some(&OBJECT_END) {
                self.at += 1;
                return Ok(properties);
            }
            properties.push((name, self.value(depth)?));
        }
    }

    fn strict_array(&mut self, depth: usize) -> Result<Value, AmfError> {
        let at = self.at;
        let count = u32::from_be_bytes(self.array()?);
        if usize::try_from(count).map_or(true, |count| count > self.values_left) {
            return Err(AmfError::TooMany(at));
        }
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth)?);
        }
        Ok(Value::StrictArray(values))
    }
}

/// Appends one value. A name over 65,535 bytes is cut at a character boundary;
/// a string of that length takes the long form.
pub fn encode(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Number(number) => {
            out.put_u8(NUMBER);
            out.put_f64(*number);
        }
        Value::Boolean(flag) => {
            out.put_u8(BOOLEAN);
            out.put_u8(u8::from(*flag));
        }
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(length) => {
                out.put_u8(STRING);
                out.put_u16(length);
                out.put_slice(text.as_bytes());
            }
            Err(_) => {
                out.put_u8(LONG_STRING);
                out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                out.put_slice(text.as_bytes());
            }
        },
        Value::Object(properties) => {
            out.put_u8(OBJECT);
            encode_properties(properties, out);
        }
        Value::EcmaArray(properties) => {
            out.put_u8(ECMA_ARRAY);
            out.put_u32(u32::try_from(properties.len()).unwrap_or(u32::MAX));
            encode_properties(properties, out);
        }
        Value::StrictArray(values) => {
            out.put_u8(STRICT_ARRAY);
            out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
            for value in values {
                encode(value, out);
            }
        }
        Value::Date(milliseconds) => {
            out.put_u8(DATE);
            out.put_f64(*milliseconds);
            out.put_i16(0);
        }
        Value::Null => out.put_u8(NULL),
        Value::Undefined => out.put_u8(UNDEFINED),
    }
}

fn encode_properties(properties: &[(String, Value)], out: &mut BytesMut) {
    for (name, value) in properties {
        let mut end = name.len().min(usize::from(u16::MAX));
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        out.put_u16(u16::try_from(end).unwrap_or(u16::MAX));
        out.put_slice(&name.as_bytes()[..end]);
        encode(value, out);
    }
    out.put_slice(&[0, 0, OBJECT_END]);
}

/// All values of a body, in order.
pub fn decode_all(body: &[u8]) -> Result<Vec<Value>, AmfError> {
    Decoder::new(body).rest()
}

/// The bytes of some values, in order.
pub fn encode_all(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::new();
    for value in values {
        encode(value, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_command_body() {
        let values = [
            Value::from("connect"),
            Value::from(1.0),
            Value::Object(vec![("app".into(), "live".into())]),
            Value::Null,
        ];
        let golden = [
            &b"\x02\x00\x07connect"[..],
            b"\x00\x3f\xf0\x00\x00\x00\x00\x00\x00",
            b"\x03\x00\x03app\x02\x00\x04live\x00\x00\x09",
            b"\x05",
        ]
        .concat();
        assert_eq!(encode_all(&values), golden);
        assert_eq!(decode_all(&golden).unwrap(), values);
    }

    #[test]
    fn every_marker_decodes() {
        let table: &[(&[u8], Value)] = &[
            (b"\x01\x01", Value::Boolean(true)),
            (b"\x06", Value::Undefined),
            (b"\x0d", Value::Undefined),
            (b"\x0c\x00\x00\x00\x02ab", "ab".into()),
            (b"\x0f\x00\x00\x00\x02<>", "<>".into()),
            (
                b"\x0b\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00",
                Value::Date(2.0),
            ),
            (
                b"\x0a\x00\x00\x00\x01\x05",
                Value::StrictArray(vec![Value::Null]),
            ),
            (
                b"\x10\x00\x01C\x00\x01k\x05\x00\x00\x09",
                Value::Object(vec![("k".into(), Value::Null)]),
            ),
            // A wrong count, and no end marker at the end of the message.
            (
                b"\x08\x00\x00\x00\x63\x00\x01k\x05",
                Value::EcmaArray(vec![("k".into(), Value::Null)]),
            ),
            (b"\x02\x00\x01\xff", "\u{fffd}".into()),
            // An empty name is a name unless the end marker follows it.
            (
                b"\x03\x00\x00\x05\x00\x00\x09",
                Value::Object(vec![(String::new(), Value::Null)]),
            ),
        ];
        for (bytes, value) in table {
            assert_eq!(
                decode_all(bytes).as_ref(),
                Ok(&vec![value.clone()]),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn hostile_bodies_are_errors() {
        let nested = |levels: usize| -> Vec<u8> {
            [3, 0, 1, b'k']
                .repeat(levels)
                .into_iter()
                .chain([5])
                .collect()
        };
        let deep = decode_all(&nested(MAX_DEPTH + 1));
        assert_eq!(deep, Err(AmfError::TooDeep(4 * MAX_DEPTH)));
        assert!(matches!(
            decode_all(&nested(100_000)),
            Err(AmfError::TooDeep(_))
        ));
        let table: &[(&[u8], AmfError)] = &[
            (b"\x0a\xff\xff\xff\xff", AmfError::TooMany(1)),
            (b"\x0a\x00\x00\x04\x00", AmfError::TooMany(1)),
            (b"\x0c\xff\xff\xff\xffab", AmfError::Truncated(5)),
            (b"\x02\x00\x05ab", AmfError::Truncated(3)),
            (b"\x00\x00", AmfError::Truncated(1)),
            (b"\x03\x00\x01k", AmfError::Truncated(4)),
            (
                b"\x11\x05",
                AmfError::Marker {
                    marker: 0x11,
                    at: 0,
                },
            ),
            (
                b"\x07\x00\x00",
                AmfError::Marker {
                    marker: 0x07,
                    at: 0,
                },
            ),
        ];
        for (bytes, error) in table {
            assert_eq!(decode_all(bytes).as_ref(), Err(error), "{bytes:x?}");
        }
        assert_eq!(
            decode_all(&[NULL; 1024]).map(|values| values.len()),
            Ok(1024)
        );
        assert_eq!(decode_all(&[NULL; 1025]), Err(AmfError::TooMany(1024)));
    }

    #[test]
    fn depth_at_the_limit_decodes() {
        let mut value = Value::Null;
        for _ in 0..MAX_DEPTH {
            value = Value::StrictArray(vec![value]);
        }
        let bytes = encode_all(std::slice::from_ref(&value));
        assert_eq!(decode_all(&bytes), Ok(vec![value]));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<f64>()
                .prop_filter("NaN is unequal to itself", |n| !n.is_nan())
                .prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,20}".prop_map(Value::String),
            Just(Value::String("x".repeat(70_000))),
            Just(Value::Null),
            Just(Value::Undefined),
            (-1e15..1e15).prop_map(Value::Date),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let properties = prop::collection::vec((".{1,9}", inner.clone()), 0..6);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.prop_map(Value::EcmaArray),
                prop::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn encode_then_decode_is_identity(values in prop::collection::vec(any_value(), 0..5)) {
            prop_assert_eq!(decode_all(&encode_all(&values)), Ok(values));
        }

        #[test]
        fn any_bytes_decode_or_fail(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode_all(&body);
        }
    }
}
