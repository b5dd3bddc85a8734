//! TLS configurations: between nodes and towards viewers.
//!
//! In: PEM files. Out: rustls configurations and, after a handshake, the peer's
//! [`Identity`]. Invariant: a node talks only to certificates of its private CA,
//! over TLS 1.3, each time with a full handshake (no 0-RTT and no resumption, so
//! that every connection shows its certificate), and trusts a peer only in the
//! one role that its certificate names. [`crate::certs`] lists the names.
//! aws-lc-rs is the only provider and is named explicitly: nothing depends on
//! what a process installed first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;
use webpki::EndEntityCert;

use crate::names::NodeId;
use crate::reload::Files;

/// The link's protocol; a breaking change is a new one.
pub const LINK_ALPN: &[u8] = b"millrace/1";

/// The name that every node's certificate holds and every node dials.
pub const NODE_NAME: &str = "node.millrace";

/// A key exchange and a certificate chain take a few of these; the rest is junk.
const MAX_CHAIN: usize = 8;

const NODE_URI_PREFIX: &str = "millrace://node/";

/// The URI SAN of a node.
pub(crate) fn node_uri(id: &NodeId) -> String {
    format!("{NODE_URI_PREFIX}{id}")
}

/// What a node may be on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes publishers in and packages.
    Origin,
    /// Pulls from parents and serves viewers, or other edges.
    Edge,
}

impl Role {
    /// The DNS SAN that grants the role.
    #[must_use]
    pub fn dns_name(self) -> &'static str {
        match self {
            Self::Origin => "origin.millrace",
            Self::Edge => "edge.millrace",
        }
    }

    /// The role's word in logs and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Edge => "edge",
        }
    }
}

/// Who a node is, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// From the URI SAN.
    pub node: NodeId,
    /// From the DNS SAN.
    pub role: Role,
}

/// Why a verified certificate is still not a node's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The peer sent no certificate.
    #[error("no certificate")]
    NoCertificate,
    /// The bytes are no X.509 v3 certificate.
    #[error("unreadable certificate")]
    Unreadable,
    /// Neither role's name is in the certificate.
    #[error("the certificate names no role (a DNS SAN origin.millrace or edge.millrace)")]
    NoRole,
    /// Both roles' names are.
    #[error("the certificate names both roles")]
    TwoRoles,
    /// Not exactly one URI SAN of a node, or not a node id in it.
    #[error("the certificate needs one URI SAN millrace://node/<id>")]
    NoNodeId,
}

/// Reads the identity out of a chain that the handshake has verified.
pub fn identity(chain: &[CertificateDer<'_>]) -> Result<Identity, IdentityError> {
    let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| IdentityError::Unreadable)?;
    let role = match (grants(&leaf, Role::Origin), grants(&leaf, Role::Edge)) {
        (true, false) => Role::Origin,
        (false, true) => Role::Edge,
        (false, false) => return Err(IdentityError::NoRole),
        (true, true) => return Err(IdentityError::TwoRoles),
    };
    let mut ids = leaf
        .valid_uri_names()
        .filter_map(|uri| uri.strip_prefix(NODE_URI_PREFIX));
    let (Some(id), None) = (ids.next(), ids.next()) else {
        return Err(IdentityError::NoNodeId);
    };
    let node = NodeId::parse(id).map_err(|_| IdentityError::NoNodeId)?;
    Ok(Identity { node, role })
}

fn grants(leaf: &EndEntityCert<'_>, role: Role) -> bool {
    DnsName::try_from(role.dns_name()).is_ok_and(|name| {
        leaf.verify_is_valid_for_subject_name(&ServerName::DnsName(name))
            .is_ok()
    })
}

/// Why a certificate or key can't be used. Names the file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file can't be read or is not PEM.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        source: pem::Error,
    },
    /// The file holds no certificate, or far too many.
    #[error("{}: expected 1 to {MAX_CHAIN} PEM certificates", .0.display())]
    Certificates(PathBuf),
    /// The library refuses the certificate or the key.
    #[error("{}: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        source: rustls::Error,
    },
    /// A node's own certificate is not a node's.
    #[error("{}: {source}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is missing in it.
        source: IdentityError,
    },
    /// A node's own certificate is for another kind of node.
    #[error("{}: a certificate for an {}; this node needs one for an {}", path.display(), names.as_str(), needed.as_str())]
    Role {
        /// The file.
        path: PathBuf,
        /// The role in it.
        names: Role,
        /// The role of this process.
        needed: Role,
    },
    /// A node that runs can't become another one.
    #[error("{}: a certificate for {names}; this node is {needed} in its role and stays so until it is restarted", path.display())]
    AnotherNode {
        /// The file.
        path: PathBuf,
        /// The node in it.
        names: NodeId,
        /// This node.
        needed: NodeId,
    },
    /// The library refuses the whole configuration.
    #[error("TLS configuration: {0}")]
    Configuration(#[from] rustls::Error),
    /// The CA file yields no verifier.
    #[error("TLS configuration: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .take(MAX_CHAIN + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(TlsError::Certificates(path.to_owned()));
    }
    Ok(chain)
}

