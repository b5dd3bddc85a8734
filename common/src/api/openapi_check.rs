//! Test support, compiled into the tests of origin and edge: holds what a node answers
//! against the document, so that neither drifts from the other. Of JSON Schema it knows
//! what the document uses, and nothing else: another keyword fails the test.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The document.
pub(crate) struct Document(Value);

/// What a path and a method do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    pub(crate) id: String,
    /// In capitals.
    pub(crate) method: String,
    /// With `{parameters}`.
    pub(crate) path: String,
}

/// Keywords that say nothing about what is allowed here, or bound what nodes take.
const PASSED_OVER: &[&str] = &["description", "default", "maxItems", "minLength"];

impl Document {
    pub(crate) fn load() -> Self {
        Self(serde_json::from_str(common::api::OPENAPI).unwrap())
    }

    /// What a port of that kind serves: `edge`, `edge-ops` or `origin-ops`.
    pub(crate) fn served_by(&self, port: &str) -> BTreeSet<Operation> {
        let mut operations = BTreeSet::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let ports = operation["x-served-by"].as_array().unwrap();
                if ports.iter().any(|of| of == port) {
                    operations.insert(Operation {
                        id: operation["operationId"].as_str().unwrap().to_owned(),
                        method: method.to_uppercase(),
                        path: path.clone(),
                    });
                }
            }
        }
        operations
    }

    /// Fails unless the operation may answer so.
    pub(crate) fn check(&self, operation: &Operation, status: u16, body: &[u8]) {
        let Operation { method, path, .. } = operation;
        let responses = &self.0["paths"][path][method.to_lowercase()]["responses"];
        let response = self.resolved(&responses[status.to_string()]);
        let shown = String::from_utf8_lossy(body);
        assert!(
            response.is_object(),
            "{method} {path}: {status} is not documented: {shown}"
        );
        let content = &response["content"];
        if content["application/json"].is_null() {
            return;
        }
        let body: Value = serde_json::from_slice(body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {shown}"));
        let schema = &content["application/json"]["schema"];
        self.hold(&body, schema, &format!("{method} {path} {status}"));
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(at) => self.0.pointer(at.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    fn hold(&self, value: &Value, schema: &Value, at: &str) {
        let schema = self.resolved(schema).as_object().unwrap();
        for (keyword, rule) in schema {
            match keyword.as_str() {
                "type" => {
                    let types = rule.as_array().cloned().unwrap_or(vec![rule.clone()]);
                    let fits = types.iter().any(|of| is(value, of.as_str().unwrap()));
                    assert!(fits, "{at}: {value} is not {rule}");
                }
                "enum" => {
                    let fits = rule.as_array().unwrap().contains(value);
                    assert!(fits, "{at}: {value} is none of {rule}");
                }
                "maxLength" => {
                    let len = value.as_str().unwrap().chars().count() as u64;
                    assert!(len <= rule.as_u64().unwrap(), "{at}: {value} is too long");
                }
                "pattern" => hold_pattern(value.as_str().unwrap(), rule.as_str().unwrap(), at),
                "items" => {
                    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.hold(item, rule, &format!("{at}[{n}]"));
                    }
                }
                "required" | "properties" | "additionalProperties" => {}
                other => assert!(PASSED_OVER.contains(&other), "{at}: what is {other}?"),
            }
        }
        if let Some(object) = value.as_object() {
            self.hold_object(object, schema, at);
        }
    }

    fn hold_object(&self, object: &Map<String, Value>, schema: &Map<String, Value>, at: &str) {
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = name.as_str().unwrap();
            assert!(object.contains_key(name), "{at}: there is no {name}");
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match (
                properties.and_then(|of| of.get(name)),
                schema.get("additionalProperties"),
            ) {
                (Some(rule), _) => self.hold(value, rule, &at),
                (None, Some(Value::Bool(false))) => panic!("{at} is not documented"),
                (None, Some(rule @ Value::Object(_))) => self.hold(value, rule, &at),
                (None, _) => {}
            }
        }
    }
}

fn is(value: &Value, of: &str) -> bool {
    match of {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("what is {other}?"),
    }
}

/// Of regular expressions the document needs two.
fn hold_pattern(text: &str, pattern: &str, at: &str) {
    let fits = match pattern {
        "^[a-z0-9_]{1,32}$" => common::names::ChannelName::parse(text).is_ok(),
        "^[0-9a-f]{16}$" => {
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }
        other => panic!("what is {other}?"),
    };
    assert!(fits, "{at}: {text} does not fit {pattern}");
}

/// The parameters of a path filled in, one after another.
pub(crate) fn filled(path: &str, values: &[(&str, &str)]) -> String {
    let mut filled = path.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    assert!(!filled.contains('{'), "{filled}");
    filled
}
