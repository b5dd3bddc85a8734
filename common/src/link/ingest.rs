//! INGEST and INGEST_GONE: bodies to values and back. What the texts say is not
//! held against anything here, since a link is not to break over a word of a later
//! version: who shows them asks [`Ingest::is_sound`].

use bytes::{Bytes, BytesMut};

use super::{
    decode::hops,
    encode::put_nodes,
    frame::kind,
    wire::{Fields, WireError, put_int, put_option, put_str},
};
use crate::ingest::{Ingest, IngestState, MAX_CITY_BYTES, MAX_REGION_BYTES, MAX_URL_BYTES, Place};

pub(super) fn put(out: &mut BytesMut, ingest: &Ingest) -> u64 {
    put_nodes(out, &ingest.hops);
    put_str(out, &ingest.region);
    put_str(out, &ingest.city);
    let place = ingest.place.map(Place::to_wire);
    put_option(out, place.map(|(latitude, _)| latitude));
    put_int(out, place.map_or(0, |(_, longitude)| longitude));
    put_str(out, &ingest.rtmp);
    put_str(out, ingest.rtmps.as_deref().unwrap_or_default());
    put_int(out, ingest.publishers.into());
    put_int(out, ingest.capacity.into());
    let state = match ingest.state {
        IngestState::Available => 0,
        IngestState::Full => 1,
        IngestState::Draining => 2,
        IngestState::Unavailable => 3,
    };
    put_int(out, state);
    kind::INGEST
}

pub(super) fn read(body: Bytes) -> Result<Ingest, WireError> {
    let mut fields = Fields::new("INGEST", body);
    let hops = hops(&mut fields)?;
    if hops.is_empty() {
        return Err(fields.invalid("hops"));
    }
    let region = fields.text("region", MAX_REGION_BYTES)?;
    let city = fields.text("city", MAX_CITY_BYTES)?;
    let latitude = fields.option("latitude")?;
    let longitude = fields.int("longitude")?;
    let place = latitude.map(|latitude| {
        Place::from_wire(latitude, longitude).ok_or_else(|| fields.invalid("place"))
    });
    let place = place.transpose()?;
    let rtmp = fields.text("rtmp", MAX_URL_BYTES)?;
    let rtmps = fields.text("rtmps", MAX_URL_BYTES)?;
    Ok(Ingest {
        hops,
        region,
        city,
        place,
        rtmp,
        rtmps: (!rtmps.is_empty()).then_some(rtmps),
        publishers: fields.int32("publishers")?,
        capacity: fields.int32("capacity")?,
        state: match fields.int("state")? {
            0 => IngestState::Available,
            1 => IngestState::Full,
            2 => IngestState::Draining,
            // Whatever a later version means: send nobody there.
            _ => IngestState::Unavailable,
        },
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::{
        link::{Decoder, Frame, Message, decode::MAX_HOPS},
        names::NodeId,
    };

    fn decoded(mut bytes: Bytes) -> Result<Message, WireError> {
        let frame = Decoder::default().next(&mut bytes)?;
        Message::decode(frame.ok_or(WireError::Cut)?)
    }

    prop_compose! {
        fn ingest()(
            hops in vec("[a-z0-9-]{1,63}", 1..=MAX_HOPS), region in "[a-z0-9-]{1,32}", city in "\\PC{0,16}",
            place in option::of((-90.0f64..=90.0, -180.0f64..=180.0)),
            rtmp in "[ -~]{0,60}", rtmps in option::of("[ -~]{1,60}"),
            counts in any::<(u32, u32)>(), state in 0usize..4,
        ) -> Ingest {
            use IngestState::{Available, Draining, Full, Unavailable};
            Ingest {
                hops: hops.iter().map(|name| NodeId::parse(name).unwrap()).collect(),
                region,
                city,
                place: place.and_then(|(latitude, longitude)| Place::new(latitude, longitude)),
                rtmp,
                rtmps,
                publishers: counts.0,
                capacity: counts.1,
                state: [Available, Full, Draining, Unavailable][state],
            }
        }
    }

    /// Either message, for the properties of all.
    pub(in crate::link) fn told() -> impl Strategy<Value = Message> {
        prop_oneof![
            ingest().prop_map(Message::Ingest),
            "[a-z0-9-]{1,63}".prop_map(|name| Message::IngestGone {
                node: NodeId::parse(&name).unwrap(),
            }),
        ]
    }

    /// The protocol's bytes, which no change of this code may move.
    #[test]
    fn golden_bytes() {
        let cases = [
            (
                Message::Ingest(Ingest {
                    hops: vec![NodeId::parse("o-1").unwrap(), NodeId::parse("m").unwrap()],
                    region: "eu".to_owned(),
                    city: "Ulm".to_owned(),
                    place: Place::new(48.4, 9.99),
                    rtmp: "rtmp://u/live".to_owned(),
                    rtmps: None,
                    publishers: 3,
                    capacity: 100,
                    state: IngestState::Full,
                }),
                "0729 02 036f2d31 016d 026575 03556c6d 80151e41 801cfd7c 0d 72746d703a2f2f752f6c697665 00 03 4064 01",
            ),
            (
                Message::IngestGone {
                    node: NodeId::parse("o-1").unwrap(),
                },
                "0804 036f2d31",
            ),
        ];
        for (message, golden) in cases {
            let bytes = message.encode();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, golden.replace(' ', ""), "{message:?}");
            assert_eq!(decoded(bytes), Ok(message));
        }
    }

    /// An ingest of nowhere, one off the map, and a state that this version lacks.
    #[test]
    fn an_ingest_is_told_within_its_bounds() {
        let told = |place: &[u8], state: u8| {
            let rest = b"\x05rtmp:\x00\x03\x04";
            let body = [&b"\x01\x01o\x02eu\x00"[..], place, rest, &[state, 9]].concat();
            decoded(Frame::encode(kind::INGEST, &body)).map(|told| match told {
                Message::Ingest(it) => (it.place, it.state),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(told(&[0, 0], 0), Ok((None, IngestState::Available)));
        assert_eq!(told(&[0, 7], 7), Ok((None, IngestState::Unavailable)));
        let south_west = Place::new(-90.0, -180.0);
        assert_eq!(told(&[1, 0], 2), Ok((south_west, IngestState::Draining)));
        // 1,800,001 ten-thousandths and one are north of the pole.
        let beyond = [&(0x8000_0000_u32 | 1_800_002).to_be_bytes()[..], &[0]].concat();
        assert!(matches!(told(&beyond, 0), Err(WireError::Invalid { .. })));
        let nobody = Frame::encode(kind::INGEST, b"\x00\x02eu\x00\x00\x00\x00\x00\x00\x00\x00");
        assert!(matches!(decoded(nobody), Err(WireError::Invalid { .. })));
        let long = [&b"\x01\x01o\x21"[..], &[b'e'; 40]].concat();
        let error = decoded(Frame::encode(kind::INGEST, &long)).unwrap_err();
        assert!(matches!(error, WireError::TooMuch { .. }), "{error}");
    }
}