fn read_key(key: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem {
        path: key.to_owned(),
        source,
    })
}

fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(cert)?;
    let secret = read_key(key)?;
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|source| TlsError::Refused {
        path: key.to_owned(),
        source,
    })
}

/// A node's certificate, key and the CA that it trusts.
#[derive(Clone, Debug)]
pub struct NodeCredentials {
    roots: Arc<RootCertStore>,
    own: Arc<CertifiedKey>,
    identity: Identity,
    lasting: LastingSecret,
}

/// What a node knows again after a restart and nobody else can know: derived
/// from its private key, of which it tells nothing.
#[derive(Clone)]
pub(crate) struct LastingSecret([u8; 32]);

impl LastingSecret {
    fn of(key: &PrivateKeyDer<'_>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.secret_der());
        Self(signed(&key, b"millrace lasting secret"))
    }

    /// A secret for one purpose, independent of those for others.
    pub(crate) fn for_purpose(&self, purpose: &str) -> [u8; 32] {
        signed(
            &hmac::Key::new(hmac::HMAC_SHA256, &self.0),
            purpose.as_bytes(),
        )
    }
}

impl std::fmt::Debug for LastingSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LastingSecret")
    }
}

fn signed(key: &hmac::Key, message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let tag = hmac::sign(key, message);
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

impl NodeCredentials {
    /// Reads the three files and checks that the certificate is a node's, of this
    /// CA and in time: better a line at the start than refusals on every link.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in read_chain(ca)? {
            roots.add(root).map_err(|source| TlsError::Refused {
                path: ca.to_owned(),
                source,
            })?;
        }
        let roots = Arc::new(roots);
        let own = read_pair(cert, key)?;
        let identity = identity(&own.cert).map_err(|source| TlsError::Identity {
            path: cert.to_owned(),
            source,
        })?;
        if let Some((leaf, intermediates)) = own.cert.split_first() {
            verifier(&roots)?
                .verify_client_cert(leaf, intermediates, UnixTime::now())
                .map_err(|source| TlsError::Refused {
                    path: cert.to_owned(),
                    source,
                })?;
        }
        Ok(Self {
            roots,
            own: Arc::new(own),
            identity,
            lasting: LastingSecret::of(&read_key(key)?),
        })
    }

    /// Shows this certificate but trusts another CA, as only a stranger does.
    #[cfg(test)]
    pub(crate) fn trusting(mut self, other: &Self) -> Self {
        self.roots = other.roots.clone();
        self
    }

    /// As [`NodeCredentials::load`] without its checks: what a stranger would do.
    #[cfg(test)]
    pub(crate) fn load_unchecked(ca: &Path, cert: &Path, key: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for root in read_chain(ca).unwrap() {
            roots.add(root).unwrap();
        }
        Self {
            roots: Arc::new(roots),
            own: Arc::new(read_pair(cert, key).unwrap()),
            identity: Identity {
                node: NodeId::parse("stranger").unwrap(),
                role: Role::Edge,
            },
            lasting: LastingSecret::of(&read_key(key).unwrap()),
        }
    }

    pub(crate) fn lasting_secret(&self) -> &LastingSecret {
        &self.lasting
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

fn verifier(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    Ok(WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build()?)
}

/// The accepting end of a link: mutual TLS 1.3.
pub fn node_server_config(credentials: &NodeCredentials) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier(&credentials.roots)?)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
            credentials.own.clone(),
        )));
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The dialling end of a link: mutual TLS 1.3, to be dialled as [`NODE_NAME`].
pub fn node_client_config(credentials: &NodeCredentials) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(credentials.roots.clone())
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
            credentials.own.clone(),
        )));
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// The certificate shown to viewers, replaceable while the edge runs.
#[derive(Debug)]
pub struct WebCertificate {
    cert: PathBuf,
    key: PathBuf,
    files: Files,
    current: ArcSwap<CertifiedKey>,
}

impl WebCertificate {
    /// Reads the PEM files.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            files: Files::seen([cert.to_owned(), key.to_owned()]),
            current: ArcSwap::from_pointee(read_pair(cert, key)?),
        }))
    }

    /// Certificate and key, as they were before they were read.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// Reads the files again; handshakes from now on show what they hold. When
    /// they can't be used the certificate in use stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current
            .store(Arc::new(read_pair(&self.cert, &self.key)?));
        Ok(())
    }
}

impl ResolvesServerCert for WebCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// The viewers' end: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, no client certificates.
pub fn web_server_config(certificate: Arc<WebCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
