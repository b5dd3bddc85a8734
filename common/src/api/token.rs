//! The bearer token of an operator's tools: the first line of a file, kept and
//! compared as its SHA-256, in constant time. A file with a mistake changes nothing.

use std::{io, path::PathBuf, sync::Arc};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{self, SHA256},
};
use clap::Args;
use parking_lot::Mutex;

use crate::reload::{self, Files, Reloads};

/// 22 characters of base64 hold 128 bits; fewer can be guessed.
const SAFE_TOKEN_CHARS: usize = 22;
const MAX_TOKEN_CHARS: usize = 512;

/// Flags of the web API on the ops port.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Operations")]
pub struct ApiConfig {
    /// File whose first line is the bearer token for the ops port's API (links, drain; on an origin keys, titles, ends of broadcasts and moderation too), 22 characters or more; read again when it changes and on SIGHUP; without it nothing there can be changed
    #[arg(long, env = "MILLRACE_API_TOKEN", value_name = "FILE")]
    pub api_token: Option<PathBuf>,
}

impl ApiConfig {
    /// `None` without the flag.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn token(&self) -> Result<Option<Arc<TokenFile>>, TokenError> {
        let file = self.api_token.clone();
        file.map(|file| TokenFile::open("--api-token", file))
            .transpose()
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{flag} {path}: {source}")]
    Read {
        flag: &'static str,
        path: String,
        source: io::Error,
    },
    #[error(
        "{flag} {path}: the first line is to be a token of 22 to 512 characters without white space"
    )]
    Form { flag: &'static str, path: String },
}

/// See the module's text.
#[derive(Debug)]
pub struct TokenFile {
    flag: &'static str,
    file: PathBuf,
    hash: Mutex<Vec<u8>>,
}

impl TokenFile {
    /// Reads the file that `flag` names.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(flag: &'static str, file: PathBuf) -> Result<Arc<Self>, TokenError> {
        let token = Self {
            flag,
            file,
            hash: Mutex::default(),
        };
        token.reload()?;
        Ok(Arc::new(token))
    }

    /// Has the file read again when it changes; `what` is its name in the metrics.
    pub fn watched_by(self: &Arc<Self>, what: &'static str, reloads: &mut Reloads) {
        let (token, files) = (self.clone(), Files::seen([self.file.clone()]));
        reloads.add(what, files, move || token.reload());
    }

    /// Reads the file now. Blocks on it.
    ///
    /// # Errors
    /// [`TokenError`]; the old token stays.
    pub fn reload(&self) -> Result<(), TokenError> {
        let (flag, path) = (self.flag, self.file.display().to_string());
        let text = match reload::read(&self.file) {
            Ok(text) => text,
            Err(source) => return Err(TokenError::Read { flag, path, source }),
        };
        let token = text.lines().next().unwrap_or_default().trim();
        let fits = (SAFE_TOKEN_CHARS..=MAX_TOKEN_CHARS).contains(&token.len());
        if !fits || token.contains(char::is_whitespace) {
            return Err(TokenError::Form { flag, path });
        }
        *self.hash.lock() = hash(token);
        Ok(())
    }

    /// Whether an Authorization header shows the token (RFC 6750, 2.1).
    #[must_use]
    pub fn lets_in(&self, authorization: Option<&str>) -> bool {
        let token = authorization.and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let known = self.hash.lock().clone();
        token.is_some_and(|token| verify_slices_are_equal(&hash(token), &known).is_ok())
    }
}

fn hash(token: &str) -> Vec<u8> {
    digest::digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TOKEN: &str = "sK8mVYJ0rT4cW1xQ7nZbEg";

    fn file(text: &str) -> (tempfile::TempDir, Result<Arc<TokenFile>, TokenError>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, text).unwrap();
        let token = TokenFile::open("--api-token", file);
        (dir, token)
    }

    #[test]
    fn only_the_token_lets_in() {
        let (_dir, token) = file(&format!("{TOKEN}\nanother line\n"));
        let token = token.unwrap();
        for good in [format!("Bearer {TOKEN}"), format!("bearer  {TOKEN} ")] {
            assert!(token.lets_in(Some(&good)), "{good}");
        }
        let wrong = format!("Bearer {TOKEN}x");
        let basic = format!("Basic {TOKEN}");
        for bad in [
            None,
            Some(TOKEN),
            Some("Bearer"),
            Some(&*wrong),
            Some(&*basic),
        ] {
            assert!(!token.lets_in(bad), "{bad:?}");
        }
        assert!(!format!("{token:?}").contains(TOKEN));
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused_and_the_old_one_stays() {
        for bad in [
            "",
            "short",
            &format!("\n{TOKEN}"),
            "two words of a token that is long",
        ] {
            let error = file(bad).1.unwrap_err().to_string();
            assert!(
                error.contains("--api-token") && error.contains("22"),
                "{error}"
            );
        }
        let (dir, token) = file(TOKEN);
        let token = token.unwrap();
        fs::write(dir.path().join("token"), "x").unwrap();
        assert!(token.reload().is_err());
        assert!(token.lets_in(Some(&format!("Bearer {TOKEN}"))));
        assert!(ApiConfig::default().token().unwrap().is_none());
    }
}
