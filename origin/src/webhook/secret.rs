//! What webhooks are signed with: the secrets of a file, one a line, `whsec_` and 24 to
//! 64 bytes in base64 as Standard Webhooks has them. Two lines are how one is replaced:
//! what is sent is then signed with both. A file with a mistake changes nothing.

use std::{io, path::PathBuf, sync::Arc};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use common::reload::{self, Files, Reloads};
use parking_lot::Mutex;

const PREFIX: &str = "whsec_";
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The one in use and those that are being replaced.
const MAX_SECRETS: usize = 4;

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("--webhook-secret {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error(
        "--webhook-secret {path}: each of 1 to {MAX_SECRETS} lines is to be whsec_ and 24 to 64 bytes in base64, for example what `echo whsec_$(head -c 32 /dev/urandom | base64)` prints"
    )]
    Form { path: String },
}

/// See the module's text.
pub(super) struct Secrets {
    file: PathBuf,
    keys: Mutex<Arc<[hmac::Key]>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    pub(super) fn open(file: PathBuf) -> Result<Arc<Self>, SecretError> {
        let secrets = Self {
            file,
            keys: Mutex::new([].into()),
        };
        secrets.reload()?;
        Ok(Arc::new(secrets))
    }

    pub(super) fn watched_by(self: &Arc<Self>, reloads: &mut Reloads) {
        let (secrets, files) = (self.clone(), Files::seen([self.file.clone()]));
        reloads.add("webhook secret", files, move || secrets.reload());
    }

    fn reload(&self) -> Result<(), SecretError> {
        let path = || self.file.display().to_string();
        let text = reload::read(&self.file).map_err(|source| SecretError::Read {
            path: path(),
            source,
        })?;
        let keys = keys(&text).ok_or_else(|| SecretError::Form { path: path() })?;
        *self.keys.lock() = keys.into();
        Ok(())
    }

    /// The header: a signature for each secret, with spaces between.
    pub(super) fn sign(&self, id: &str, at_s: u64, body: &[u8]) -> String {
        let keys = self.keys.lock().clone();
        let signature = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{at_s}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        let signatures: Vec<_> = keys.iter().map(signature).collect();
        signatures.join(" ")
    }
}

fn keys(text: &str) -> Option<Vec<hmac::Key>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let key = |line: &str| {
        let secret = STANDARD.decode(line.strip_prefix(PREFIX)?).ok()?;
        let fits = BYTES.contains(&secret.len());
        fits.then(|| hmac::Key::new(hmac::HMAC_SHA256, &secret))
    };
    let keys = lines.map(key).collect::<Option<Vec<_>>>()?;
    (1..=MAX_SECRETS).contains(&keys.len()).then_some(keys)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn open(text: &str) -> (tempfile::TempDir, Result<Arc<Secrets>, SecretError>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        fs::write(&file, text).unwrap();
        (dir, Secrets::open(file))
    }

    /// Against Python's hmac: base64(HMAC-SHA256(bytes 0 to 31, "msg_1.1700000000.{}")).
    #[test]
    fn a_signature_is_of_id_time_and_body() {
        let (dir, secrets) = open(SECRET);
        let secrets = secrets.unwrap();
        let signed = secrets.sign("msg_1", 1_700_000_000, b"{}");
        assert_eq!(signed, "v1,fhksJF5ElKjlPoT/jtefCO5XjQPvhf7Dhf/8R1ad9yU=");
        assert_ne!(secrets.sign("msg_1", 1_700_000_001, b"{}"), signed);
        let both = format!("{SECRET}\nwhsec_{}\n", STANDARD.encode([7; 24]));
        fs::write(dir.path().join("secret"), both).unwrap();
        secrets.reload().unwrap();
        let twice = secrets.sign("msg_1", 1_700_000_000, b"{}");
        assert!(twice.starts_with(&format!("{signed} v1,")), "{twice}");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_the_old_one_stays() {
        let five = format!("{SECRET}\n").repeat(5);
        for bad in [
            "",
            "secret",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_***",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            &five,
        ] {
            let error = open(bad).1.unwrap_err().to_string();
            assert!(
                error.contains("--webhook-secret") && error.contains("whsec_"),
                "{error}"
            );
        }
        let (dir, secrets) = open(SECRET);
        let secrets = secrets.unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        assert!(secrets.reload().is_err());
        assert!(secrets.sign("a", 1, b"").starts_with("v1,"));
    }
}
