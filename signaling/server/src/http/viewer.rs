//! The files of the viewer page, which are embedded in the server.

/// The files of the page by name, made by build.rs.
mod files {
    include!(concat!(env!("OUT_DIR"), "/viewer_files.rs"));
}

/// The content security policy of every response. build.rs takes it from index.html, its only source, and adds what works
/// in a header only: no page may frame this one.
pub(crate) const CONTENT_SECURITY_POLICY: &str = files::POLICY;

/// The content and the media type of the file at a path of a URL. `/` is the page itself.
pub(crate) fn file(path: &str) -> Option<(&'static [u8], &'static str)> {
    let name = path.strip_prefix('/')?;
    let name = if name.is_empty() { "index.html" } else { name };
    let (_, content) = files::FILES.iter().find(|(known, _)| *known == name)?;
    Some((content, content_type(name)))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/vnd.microsoft.icon",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}
