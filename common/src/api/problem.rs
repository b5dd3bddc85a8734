//! What goes wrong with a request, in the one form that the API has for it, and the
//! reading of what requests bring along.

use hyper::StatusCode;
use serde::{Serialize, de::DeserializeOwned};

/// Why a request can't be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

#[must_use]
pub fn problem(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
    Problem {
        status,
        code,
        message: message.into(),
    }
}

#[derive(Serialize)]
struct Told<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
}

impl Problem {
    /// 400.
    #[must_use]
    pub fn bad(message: impl Into<String>) -> Self {
        problem(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 404, of a path.
    #[must_use]
    pub fn nothing() -> Self {
        let text = "there is nothing at this path";
        problem(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// 404, of a channel.
    #[must_use]
    pub fn no_channel() -> Self {
        let text = "this node knows no such channel";
        problem(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// 405.
    #[must_use]
    pub fn method(there_is: &str) -> Self {
        let text = format!("there is {there_is}");
        problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
    }

    /// `{"error": {"code", "message"}}` and a line's end.
    #[must_use]
    pub fn json(&self) -> String {
        let error = Error {
            code: self.code,
            message: &self.message,
        };
        // Strings always have a JSON form.
        serde_json::to_string(&Told { error }).unwrap_or_default() + "\n"
    }
}

/// A body. With `deny_unknown_fields` a field that nobody knows is named.
///
/// # Errors
/// 400 for what is not its JSON.
pub fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad(format!(
            "the body is not the JSON that it should be: {error}"
        ))
    })
}

/// A segment of a path without its percent signs.
#[must_use]
pub fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_one_form() {
        let told = Problem::bad("say \"please\"").json();
        let expected = r#"{"error":{"code":"bad_request","message":"say \"please\""}}"#;
        assert_eq!(told, format!("{expected}\n"));
    }

    #[test]
    fn segments_are_decoded_or_are_none() {
        assert_eq!(decoded("a%20b%2F").as_deref(), Some("a b/"));
        for bad in ["%", "%f", "%ff", "%zz"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
