//! A node's link certificate, replaced while its links go on: handshakes from
//! then on show and trust what was read last.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quinn::{ClientConfig, Endpoint};

use super::{
    EndpointError, LinkConfig,
    child::{Dialer, client_config},
    parent::{Listener, server_config},
};
use crate::{
    reload::{Files, Reloads},
    tls::{Identity, TlsError},
};

/// Reads the node's certificate again and hands it to its endpoints.
#[derive(Debug)]
pub struct Renewal {
    config: LinkConfig,
    identity: Identity,
    files: Files,
    listener: Option<(Endpoint, Arc<Mutex<bool>>)>,
    dialer: Option<Arc<ArcSwap<ClientConfig>>>,
}

impl LinkConfig {
    /// The files of the link's certificates as they are now: look before they
    /// are read.
    #[must_use]
    pub fn files(&self) -> Files {
        Files::seen([
            self.link_ca.clone(),
            self.link_cert.clone(),
            self.link_key.clone(),
        ])
    }
}

impl Renewal {
    /// For a node that is `identity`; nothing is renewed yet.
    #[must_use]
    pub fn new(config: LinkConfig, identity: Identity, files: Files) -> Self {
        Self {
            config,
            identity,
            files,
            listener: None,
            dialer: None,
        }
    }

    /// Renews what children are shown.
    #[must_use]
    pub fn of_listener(mut self, listener: &Listener) -> Self {
        self.listener = Some((listener.endpoint.clone(), listener.accepts.clone()));
        self
    }

    /// Renews what parents are shown.
    #[must_use]
    pub fn of_dialer(mut self, dialer: &Dialer) -> Self {
        self.dialer = Some(dialer.client.clone());
        self
    }

    /// Has it done whenever the files change.
    pub fn watched_by(self, reloads: &mut Reloads) {
        reloads.add("link certificates", self.files.clone(), move || {
            self.renew()
        });
    }

    /// Reads the files. A node does not become another one: neither its id nor
    /// its role may change.
    ///
    /// # Errors
    /// [`EndpointError`]; all stays as it was.
    pub fn renew(&self) -> Result<(), EndpointError> {
        let credentials = self.config.credentials()?;
        if *credentials.identity() != self.identity {
            return Err(TlsError::AnotherNode {
                path: self.config.link_cert.clone(),
                names: credentials.identity().node.clone(),
                needed: self.identity.node.clone(),
            }
            .into());
        }
        // Both are made before either is used.
        let client = client_config(&self.config, &credentials)?;
        let server = server_config(&self.config, &credentials)?;
        if let Some(dialer) = &self.dialer {
            dialer.store(Arc::new(client));
        }
        if let Some((endpoint, accepts)) = &self.listener {
            let accepts = accepts.lock();
            if *accepts {
                endpoint.set_server_config(Some(server));
            }
        }
        Ok(())
    }
}
