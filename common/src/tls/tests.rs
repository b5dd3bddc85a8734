use std::fs;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    ClientConnection, DigitallySignedStruct, ProtocolVersion, ServerConnection, SignatureScheme,
};

use super::*;
use crate::certs::{Authority, Issued, Validity};

/// What each end of a finished handshake knows of the other.
#[derive(Debug)]
struct Met {
    by_server: Result<Identity, IdentityError>,
    by_client: Result<Identity, IdentityError>,
    version: ProtocolVersion,
    alpn: Option<Vec<u8>>,
}

/// Hands bytes to and fro until both ends are done or one refuses.
fn handshake(
    client: ClientConfig,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Met, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        wire.clear();
        client.write_tls(&mut wire).unwrap();
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        let mut unread = &wire[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(Met {
        by_server: identity(server.peer_certificates().unwrap_or_default()),
        by_client: identity(client.peer_certificates().unwrap_or_default()),
        version: client.protocol_version().unwrap(),
        alpn: client.alpn_protocol().map(<[u8]>::to_vec),
    })
}

struct Files(tempfile::TempDir);

impl Files {
    fn new(authority: &Authority) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self(dir)
    }

    fn put(&self, issued: &Issued) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            self.0.path().join("cert.pem"),
            self.0.path().join("cert.key"),
        );
        fs::write(&cert, &issued.cert_pem).unwrap();
        fs::write(&key, &issued.key_pem).unwrap();
        (cert, key)
    }

    fn load(&self, issued: &Issued) -> Result<NodeCredentials, TlsError> {
        let (cert, key) = self.put(issued);
        NodeCredentials::load(&self.0.path().join("ca.pem"), &cert, &key)
    }

    fn force(&self, issued: &Issued) -> NodeCredentials {
        let (cert, key) = self.put(issued);
        NodeCredentials::load_unchecked(&self.0.path().join("ca.pem"), &cert, &key)
    }
}

struct Cluster {
    authority: Authority,
    files: Files,
    origin: NodeCredentials,
    edge: NodeCredentials,
}

fn cluster() -> Cluster {
    let authority = Authority::new().unwrap();
    let files = Files::new(&authority);
    let node = |role, id| {
        let id = NodeId::parse(id).unwrap();
        let issued = authority.node(role, &id, Validity::from_now()).unwrap();
        files.load(&issued).unwrap()
    };
    let (origin, edge) = (node(Role::Origin, "origin-1"), node(Role::Edge, "edge-7"));
    Cluster {
        authority,
        files,
        origin,
        edge,
    }
}

fn met(client: &NodeCredentials, server: &NodeCredentials) -> Result<Met, rustls::Error> {
    handshake(
        node_client_config(client).unwrap(),
        Arc::new(node_server_config(server).unwrap()),
        NODE_NAME,
    )
}

#[test]
fn nodes_meet_and_know_each_other() {
    let cluster = cluster();
    let met = met(&cluster.edge, &cluster.origin).unwrap();
    let by_server = met.by_server.unwrap();
    assert_eq!(by_server.role, Role::Edge);
    assert_eq!(by_server.node.to_string(), "edge-7");
    let by_client = met.by_client.unwrap();
    assert_eq!(by_client.role, Role::Origin);
    assert_eq!(by_client.node.to_string(), "origin-1");
    assert_eq!(met.version, ProtocolVersion::TLSv1_3);
    assert_eq!(met.alpn.as_deref(), Some(LINK_ALPN));
}

#[test]
fn an_edge_is_only_ever_an_edge() {
    let cluster = cluster();
    // An edge may be another's parent; it is seen as what its certificate says.
    let met = met(&cluster.edge, &cluster.edge).unwrap();
    assert_eq!(met.by_client.unwrap().role, Role::Edge);
    // Neither both names nor a wildcard over them makes a node of two roles.
    for (names, refusal) in [
        (
            [NODE_NAME, "origin.millrace", "edge.millrace"].as_slice(),
            IdentityError::TwoRoles,
        ),
        (&[NODE_NAME, "*.millrace"], IdentityError::NoRole),
    ] {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let uri = vec!["millrace://node/sly".to_owned()];
        let usages = [ServerAuth, ClientAuth];
        let issued = cluster
            .authority
            .issue("sly", names, uri, &usages, Validity::from_now())
            .unwrap();
        let error = cluster.files.load(&issued).unwrap_err();
        assert!(matches!(&error, TlsError::Identity { source, .. } if *source == refusal));
        let sly = cluster.files.force(&issued);
        let met = super::tests::met(&sly, &cluster.origin).unwrap();
        assert_eq!(met.by_server, Err(refusal));
    }
}

#[test]
fn node_ids_are_one_and_well_formed() {
    let cluster = cluster();
    let names = [NODE_NAME, "edge.millrace"].map(str::to_owned);
    for uris in [
        vec![],
        vec!["millrace://node/"],
        vec!["millrace://node/UPPER"],
        vec!["millrace://node/a/../b"],
        vec!["https://node/a"],
        vec!["millrace://node/a", "millrace://node/b"],
    ] {
        let uris: Vec<String> = uris.into_iter().map(str::to_owned).collect();
        let issued = cluster
            .authority
            .issue(
                "odd",
                names.to_vec(),
                uris,
                &[ClientAuth],
                Validity::from_now(),
            )
            .unwrap();
        let odd = cluster.files.force(&issued);
        assert_eq!(identity(&odd.own.cert), Err(IdentityError::NoNodeId));
    }
}

