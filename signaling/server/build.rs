//! Embeds the viewer page: generates a table of its files, and the content security policy that the server sends.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// The extensions of files that a browser loads. Tests and notes are not served.
const EXTENSIONS: [&str; 10] =
    ["html", "js", "mjs", "css", "svg", "png", "ico", "json", "webmanifest", "woff2"];
const NOT_SERVED: [&str; 4] = ["test", "tests", "node_modules", "package.json"];

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let viewer = variable("CARGO_MANIFEST_DIR")?.join("../viewer");
    println!("cargo::rerun-if-changed={}", viewer.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    collect(&viewer, "", &mut files)?;
    files.sort();
    let mut table = String::from("pub(super) static FILES: &[(&str, &[u8])] = &[\n");
    for (name, path) in &files {
        let path = path.to_str().ok_or_else(|| io::Error::other("the path to the viewer must be UTF-8"))?;
        table.extend(["    (", &format!("{name:?}, include_bytes!({path:?})"), "),\n"]);
    }
    table += "];\n";
    table.extend(["pub(super) const POLICY: &str = ", &format!("{:?}", policy(&viewer)?), ";\n"]);
    fs::write(variable("OUT_DIR")?.join("viewer_files.rs"), table)
}

/// The policy of index.html, which applies wherever the page is served from, with the part that works in a header only.
fn policy(viewer: &Path) -> io::Result<String> {
    let page = fs::read_to_string(viewer.join("index.html"))?;
    let policy = page
        .split_once("http-equiv=\"Content-Security-Policy\" content=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .ok_or_else(|| io::Error::other("index.html has no Content-Security-Policy"))?
        .0;
    Ok(format!("{policy}; frame-ancestors 'none'"))
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || NOT_SERVED.contains(&name.as_str()) {
            continue;
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files)?;
        } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)) {
            files.push((format!("{prefix}{name}"), path.canonicalize()?));
        }
    }
    Ok(())
}
