//! Where an address is, by a database in MaxMind's format (GeoLite2-City and its
//! like) that the operator has got.
//!
//! In: the file, whenever it changes, and addresses. Out: places, for `/ingests`
//! alone; none is kept or logged. The file is held in memory whole, which is what
//! makes a look-up microseconds; a file with a mistake changes nothing.

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use clap::Args;
use common::{ingest::Place, reload::Files};
use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;
use tracing::info;

/// The largest database there is has some 200 MiB; more is another file.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Flags of the ingest directory at an edge.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Ingest directory")]
pub struct GeoConfig {
    /// City database in MaxMind's format (mmdb), by which /ingests tells who is nearest to an asker that does not say where it is; read again whenever it changes
    #[arg(long, env = "MILLRACE_GEOIP_DB", value_name = "FILE")]
    pub geoip_db: Option<PathBuf>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    #[error("--geoip-db {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(
        "--geoip-db {}: no database in MaxMind's format, for example GeoLite2-City.mmdb ({error})",
        path.display()
    )]
    Format {
        path: PathBuf,
        error: MaxMindDbError,
    },
}

/// See the module's text.
pub struct Geo {
    path: PathBuf,
    files: Files,
    reader: ArcSwap<Reader<Vec<u8>>>,
}

impl fmt::Debug for Geo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Geo")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What is read of a record.
#[derive(Deserialize)]
struct Record {
    location: Option<Location>,
}

#[derive(Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl Geo {
    /// Reads the file, if the flags name one.
    ///
    /// # Errors
    /// A file that can't be read, or of another format.
    pub fn from_config(config: &GeoConfig) -> Result<Option<Arc<Self>>, GeoError> {
        let Some(path) = config.geoip_db.clone() else {
            return Ok(None);
        };
        let files = Files::seen([path.clone()]);
        let reader = ArcSwap::from_pointee(read(&path)?);
        Ok(Some(Arc::new(Self {
            path,
            files,
            reader,
        })))
    }

    /// The file, as it was before it was read.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// Reads the file again. Blocks on it.
    ///
    /// # Errors
    /// The database of before stays.
    pub fn reload(&self) -> Result<(), GeoError> {
        self.reader.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    /// `None` for an address that the database does not know, or does not know the
    /// place of.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        let reader = self.reader.load();
        let found = reader.lookup(address.to_canonical()).ok()?;
        let record: Record = found.decode().ok()??;
        let location = record.location?;
        Place::new(location.latitude?, location.longitude?)
    }
}

