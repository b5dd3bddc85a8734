//! The limit that `benches/edge-cost` holds the edge to: one recorded answer,
//! sent to every request with as little as a tokio task can do for it. No
//! routing, no HTTP parser, no limits. For benchmarks on loopback only.
//!
//! `GET /count` answers with the requests and connections so far.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use clap::Parser;
use common::tls::{WebCertificate, web_server_config};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Sends one recorded answer to every request: what a server costs at least.
#[derive(Debug, Parser)]
struct Cli {
    /// Loopback address for plain HTTP/1.1
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Loopback address for the same over TLS
    #[arg(long, value_name = "ADDRESS", requires = "cert", requires = "key")]
    tls_listen: Option<SocketAddr>,
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The answer's head, up to and with its empty line
    #[arg(long, value_name = "FILE")]
    head: PathBuf,
    /// The answer's body
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
}

#[derive(Debug)]
struct Server {
    head: Bytes,
    body: Bytes,
    requests: AtomicU64,
    connections: AtomicU64,
}

/// A benchmark's request is smaller.
const MAX_REQUEST_BYTES: usize = 4_096;

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let read = |path: &PathBuf| {
        std::fs::read(path).with_context(|| format!("can't read {}", path.display()))
    };
    let server = Arc::new(Server {
        head: read(&cli.head)?.into(),
        body: read(&cli.body)?.into(),
        requests: AtomicU64::new(0),
        connections: AtomicU64::new(0),
    });
    if let (Some(address), Some(cert), Some(key)) = (cli.tls_listen, &cli.cert, &cli.key) {
        let config = web_server_config(WebCertificate::load(cert, key)?)?;
        let listener = bind(address).await?;
        tokio::spawn(accept(listener, Some(config.into()), server.clone()));
    }
    accept(bind(cli.listen).await?, None, server).await
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    anyhow::ensure!(address.ip().is_loopback(), "{address} is not loopback");
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("can't listen on {address}"))
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (server, tls) = (server.clone(), tls.clone());
        tokio::spawn(async move {
            server.connections.fetch_add(1, Relaxed);
            // A generator that goes away is no error.
            let _ = match tls {
                None => serve(stream, &server).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(stream, &server).await,
                    Err(error) => Err(error),
                },
            };
            server.connections.fetch_sub(1, Relaxed);
        });
    }
}

async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, server: &Server) -> io::Result<()> {
    let mut request = BytesMut::with_capacity(MAX_REQUEST_BYTES);
    while request.len() < MAX_REQUEST_BYTES && io.read_buf(&mut request).await? > 0 {
        while let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            if request.starts_with(b"GET /count ") {
                let counts = format!(
                    "{} {}\n",
                    server.requests.load(Relaxed),
                    server.connections.load(Relaxed)
                );
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    counts.len()
                );
                write(&mut io, head.as_bytes(), counts.as_bytes()).await?;
            } else {
                server.requests.fetch_add(1, Relaxed);
                write(&mut io, &server.head, &server.body).await?;
            }
            request.advance(end + 4);
        }
        request.reserve(MAX_REQUEST_BYTES);
    }
    Ok(())
}

async fn write(io: &mut (impl AsyncWrite + Unpin), head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let written = io.write_vectored(left).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    io.flush().await
}
