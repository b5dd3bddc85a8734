//! The way to one ingest: a TCP connection, then RTMP's handshake up to S2.
//!
//! In: a URL of RTMP with a place for the key. Out: medians over the tries. The
//! connection is closed behind S2: nothing is published.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};

use crate::publish::target::Target;

/// RTMP 5.2: C0 and S0 are a version, C1, S1 and S2 of this size.
const PACKET_BYTES: usize = 1_536;
const VERSION: u8 = 3;

/// Medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    pub connect_ms: f64,
    pub handshake_ms: f64,
    pub total_ms: f64,
}

/// # Errors
/// One line, if the URL is none or a try fails: who answers now and then is no place
/// to stream to.
pub async fn measure(template: &str, tries: u32, limit: Duration) -> Result<Taken> {
    let target = Target::parse(&template.replace("{stream_key}", "key"))?;
    let resolving = lookup_host((target.host.as_str(), target.port));
    let mut addresses = match timeout(limit, resolving).await {
        Ok(addresses) => addresses.with_context(|| format!("{} has no address", target.host))?,
        Err(_) => bail!("no address of {} in time", target.host),
    };
    let address = addresses
        .next()
        .with_context(|| format!("{} has no address", target.host))?;
    let (mut connects, mut handshakes, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..tries {
        let (connect, handshake) = match timeout(limit, once(address)).await {
            Ok(took) => took?,
            Err(_) => bail!("no answer in {} ms", limit.as_millis()),
        };
        connects.push(connect);
        handshakes.push(handshake);
        totals.push(connect + handshake);
    }
    Ok(Taken {
        connect_ms: median_ms(&mut connects),
        handshake_ms: median_ms(&mut handshakes),
        total_ms: median_ms(&mut totals),
    })
}

/// How long the connection and the handshake took.
async fn once(address: SocketAddr) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address).await.context("can't connect")?;
    let connected = Instant::now();
    socket.set_nodelay(true)?;
    // Zeros for time and version, which ask for the plain handshake.
    let mut hello = [0; 1 + PACKET_BYTES];
    hello[0] = VERSION;
    let exchange = async {
        socket.write_all(&hello).await?;
        let mut answer = [0; 1 + 2 * PACKET_BYTES];
        socket.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer[0])
    };
    let version = exchange.await.context("no RTMP handshake")?;
    if version != VERSION {
        bail!("no RTMP handshake: version {version}");
    }
    Ok((connected - began, connected.elapsed()))
}

/// To a hundredth.
fn median_ms(all: &mut [Duration]) -> f64 {
    all.sort();
    let middle = all.len() / 2;
    let at = |index: usize| all.get(index).copied().unwrap_or_default();
    let median = if all.len() % 2 == 1 {
        at(middle)
    } else {
        (at(middle.saturating_sub(1)) + at(middle)) / 2
    };
    (median.as_secs_f64() * 1e5).round() / 100.0
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each C0 and C1 with so many bytes of a version.
    async fn server(version: u8, bytes: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut hello = [9; 1 + PACKET_BYTES];
                socket.read_exact(&mut hello).await.unwrap();
                assert_eq!(hello[..9], [3, 0, 0, 0, 0, 0, 0, 0, 0]);
                let _ = socket.write_all(&vec![version; bytes]).await;
            }
        });
        format!("rtmp://127.0.0.1:{port}/live/{{stream_key}}")
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_handshake_is_timed() {
        let url = server(VERSION, 1 + 2 * PACKET_BYTES).await;
        let taken = measure(&url, 3, LIMIT).await.unwrap();
        assert!(taken.total_ms >= taken.connect_ms.max(taken.handshake_ms) * 0.99);
    }

    #[tokio::test]
    async fn what_speaks_no_rtmp_is_an_error() {
        for (version, bytes) in [(VERSION, 1_536), (b'H', 1 + 2 * PACKET_BYTES)] {
            let url = server(version, bytes).await;
            let line = format!("{:#}", measure(&url, 1, LIMIT).await.unwrap_err());
            assert!(line.contains("no RTMP handshake"), "{line}");
        }
        let line = measure("http://127.0.0.1/x", 1, LIMIT).await;
        assert!(format!("{:#}", line.unwrap_err()).contains("isn't an rtmp:// URL"));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let ms = |all: &[u64]| {
            let mut all: Vec<_> = all.iter().map(|ms| Duration::from_millis(*ms)).collect();
            median_ms(&mut all)
        };
        assert_eq!(ms(&[9, 1, 5]), 5.0);
        assert_eq!(ms(&[1, 9, 5, 6]), 5.5);
        assert_eq!(ms(&[]), 0.0);
    }
}
