//! What `connect` negotiates beyond 2012: the codecs behind FourCCs.
//!
//! Comes in: the command object of `connect`; goes out: the peer's
//! [`Capabilities`] and the properties of our answer. A peer that asks for
//! nothing is answered nothing, so that old senders see the old bytes.
//! Spec: Enhanced RTMP v2, "Enhancing NetConnection connect Command".

use super::amf0::{Properties, Value};
use super::message::clip;

/// A FourCC is four bytes, or `*` for every codec.
const MAX_FOURCC_BYTES: usize = 4;
/// Codecs of each kind that are kept of a peer's list.
const MAX_FOURCCS: usize = 64;
/// FourCcInfoMask: the peer may forward this codec. It is what we do.
pub const CAN_FORWARD: u32 = 4;

/// The FourCCs a peer sends in the extended framing, and what it can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `fourCcList` of version 1: codecs, of both kinds, without a mask.
    pub fourcc_list: Vec<String>,
    /// `videoFourCcInfoMap`: FourCC and FourCcInfoMask.
    pub video: Vec<(String, u32)>,
    /// `audioFourCcInfoMap`.
    pub audio: Vec<(String, u32)>,
    /// `capsEx`: reconnect 1, multitrack 2, ModEx 4, nanosecond offsets 8.
    pub caps_ex: u32,
}

impl Capabilities {
    /// Reads the command object; unknown shapes count as absent.
    pub fn parse(command_object: &Value) -> Self {
        let list = match command_object.get("fourCcList") {
            Some(Value::StrictArray(values)) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        Self {
            fourcc_list: list.into_iter().take(MAX_FOURCCS).map(fourcc).collect(),
            video: info_map(command_object.get("videoFourCcInfoMap")),
            audio: info_map(command_object.get("audioFourCcInfoMap")),
            caps_ex: mask(command_object.get("capsEx")),
        }
    }

    /// True for a peer that said nothing of this.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The properties that tell these to a peer.
    pub fn properties(&self) -> Properties {
        let list = self
            .fourcc_list
            .iter()
            .map(|name| Value::from(name.as_str()));
        let map = |codecs: &[(String, u32)]| {
            let entry = |(name, mask): &(String, u32)| (name.clone(), f64::from(*mask).into());
            Value::Object(codecs.iter().map(entry).collect())
        };
        vec![
            ("fourCcList".to_owned(), Value::StrictArray(list.collect())),
            ("videoFourCcInfoMap".to_owned(), map(&self.video)),
            ("audioFourCcInfoMap".to_owned(), map(&self.audio)),
            ("capsEx".to_owned(), f64::from(self.caps_ex).into()),
        ]
    }

    /// What a server forwards, given as FourCCs of each kind.
    pub fn forwarding(video: &[&str], audio: &[&str]) -> Self {
        let masked = |name: &&str| (fourcc(name), CAN_FORWARD);
        Self {
            fourcc_list: video.iter().chain(audio).map(|name| fourcc(name)).collect(),
            video: video.iter().map(masked).collect(),
            audio: audio.iter().map(masked).collect(),
            caps_ex: 0,
        }
    }
}

fn fourcc(name: &str) -> String {
    clip(name, MAX_FOURCC_BYTES).to_owned()
}

fn info_map(value: Option<&Value>) -> Vec<(String, u32)> {
    let properties = value.and_then(Value::as_properties).unwrap_or_default();
    let entries = properties.iter().take(MAX_FOURCCS);
    entries
        .map(|(name, value)| (fourcc(name), mask(Some(value))))
        .collect()
}

/// A bit mask travels as a double; what does not fit saturates.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn mask(value: Option<&Value>) -> u32 {
    value.and_then(Value::as_number).unwrap_or(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_round_trip() {
        let ours = Capabilities::forwarding(&["avc1", "hvc1"], &["mp4a"]);
        assert_eq!(ours.fourcc_list, ["avc1", "hvc1", "mp4a"]);
        assert_eq!(Capabilities::parse(&Value::Object(ours.properties())), ours);
    }

    #[test]
    fn odd_shapes_count_as_absent() {
        let odd = Value::Object(vec![
            ("fourCcList".into(), Value::from("av01")),
            ("videoFourCcInfoMap".into(), Value::Null),
            ("capsEx".into(), Value::from(-1.0)),
        ]);
        assert!(Capabilities::parse(&odd).is_empty());
        assert!(Capabilities::parse(&Value::Null).is_empty());
        let many = Value::StrictArray(vec![Value::from("abcdefgh"); 1000]);
        let many = Capabilities::parse(&Value::Object(vec![("fourCcList".into(), many)]));
        assert_eq!(many.fourcc_list, vec!["abcd"; MAX_FOURCCS]);
    }
}
