//! The viewer page, which is part of the program.

/// The files of the page by their names, made by build.rs.
mod files {
    include!(concat!(env!("OUT_DIR"), "/viewer_files.rs"));
}

/// What a page from here may do: run its own scripts and styles, show media that it received, and open WebSockets to
/// whatever server it is asked to watch. Nothing may frame it.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; font-src 'self'; manifest-src 'self'; media-src 'self' blob: mediastream:; \
    connect-src * ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The content and its type of the file that a path of a URL names, `/` being the page itself.
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
