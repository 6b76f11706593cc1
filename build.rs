//! Finds the isolation checks: adding a file under `sql/rls/checks` adds a check.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("sql/rls/checks");
    println!("cargo::rerun-if-changed={}", folder.display());
    // sqlx::migrate! reads the folder while the library is compiled.
    println!("cargo::rerun-if-changed=migrations");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let severity = match header(&fs::read_to_string(file)?, "severity") {
            Some("error") => "Error",
            Some("warning") => "Warning",
            Some("note") => "Note",
            _ => return Err(wrong(file, "its header's severity is not error, warning or note")),
        };
        let id = file.file_stem().and_then(|stem| stem.to_str()).ok_or_else(|| wrong(file, "odd name"))?;
        writeln!(
            list,
            "    Check {{ id: {id:?}, severity: Severity::{severity}, source: include_str!({:?}) }},",
            file.display().to_string()
        )
        .map_err(io::Error::other)?;
    }
    list.push(']');
    fs::write(PathBuf::from(variable("OUT_DIR")?).join("checks.rs"), list)
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(io::Error::other)
}

fn header<'a>(source: &'a str, key: &str) -> Option<&'a str> {
    source.lines().find_map(|line| line.strip_prefix("-- ")?.strip_prefix(key)?.strip_prefix(": "))
}

fn wrong(file: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{}: {what}", file.display()))
}
