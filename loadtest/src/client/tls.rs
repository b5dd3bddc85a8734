//! Whom to trust over https.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// Where Debian keeps the authorities that everybody trusts.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// Take any certificate over https
    #[arg(long)]
    pub insecure: bool,
    /// Authorities to trust over https, a PEM file [default: the system's]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
}

impl TlsArgs {
    /// # Errors
    /// A line naming the file that holds no certificates.
    pub fn config(&self, http2: bool) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let mut config = if self.insecure {
            let trusting = Arc::new(Trusting(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(trusting)
        } else {
            builder.with_root_certificates(self.roots()?)
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![if http2 {
            b"h2".to_vec()
        } else {
            b"http/1.1".to_vec()
        }];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let path = self.ca.clone().unwrap_or_else(|| SYSTEM_CA.into());
        let shown = path.display();
        let wrong = || format!("--ca {shown}: no PEM certificates; for example --ca ca.pem");
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&path).with_context(wrong)? {
            store.add(certificate.with_context(wrong)?)?;
        }
        if store.is_empty() {
            bail!(wrong());
        }
        Ok(store)
    }
}

/// Takes any name and any chain, but checks that the peer holds its key.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
