//! Any body decodes or fails; what decodes survives being encoded again.
#![no_main]

use common::rtmp::amf0;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(values) = amf0::decode_all(body) else {
        return;
    };
    assert!(values.len() <= amf0::MAX_VALUES);
    let encoded = amf0::encode_all(&values);
    let again = amf0::decode_all(&encoded).expect("our own bytes decode");
    // Bytes, not values: NaN is unequal to itself.
    assert_eq!(amf0::encode_all(&again), encoded);
});
