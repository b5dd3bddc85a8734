//! Reading what an archive keeps, piece by piece: a reader on a slow link costs
//! one piece of memory, not a segment.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
};

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

use super::Archived;

/// Read from a file at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// One reading of one segment, from its first byte.
#[derive(Debug)]
pub enum ArchiveReader {
    Memory(VecDeque<Bytes>),
    /// Goes on being readable when the file is deleted meanwhile.
    File(Option<File>),
}

impl Archived {
    /// `None` where its bytes were given up.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn read(&self) -> io::Result<Option<ArchiveReader>> {
        let (id, shared) = (self.0.id, &self.0.shared);
        {
            let state = shared.state.lock();
            if let Some(parts) = state.memory.get(&id) {
                return Ok(Some(ArchiveReader::Memory(parts.clone().into())));
            }
            if !state.disk.contains_key(&id) {
                return Ok(None);
            }
        }
        let Some(files) = shared.files.clone() else {
            return Ok(None);
        };
        match blocking(move || files.read(id)).await {
            Ok(file) => Ok(Some(ArchiveReader::File(Some(file)))),
            // Given up since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl ArchiveReader {
    /// Reads what is in memory already.
    #[must_use]
    pub fn of(mut bytes: Bytes) -> Self {
        let mut pieces = VecDeque::new();
        while !bytes.is_empty() {
            pieces.push_back(bytes.split_to(bytes.len().min(PIECE_BYTES)));
        }
        Self::Memory(pieces)
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let file = match self {
            Self::Memory(parts) => return Ok(parts.pop_front()),
            Self::File(file) => file,
        };
        let Some(mut open) = file.take() else {
            return Ok(None);
        };
        let (open, piece) = blocking(move || {
            let mut piece = BytesMut::zeroed(PIECE_BYTES);
            let mut len = 0;
            while len < PIECE_BYTES {
                match open.read(&mut piece[len..])? {
                    0 => break,
                    read => len += read,
                }
            }
            piece.truncate(len);
            Ok((open, piece.freeze()))
        })
        .await?;
        if piece.is_empty() {
            return Ok(None);
        }
        *file = Some(open);
        Ok(Some(piece))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}