fn read(path: &Path) -> Result<Reader<Vec<u8>>, GeoError> {
    let bytes = bounded(path).map_err(|error| GeoError::Read {
        path: path.to_owned(),
        error,
    })?;
    let reader = Reader::from_source(bytes).map_err(|error| GeoError::Format {
        path: path.to_owned(),
        error,
    })?;
    let kind = reader.metadata().database_type.as_str();
    info!(path = %path.display(), kind, "places of addresses are known");
    Ok(reader)
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "over 1 GiB"));
    }
    fs::read(path)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A database of IPv4 networks and their places, as small as the format allows:
    /// a tree of 24-bit records, 16 zero bytes, records, metadata.
    pub(crate) fn database(networks: &[(&str, u8, f64, f64)]) -> Vec<u8> {
        let mut nodes = vec![[None::<usize>; 2]];
        // Where a place's record is among the data, by node and side.
        let mut leaves = Vec::new();
        let mut data = Vec::new();
        for (network, bits, latitude, longitude) in networks {
            let address: std::net::Ipv4Addr = network.parse().unwrap();
            let side = |bit: u8| usize::from(address.to_bits() >> (31 - bit) & 1 == 1);
            let mut at = 0;
            for bit in 0..bits - 1 {
                at = nodes[at][side(bit)].unwrap_or_else(|| {
                    nodes.push([None; 2]);
                    let new = nodes.len() - 1;
                    nodes[at][side(bit)] = Some(new);
                    new
                });
            }
            leaves.push((at, side(bits - 1), data.len()));
            map(&mut data, 1);
            text(&mut data, "location");
            map(&mut data, 2);
            text(&mut data, "latitude");
            double(&mut data, *latitude);
            text(&mut data, "longitude");
            double(&mut data, *longitude);
        }
        let count = nodes.len();
        let mut out = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            for (side, child) in node.iter().enumerate() {
                let leaf = leaves.iter().find(|leaf| (leaf.0, leaf.1) == (at, side));
                // `count` is "nothing there"; beyond it lie the separator and the data.
                let value = leaf.map_or(child.unwrap_or(count), |leaf| count + 16 + leaf.2);
                out.extend_from_slice(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
            }
        }
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&data);
        out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        metadata(&mut out, count);
        out
    }

    fn metadata(out: &mut Vec<u8>, nodes: usize) {
        map(out, 9);
        text(out, "node_count");
        // Unsigned numbers by their widths: 32 bits, 16, and, extended, 64.
        out.push(6 << 5 | 4);
        out.extend_from_slice(&u32::try_from(nodes).unwrap().to_be_bytes());
        for (name, value) in [
            ("record_size", 24),
            ("ip_version", 4),
            ("binary_format_major_version", 2),
            ("binary_format_minor_version", 0),
        ] {
            text(out, name);
            out.extend_from_slice(&[5 << 5 | 1, value]);
        }
        text(out, "build_epoch");
        out.extend_from_slice(&[1, 2, 1]);
        text(out, "database_type");
        text(out, "Test-City");
        text(out, "languages");
        // An empty array, of the extended types.
        out.extend_from_slice(&[0, 4]);
        text(out, "description");
        map(out, 0);
    }

    fn map(out: &mut Vec<u8>, pairs: u8) {
        out.push(7 << 5 | pairs);
    }

    fn text(out: &mut Vec<u8>, text: &str) {
        let len = u8::try_from(text.len()).unwrap();
        if len < 29 {
            out.push(2 << 5 | len);
        } else {
            out.extend_from_slice(&[2 << 5 | 29, len - 29]);
        }
        out.extend_from_slice(text.as_bytes());
    }

    fn double(out: &mut Vec<u8>, number: f64) {
        out.push(3 << 5 | 8);
        out.extend_from_slice(&number.to_be_bytes());
    }

    fn config(path: &Path) -> GeoConfig {
        GeoConfig {
            geoip_db: Some(path.to_owned()),
        }
    }

    #[test]
    fn an_address_has_the_place_of_its_network() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("city.mmdb");
        let networks = [
            ("192.0.2.0", 24, 52.37, 4.9),
            ("127.0.0.0", 8, 41.88, -87.63),
        ];
        fs::write(&path, database(&networks)).unwrap();
        let geo = Geo::from_config(&config(&path)).unwrap().unwrap();
        let place = |text: &str| geo.place(text.parse().unwrap());
        assert_eq!(place("192.0.2.77"), Place::new(52.37, 4.9));
        assert_eq!(place("127.1.2.3"), Place::new(41.88, -87.63));
        // As an IPv6 socket has it.
        assert_eq!(place("::ffff:127.0.0.1"), Place::new(41.88, -87.63));
        for unknown in ["192.0.3.1", "8.8.8.8", "2001:db8::1", "::1"] {
            assert_eq!(place(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_place_off_the_map_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("city.mmdb");
        fs::write(&path, database(&[("10.0.0.0", 8, 152.37, 4.9)])).unwrap();
        let geo = Geo::from_config(&config(&path)).unwrap().unwrap();
        assert_eq!(geo.place([10, 0, 0, 1].into()), None);
    }

    #[test]
    fn a_wrong_file_names_itself_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("city.mmdb");
        assert!(Geo::from_config(&GeoConfig::default()).unwrap().is_none());
        let missing = Geo::from_config(&config(&path)).unwrap_err().to_string();
        assert!(missing.contains("--geoip-db") && missing.contains("city.mmdb"));
        let whole = database(&[("10.0.0.0", 8, 1.0, 2.0)]);
        fs::write(&path, &whole).unwrap();
        let geo = Geo::from_config(&config(&path)).unwrap().unwrap();
        let here = geo.place([10, 0, 0, 1].into());
        assert_eq!(here, Place::new(1.0, 2.0));
        // Half a copy, no database at all, nothing.
        for bad in [&whole[..whole.len() / 2], b"<html>", b""] {
            fs::write(&path, bad).unwrap();
            let error = geo.reload().unwrap_err().to_string();
            assert!(error.contains("for example GeoLite2-City.mmdb"), "{error}");
            assert_eq!(geo.place([10, 0, 0, 1].into()), here);
        }
        fs::write(&path, database(&[("10.0.0.0", 8, 3.0, 4.0)])).unwrap();
        geo.reload().unwrap();
        assert_eq!(geo.place([10, 0, 0, 1].into()), Place::new(3.0, 4.0));
    }
}
