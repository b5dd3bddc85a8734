//! A look at a node from beside it, for health checks where no other program is:
//! an image that holds the binaries alone. Blocking; run by `health`.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// Below what a health check waits.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the ops port at `listen` whether its node is ready: its words, or as an
/// error why it is not.
///
/// # Errors
/// Nobody answers there, or the node is not ready.
pub fn health(listen: SocketAddr) -> io::Result<String> {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    let (head, words) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if head.starts_with("HTTP/1.1 200 ") {
        Ok(words.to_owned())
    } else {
        Err(io::Error::other(words.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{OpsServer, Readiness, metrics};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_is_asked_wherever_it_listens() {
        let readiness = Readiness::new();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let registry = metrics::registry("edge");
        let server = OpsServer::bind(everywhere, registry, readiness.clone());
        let server = server.await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(server.run());
        let look = move || tokio::task::spawn_blocking(move || health(address));
        assert_eq!(look().await.unwrap().unwrap(), "ready\n");
        readiness.set_draining();
        let why = look().await.unwrap().unwrap_err().to_string();
        assert!(why.contains("draining"), "{why}");
    }
}
