//! An echo server round the chat edge's WebSocket core, for conformance suites:
//! they ask for echoes, which a chat does not give. Of the edge it has the frames
//! and the handshake's digest; sockets and HTTP are the least that works.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use edge::chat::ws::{self, Decoder, Received, opcode};

/// What a client that was told to go gets to do so.
const GOODBYE: Duration = Duration::from_secs(1);

/// Echoes WebSocket messages by the chat edge's frame decoder.
#[derive(Debug, Parser)]
struct Cli {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9001", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The longest message; a chat's is 8 KiB, suites send more
    #[arg(long, default_value_t = 1024 * 1024, value_name = "BYTES")]
    max_message: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let listener =
        TcpListener::bind(cli.listen).with_context(|| format!("--listen {}", cli.listen))?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            // A client that leaves is a client that left.
            let _ = serve(&stream, cli.max_message);
        });
    }
    Ok(())
}

fn serve(mut stream: &TcpStream, max_message: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let key = handshake(&mut reader)?;
    let accept = ws::accept_value(&key);
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let mut decoder = Decoder::new(max_message);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        let mut open = true;
        let input = buffer.get_mut(..count).unwrap_or_default();
        let fed = decoder.feed(input, |received| {
            open = answer(&received, &mut out);
            open
        });
        if let Err(error) = fed {
            out.extend(ws::close_frame(error.code, ""));
            open = false;
        }
        stream.write_all(&out)?;
        if !open {
            return leave(stream, &mut reader, &mut buffer);
        }
    }
}

/// Ends so that the last frame arrives: what the client still sends is read, not
/// reset.
fn leave(stream: &TcpStream, reader: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(GOODBYE))?;
    while reader.read(buffer)? > 0 {}
    Ok(())
}

/// The value of Sec-WebSocket-Key, once the head is read.
fn handshake(reader: &mut impl BufRead) -> Result<String> {
    let mut key = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            anyhow::bail!("no handshake");
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => {
                key = Some(value.trim().to_owned());
            }
            _ if line.trim_end().is_empty() => return key.context("no Sec-WebSocket-Key"),
            _ => {}
        }
    }
}

/// Adds what answers a message; whether the connection goes on.
fn answer(received: &Received<'_>, out: &mut Vec<u8>) -> bool {
    let (opcode, payload) = match received {
        Received::Text(text) => (opcode::TEXT, text.as_bytes()),
        Received::Binary(bytes) => (opcode::BINARY, *bytes),
        Received::Ping(bytes) => (opcode::PONG, *bytes),
        Received::Pong => return true,
        Received::Close(code) => {
            out.extend(ws::close_frame(*code, ""));
            return false;
        }
    };
    ws::put_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
    true
}
