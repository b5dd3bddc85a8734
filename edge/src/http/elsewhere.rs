//! Where viewers may turn when this edge goes: other edges' addresses, told to
//! the page while all is well and with 503 while this edge drains.
//!
//! A redirect would be simpler and is none of a playlist's answers (H15); a 503
//! with Retry-After is what players try again after, by then at whatever their
//! DNS or their page names.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

/// Viewers that are told to go at a time; more just find nobody.
const TOLD_AT_ONCE: usize = 256;

/// To read the answer and go.
const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes of a request that are read, so that its sender is not reset before it
/// has read the answer.
const REQUEST_BYTES: u64 = 16_384;

#[derive(Serialize)]
struct Alternatives<'a> {
    alternatives: &'a [String],
}

/// `/api/v1/alternatives`: `{"alternatives":["https://..."]}`
pub(super) fn json(alternatives: &[String]) -> Bytes {
    // Strings always have a JSON form.
    serde_json::to_vec(&Alternatives { alternatives })
        .unwrap_or_default()
        .into()
}

/// Another edge's address as `--alternative` takes it.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    match rest {
        Some(host) if !host.is_empty() && host.len() <= 256 && host.chars().all(plain) => {
            Ok(text.to_owned())
        }
        _ => Err("write a URL without a path, for example https://edge-2.example.net".to_owned()),
    }
}

/// Answers whoever still comes, until the process ends.
pub(super) async fn send_there(listener: TcpListener, alternatives: &[String]) {
    let body = json(alternatives);
    let mut answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
         Access-Control-Allow-Origin: *\r\nCache-Control: no-store\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    let answer = Bytes::from(answer);
    let places = Arc::new(Semaphore::new(TOLD_AT_ONCE));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let _place = place;
            // Who does not listen has had its chance.
            let _ = timeout(GOODBYE, tell(stream, &answer)).await;
        });
    }
}

async fn tell(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(REQUEST_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alternative_is_a_url_without_a_path() {
        for good in [
            "https://edge-2.example.net",
            "http://127.0.0.1:8080",
            "http://[::1]:80",
        ] {
            assert_eq!(base_url(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "edge-2",
            "https://",
            "https://a/b",
            "https://a\r\nX: y",
            "ftp://a",
        ] {
            assert!(base_url(bad).unwrap_err().contains("for example"), "{bad}");
        }
    }

    #[test]
    fn the_list_is_json() {
        assert_eq!(json(&[]), r#"{"alternatives":[]}"#);
        let two = ["http://a".to_owned(), "http://b".to_owned()];
        assert_eq!(json(&two), r#"{"alternatives":["http://a","http://b"]}"#);
    }
}
