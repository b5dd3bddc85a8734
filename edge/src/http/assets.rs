//! The watch page's files, and the policy that goes with them.

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue};

use super::{
    body::Body,
    negotiate,
    response::{self, Answer},
    service::{Asked, varies},
};
use crate::{chat::Chat, page};

/// `None` for a path that names no file.
pub(super) fn answer(asked: &Asked<'_>, path: &str) -> Option<Answer> {
    let chat = asked.server.chat.as_ref();
    if path == page::SIGN_IN && !chat.is_some_and(Chat::signs_in) {
        return None;
    }
    let asset = page::lookup(path)?;
    let gzip = asset.gzip.filter(|_| asked.gzip());
    let (body, etag) = match gzip {
        Some(compressed) => (compressed, asset.gzip_etag),
        None => (asset.body, asset.etag),
    };
    let mut answer = response::found(
        Body::whole(Bytes::from_static(body)),
        HeaderValue::from_static(asset.content_type),
        HeaderValue::from_static(asset.cache_control),
        HeaderValue::from_static(etag),
    );
    varies(&mut answer);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy(asked, asset));
    for (name, value) in page::HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    if gzip.is_some() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if negotiate::not_modified(asked.fields, etag.as_bytes()) {
        return Some(response::unchanged(answer));
    }
    Some(answer)
}

/// A page may also ask other edges, and show emotes that lie elsewhere.
fn policy(asked: &Asked<'_>, asset: &page::Asset) -> HeaderValue {
    let plain = HeaderValue::from_static(asset.csp);
    if !asset.content_type.starts_with("text/html") {
        return plain;
    }
    let emotes = asked.server.chat.as_ref().map(Chat::emotes);
    let images = emotes.iter().flat_map(|emotes| emotes.origins());
    let policy = page::policy(images, &asked.server.config.alternatives);
    HeaderValue::try_from(policy).unwrap_or(plain)
}
