//! The IRC parser and writer behind JSON, for suites of other parsers: reads
//! `{"split": [LINE...], "join": [ATOMS...]}` and prints
//! `{"split": [ATOMS or null...], "join": [LINE...]}`, where atoms are `tags`,
//! `source`, `verb` and `params`, as the suites call them.

use std::{collections::BTreeMap, io};

use anyhow::Result;
use common::chat::irc::{Line, LineWriter, unescape};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Cases {
    split: Vec<String>,
    join: Vec<Atoms>,
}

#[derive(Serialize)]
struct Answers {
    split: Vec<Option<Atoms>>,
    join: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Atoms {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    verb: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    params: Vec<String>,
}

fn main() -> Result<()> {
    let cases: Cases = serde_json::from_reader(io::stdin())?;
    let answers = Answers {
        split: cases.split.iter().map(|line| split(line)).collect(),
        join: cases.join.iter().map(join).collect(),
    };
    serde_json::to_writer(io::stdout(), &answers)?;
    Ok(())
}

fn split(line: &str) -> Option<Atoms> {
    let parsed = Line::parse(line).ok()?;
    let tags = parsed.tags.iter();
    Some(Atoms {
        // Of a tag that comes twice the last stays.
        tags: tags
            .map(|(key, value)| (key.to_owned(), unescape(value).into_owned()))
            .collect(),
        source: parsed.prefix.map(str::to_owned),
        verb: parsed.command.to_owned(),
        params: parsed
            .params
            .as_slice()
            .iter()
            .map(|param| (*param).to_owned())
            .collect(),
    })
}

fn join(atoms: &Atoms) -> String {
    let mut out = String::new();
    let mut line = LineWriter::new(&mut out);
    for (key, value) in &atoms.tags {
        if value.is_empty() {
            line.flag(key);
        } else {
            line.tag(key, value);
        }
    }
    let mut line = match &atoms.source {
        Some(source) => line.command(source, &atoms.verb),
        None => line.bare_command(&atoms.verb),
    };
    if let Some((last, middle)) = atoms.params.split_last() {
        for param in middle {
            line = line.param(param);
        }
        line.trailing(last);
    }
    out
}
