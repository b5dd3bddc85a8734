//! A development CA and the certificates of a small cluster.
//!
//! In: a directory and node names. Out: PEM files in it. Run by
//! `origin certs --out DIR`; production brings its own CA with the same names.
//!
//! What makes a certificate a node's (checked in [`crate::tls`]):
//! - DNS SAN `node.millrace`: the name that every node dials, so that a client
//!   can verify a parent before it knows whether that is an origin or an edge;
//! - DNS SAN `origin.millrace` or `edge.millrace`: its role, exactly one;
//! - URI SAN `millrace://node/<id>`: its id, exactly one.
//!
//! The CA's key is used here and forgotten: it never touches the disk, so that
//! nothing in the directory can make further nodes. To add one, make all again
//! with `--force`. The web certificate is signed by the same CA but has none of
//! the names above and may not act as a client: it opens no link.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use thiserror::Error;

use crate::names::NodeId;
use crate::tls::{NODE_NAME, Role, node_uri};

/// Browsers refuse server certificates that live longer than this.
const VALID_DAYS: u64 = 825;

/// Certificates begin a little in the past for peers whose clocks are behind.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The web certificate's names; a development edge is opened by one of them.
const WEB_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Make a development CA and certificates for origins, edges and a web server.
#[derive(Clone, Debug, Args)]
pub struct CertsArgs {
    /// Directory for the files; made if it is not there
    #[arg(long, env = "MILLRACE_CERTS_OUT", value_name = "DIR")]
    pub out: PathBuf,

    /// Node id of an origin, and the name of its files; may be given several times
    #[arg(
        long = "origin",
        env = "MILLRACE_CERTS_ORIGIN",
        value_name = "ID",
        value_delimiter = ',',
        default_value = "origin",
        value_parser = NodeId::parse
    )]
    pub origins: Vec<NodeId>,

    /// Node id of an edge, and the name of its files; may be given several times
    #[arg(
        long = "edge",
        env = "MILLRACE_CERTS_EDGE",
        value_name = "ID",
        value_delimiter = ',',
        default_value = "edge",
        value_parser = NodeId::parse
    )]
    pub edges: Vec<NodeId>,

    /// One more host name or address for the web certificate, beside localhost; may be given several times
    #[arg(
        long = "web-name",
        env = "MILLRACE_CERTS_WEB_NAME",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub web_names: Vec<String>,

    /// Replace files that are there
    #[arg(long, env = "MILLRACE_CERTS_FORCE")]
    pub force: bool,
}

/// Why no certificates were made.
#[derive(Debug, Error)]
pub enum CertsError {
    /// Two files would bear one name.
    #[error(
        "{0}.pem would be written twice: each --origin and each --edge need a name of their own, other than ca and web"
    )]
    SameName(String),
    /// A file is there already.
    #[error("{} exists; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// A file or the directory can't be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A name does not fit into a certificate, or the library failed.
    #[error("certificate for {name}: {source}")]
    Make {
        /// Whose certificate.
        name: String,
        /// The library's reason.
        source: rcgen::Error,
    },
}

/// Makes the files that `args` ask for and tells their paths.
pub fn run(args: &CertsArgs) -> Result<Vec<PathBuf>, CertsError> {
    let authority = Authority::new()?;
    let validity = Validity::from_now();
    let mut files = vec![File::open_to_all("ca.pem", authority.pem())];
    let origins = args.origins.iter().map(|id| (Role::Origin, id));
    let nodes = origins.chain(args.edges.iter().map(|id| (Role::Edge, id)));
    for (role, id) in nodes {
        let issued = authority.node(role, id, validity)?;
        files.extend(issued.files(&id.to_string()));
    }
    let mut names: Vec<String> = WEB_NAMES.map(str::to_owned).into();
    names.extend(args.web_names.iter().cloned());
    files.extend(authority.web(names, validity)?.files("web"));
    write_all(&args.out, &files, args.force)
}

struct File {
    name: String,
    mode: u32,
    pem: String,
}

impl File {
    fn open_to_all(name: impl Into<String>, pem: String) -> Self {
        Self {
            name: name.into(),
            mode: 0o644,
            pem,
        }
    }

    fn secret(name: impl Into<String>, pem: String) -> Self {
        Self {
            name: name.into(),
            mode: 0o600,
            pem,
        }
    }
}

