//! HTTP/2 clients: hyper's, and frames by hand.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::rig::Rig;
use crate::fixture::V;

#[derive(Clone)]
pub(super) struct H2(pub(super) SendRequest<Empty<Bytes>>);

/// What a stream's answer may send before this client reads any of it: the
/// protocol's first window (RFC 9113, 6.9.2). hyper's own would let a megabyte leave
/// unread.
const WINDOW: u32 = 65_535;

impl H2 {
    pub(super) async fn over<I>(io: I) -> Self
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .handshake(TokioIo::new(io))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    pub(super) async fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
    ) -> hyper::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://edge{path}"))
            .body(Empty::new())
            .unwrap();
        self.0.ready().await?;
        self.0.send_request(request).await
    }

    pub(super) async fn get(&mut self, path: &str) -> (u16, Bytes) {
        let response = self.ask("GET", path).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, body)
    }
}

pub(super) async fn with_segment(flags: &[&str], bytes: usize) -> Rig {
    let mut rig = Rig::start(flags, 4).await;
    rig.studio.open(V, 100);
    rig.studio.chunk(V, Bytes::from(vec![7; bytes]));
    // Four parts are PART-HOLD-BACK: a playlist is offered.
    (0..4).for_each(|part| rig.studio.part(V, 100, part));
    rig.studio.announce(&rig.directory);
    rig
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// GET / over http with literal fields that touch no table.
pub(super) fn request_block() -> Vec<u8> {
    // :method GET, :scheme http, :path / are in the static table.
    let authority = b"edge";
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 4];
    block.extend(authority);
    block
}

pub(super) async fn raw_h2(rig: &Rig) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream
}