#[test]
fn a_stranger_with_another_ca_is_refused_both_ways() {
    let (ours, theirs) = (cluster(), cluster());
    assert!(met(&theirs.edge, &ours.origin).is_err());
    assert!(met(&ours.edge, &theirs.origin).is_err());
    // Trusting our CA does not help a stranger whose certificate is another's.
    let id = NodeId::parse("edge-7").unwrap();
    let forged = theirs
        .authority
        .node(Role::Edge, &id, Validity::from_now())
        .unwrap();
    assert!(ours.files.load(&forged).is_err());
    let forger = ours.files.force(&forged);
    assert!(met(&forger, &ours.origin).is_err());
    assert!(met(&ours.edge, &forger).is_err());
}

#[test]
fn an_expired_certificate_is_refused_both_ways() {
    let cluster = cluster();
    let id = NodeId::parse("edge-7").unwrap();
    let expired = cluster
        .authority
        .node(Role::Edge, &id, Validity::over_since_yesterday())
        .unwrap();
    let error = cluster.files.load(&expired).unwrap_err().to_string();
    assert!(
        error.contains("cert.pem") && error.contains("xpired"),
        "{error}"
    );
    let expired = cluster.files.force(&expired);
    assert!(met(&expired, &cluster.origin).is_err());
    assert!(met(&cluster.edge, &expired).is_err());
}

#[test]
fn a_self_signed_certificate_is_refused_both_ways() {
    let cluster = cluster();
    let names = [NODE_NAME, "edge.millrace"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let issued = Issued {
        cert_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    };
    let stranger = cluster.files.force(&issued);
    assert!(met(&stranger, &cluster.origin).is_err());
    assert!(met(&cluster.edge, &stranger).is_err());
}

#[test]
fn no_certificate_is_refused() {
    let cluster = cluster();
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(cluster.edge.roots.clone())
        .with_no_client_auth();
    client.alpn_protocols = vec![LINK_ALPN.to_vec()];
    let server = Arc::new(node_server_config(&cluster.origin).unwrap());
    assert!(handshake(client, server, NODE_NAME).is_err());
}

#[test]
fn the_web_certificate_opens_no_link() {
    let cluster = cluster();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issued = cluster.authority.web(names, Validity::from_now()).unwrap();
    assert!(matches!(
        cluster.files.load(&issued),
        Err(TlsError::Identity {
            source: IdentityError::NoRole,
            ..
        })
    ));
    let web = cluster.files.force(&issued);
    assert!(met(&web, &cluster.origin).is_err());
    assert!(met(&cluster.edge, &web).is_err());
}

#[test]
fn another_protocol_is_refused() {
    let cluster = cluster();
    let mut client = node_client_config(&cluster.edge).unwrap();
    client.alpn_protocols = vec![b"millrace/2".to_vec()];
    let server = Arc::new(node_server_config(&cluster.origin).unwrap());
    assert!(handshake(client, server, NODE_NAME).is_err());
}

#[test]
fn a_key_of_another_certificate_is_named() {
    let cluster = cluster();
    let id = NodeId::parse("edge-7").unwrap();
    let make = || {
        cluster
            .authority
            .node(Role::Edge, &id, Validity::from_now())
    };
    let (one, other) = (make().unwrap(), make().unwrap());
    let mixed = Issued {
        cert_pem: one.cert_pem,
        key_pem: other.key_pem,
    };
    let error = cluster.files.load(&mixed).unwrap_err().to_string();
    assert!(error.contains("cert.key"), "{error}");
    let junk = Issued {
        cert_pem: "no certificate".into(),
        key_pem: mixed.key_pem,
    };
    let error = cluster.files.load(&junk).unwrap_err().to_string();
    assert!(error.contains("cert.pem"), "{error}");
}

/// Remembers what certificate a server shows, and takes any.
#[derive(Debug, Default)]
struct Shown(parking_lot::Mutex<Vec<u8>>);

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock() = leaf.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[test]
fn viewers_get_http2_and_a_reloaded_certificate() {
    let cluster = cluster();
    let web = || {
        let names = vec!["localhost".to_owned()];
        cluster.authority.web(names, Validity::from_now()).unwrap()
    };
    let (cert, key) = cluster.files.put(&web());
    let certificate = WebCertificate::load(&cert, &key).unwrap();
    let server = web_server_config(certificate.clone()).unwrap();
    let shown = |version| {
        let verifier = Arc::new(Shown::default());
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let met = handshake(client, server.clone(), "localhost").unwrap();
        assert_eq!(met.alpn.as_deref(), Some(&b"h2"[..]));
        verifier.0.lock().clone()
    };
    let first = shown(&TLS13);
    assert_eq!(shown(&TLS12), first);

    cluster.files.put(&web());
    assert_eq!(shown(&TLS13), first, "files count only when reloaded");
    certificate.reload().unwrap();
    let second = shown(&TLS13);
    assert_ne!(second, first);

    fs::write(&key, "half a file").unwrap();
    assert!(certificate.reload().is_err());
    assert_eq!(shown(&TLS13), second, "the good one stays");
}
