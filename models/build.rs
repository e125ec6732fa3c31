//! Lists the bundles of `bundles/` for embedding: a new model is a new folder, nothing else.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    found.retain(|path| !name(path).starts_with('.'));
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn main() -> io::Result<()> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let bundles = root.join("bundles");
    println!("cargo::rerun-if-changed={}", bundles.display());
    let mut out = String::from("pub(crate) const VALUE_SETS: &[&[u8]] = &[\n");
    for file in sorted(&bundles.join("valuesets"))? {
        writeln!(out, "    include_bytes!({:?}),", file.display().to_string()).map_err(io::Error::other)?;
    }
    out.push_str("];\npub(crate) const BUNDLES: &[&[(&str, &[u8])]] = &[\n");
    for model in sorted(&bundles)?.into_iter().filter(|p| p.is_dir() && name(p) != "valuesets") {
        for version in sorted(&model)?.into_iter().filter(|p| p.is_dir()) {
            out.push_str("    &[\n");
            for file in sorted(&version)? {
                writeln!(
                    out,
                    "        ({:?}, include_bytes!({:?})),",
                    name(&file),
                    file.display().to_string()
                )
                .map_err(io::Error::other)?;
            }
            out.push_str("    ],\n");
        }
    }
    out.push_str("];\n");
    let target = PathBuf::from(std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(target.join("bundles.rs"), out)
}
