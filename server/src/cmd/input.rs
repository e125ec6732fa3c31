//! FHIR files on disk: JSON (a resource or Bundle) and NDJSON (one a line), in any folder depth.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::http::request::LIMITS;

/// All `.json` and `.ndjson` files under the paths, folders walked in name order so that
/// two runs see the same sequence.
pub(super) fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let meta = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        if meta.is_dir() {
            walk(path, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if is_ndjson(&path) || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_ndjson(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("ndjson"))
}

/// Calls `each` with every text of the file: the whole of it, or each line of an NDJSON file,
/// with the line's number (from 1; 0 for a whole file).
pub(super) fn texts(
    path: &Path,
    mut each: impl FnMut(usize, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let file = std::fs::File::open(path)?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    if !is_ndjson(path) {
        let mut text = Vec::new();
        // One byte more shows that it is too long, which the parser then says.
        reader.take(LIMITS.bytes as u64 + 1).read_to_end(&mut text)?;
        return each(0, &text);
    }
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            each(number, text)?;
        }
    }
    Ok(())
}

/// A progress bar over `length` steps, silent unless stderr is a terminal.
/// Counts what nobody knows the number of.
pub(super) fn counter() -> indicatif::ProgressBar {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        indicatif::ProgressBar::no_length()
    } else {
        indicatif::ProgressBar::hidden()
    }
}

pub(super) fn progress(length: usize) -> indicatif::ProgressBar {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        indicatif::ProgressBar::new(length as u64)
    } else {
        indicatif::ProgressBar::hidden()
    }
}
