//! Turns the web client into a table of assets for `edge::page`.
//!
//! In: `web/dist`, which `deploy/web` builds, or `web/fallback` where it was
//! not built. Out: `OUT_DIR/page_assets.rs` and the assets, plain and gzipped, beside it.
//! With `MILLRACE_REQUIRE_WEB=1` a missing bundle is an error, so that what is
//! shipped cannot lack it by accident.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Below this size an answer fits one packet either way.
const GZIP_FROM_BYTES: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let web = root.join("web");
    let dist = web.join("dist");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=MILLRACE_REQUIRE_WEB");
    let has_bundle = dist.join("index.html").is_file();
    let source = if has_bundle {
        println!("cargo:rerun-if-changed={}", dist.display());
        dist
    } else {
        if env::var("MILLRACE_REQUIRE_WEB").is_ok_and(|value| value == "1") {
            return Err("edge/web/dist is missing: run deploy/web".into());
        }
        println!(
            "cargo:warning=the page is built without hls.js: run deploy/web, then build again"
        );
        // Watching a path that does not exist would rebuild on every run; its
        // parent changes when the bundle appears.
        println!("cargo:rerun-if-changed={}", web.display());
        web.join("fallback")
    };

    let mut files = Vec::new();
    list(&source, &source, &mut files)?;
    files.sort();
    let mut table = format!("pub(super) const HAS_BUNDLE: bool = {has_bundle};\n");
    table.push_str("pub(super) static ASSETS: &[(&str, Asset)] = &[\n");
    for (index, name) in files.iter().enumerate() {
        let path = source.join(name);
        let body = fs::read(&path)?;
        entry(&mut table, name, &body, &out, index)?;
    }
    table.push_str("];\n");
    fs::write(out.join("page_assets.rs"), table)?;
    Ok(())
}

fn list(root: &Path, dir: &Path, files: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, files)?;
        } else {
            let name = path
                .strip_prefix(root)?
                .to_str()
                .ok_or("an asset's name is not UTF-8")?;
            files.push(name.replace('\\', "/"));
        }
    }
    Ok(())
}

/// One line of the table. Assets are named by where they are beside it: a path of this
/// machine in its text would make another program of it elsewhere.
fn entry(
    table: &mut String,
    name: &str,
    body: &[u8],
    out: &Path,
    index: usize,
) -> Result<(), Box<dyn Error>> {
    let file = format!("asset-{index}");
    fs::write(out.join(&file), body)?;
    let packed = gzip(body)?;
    let gzip = if body.len() >= GZIP_FROM_BYTES && packed.len() < body.len() {
        let file = format!("{file}.gz");
        fs::write(out.join(&file), &packed)?;
        format!("Some(include_bytes!({file:?}))")
    } else {
        "None".to_owned()
    };
    // Only names that carry a hash of their content may be kept for ever.
    let cache_control = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let etag = hash(body);
    writeln!(
        table,
        "    ({:?}, Asset {{ content_type: {:?}, body: include_bytes!({file:?}), gzip: {gzip}, \
         etag: \"\\\"{etag}\\\"\", gzip_etag: \"\\\"{etag}-gzip\\\"\", cache_control: {cache_control:?}, csp: CSP }}),",
        format!("/{name}"),
        content_type(name)?,
    )?;
    Ok(())
}

fn gzip(body: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

fn content_type(name: &str) -> Result<&'static str, Box<dyn Error>> {
    match Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str())
    {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("txt") => Ok("text/plain; charset=utf-8"),
        _ => Err(format!("no content type is known for {name}").into()),
    }
}

/// FNV-1a over 128 bits: enough to tell two builds of one file apart, which is
/// all that an entity tag has to do.
fn hash(body: &[u8]) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = body.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    });
    format!("{hash:032x}")
}