fn write_all(dir: &Path, files: &[File], force: bool) -> Result<Vec<PathBuf>, CertsError> {
    for (index, file) in files.iter().enumerate() {
        if files[..index].iter().any(|other| other.name == file.name) {
            let stem = file.name.trim_end_matches(".pem");
            return Err(CertsError::SameName(stem.to_owned()));
        }
        let path = dir.join(&file.name);
        if !force && path.symlink_metadata().is_ok() {
            return Err(CertsError::Exists(path));
        }
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CertsError::Write { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut paths = Vec::with_capacity(files.len());
    for file in files {
        let path = dir.join(&file.name);
        replace(&path, file, force).map_err(failed(&path))?;
        paths.push(path);
    }
    Ok(paths)
}

/// A new file each time: an old one's wider mode or a link would outlive its bytes.
fn replace(path: &Path, file: &File, force: bool) -> io::Result<()> {
    if force {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)?
        .write_all(file.pem.as_bytes())
}

/// From when until when certificates are good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    from: SystemTime,
    until: SystemTime,
}

impl Validity {
    pub(crate) fn from_now() -> Self {
        let now = SystemTime::now();
        Self {
            from: now - CLOCK_SLACK,
            until: now + DAY * u32::try_from(VALID_DAYS).unwrap_or(u32::MAX) - CLOCK_SLACK,
        }
    }

    #[cfg(test)]
    pub(crate) fn over_since_yesterday() -> Self {
        let now = SystemTime::now();
        Self {
            from: now - 9 * DAY,
            until: now - DAY,
        }
    }

    fn apply(self, params: &mut CertificateParams) {
        let epoch = date_time_ymd(1970, 1, 1);
        let since_epoch = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
        params.not_before = epoch + since_epoch(self.from);
        params.not_after = epoch + since_epoch(self.until);
    }
}

/// A CA in memory.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

impl Issued {
    fn files(self, stem: &str) -> [File; 2] {
        [
            File::open_to_all(format!("{stem}.pem"), self.cert_pem),
            File::secret(format!("{stem}.key"), self.key_pem),
        ]
    }
}

fn made<T>(name: &str, result: Result<T, rcgen::Error>) -> Result<T, CertsError> {
    result.map_err(|source| CertsError::Make {
        name: name.to_owned(),
        source,
    })
}

impl Authority {
    pub(crate) fn new() -> Result<Self, CertsError> {
        let name = "Millrace development CA";
        let mut params = CertificateParams::default();
        Validity::from_now().apply(&mut params);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = made(name, KeyPair::generate())?;
        Ok(Self(made(name, CertifiedIssuer::self_signed(params, key))?))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn node(
        &self,
        role: Role,
        id: &NodeId,
        validity: Validity,
    ) -> Result<Issued, CertsError> {
        let names = [NODE_NAME, role.dns_name()].map(str::to_owned);
        let uri = node_uri(id);
        self.issue(
            &id.to_string(),
            names.into(),
            vec![uri],
            &[
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            validity,
        )
    }

    pub(crate) fn web(&self, names: Vec<String>, validity: Validity) -> Result<Issued, CertsError> {
        let usage = [ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("web", names, Vec::new(), &usage, validity)
    }

    pub(crate) fn issue(
        &self,
        name: &str,
        dns_names: Vec<String>,
        uris: Vec<String>,
        usages: &[ExtendedKeyUsagePurpose],
        validity: Validity,
    ) -> Result<Issued, CertsError> {
        let mut params = made(name, CertificateParams::new(dns_names))?;
        for uri in uris {
            let uri = made(name, uri.as_str().try_into())?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        validity.apply(&mut params);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = made(name, KeyPair::generate())?;
        let cert = made(name, params.signed_by(&key, &self.0))?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::{NodeCredentials, WebCertificate};

    fn args(out: &Path, edges: &[&str], force: bool) -> CertsArgs {
        CertsArgs {
            out: out.to_owned(),
            origins: vec![NodeId::parse("origin").unwrap()],
            edges: edges.iter().map(|id| NodeId::parse(id).unwrap()).collect(),
            web_names: vec!["demo.test".into()],
            force,
        }
    }

    #[test]
    fn makes_what_nodes_load() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("made");
        let paths = run(&args(&out, &["edge-1", "edge-2"], false)).unwrap();
        let names: Vec<_> = paths
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "ca.pem",
                "origin.pem",
                "origin.key",
                "edge-1.pem",
                "edge-1.key",
                "edge-2.pem",
                "edge-2.key",
                "web.pem",
                "web.key"
            ]
        );
        for path in &paths {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            let secret = path.extension().unwrap() == "key";
            assert_eq!(mode & 0o077 == 0, secret, "{path:?} has mode {mode:o}");
        }
        for (id, role) in [("origin", Role::Origin), ("edge-2", Role::Edge)] {
            let credentials = NodeCredentials::load(
                &out.join("ca.pem"),
                &out.join(format!("{id}.pem")),
                &out.join(format!("{id}.key")),
            )
            .unwrap();
            assert_eq!(credentials.identity().role, role);
            assert_eq!(credentials.identity().node.to_string(), id);
        }
        WebCertificate::load(&out.join("web.pem"), &out.join("web.key")).unwrap();
    }

    #[test]
    fn refuses_to_overwrite_without_force() {
        let dir = tempfile::tempdir().unwrap();
        run(&args(dir.path(), &["edge"], false)).unwrap();
        let before = fs::read(dir.path().join("origin.key")).unwrap();
        let error = run(&args(dir.path(), &["edge"], false)).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read(dir.path().join("origin.key")).unwrap(), before);
        fs::set_permissions(
            dir.path().join("origin.key"),
            fs::Permissions::from_mode(0o666),
        )
        .unwrap();
        run(&args(dir.path(), &["edge"], true)).unwrap();
        let key = dir.path().join("origin.key");
        assert_ne!(fs::read(&key).unwrap(), before);
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn names_must_differ() {
        let dir = tempfile::tempdir().unwrap();
        for edges in [&["a", "a"][..], &["origin"], &["ca"], &["web"]] {
            let error = run(&args(dir.path(), edges, false)).unwrap_err();
            assert!(matches!(error, CertsError::SameName(_)), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
