//! The directories that migration tools keep, and the order in which they run what is in them.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use super::file::{SqlFile, unusable};
use crate::{Error, Result};

/// Whose manner a directory follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `1_name.sql`, `1_name.up.sql`: sqlx, golang-migrate and others.
    Sqlx,
    /// `V1__name.sql`, `R__name.sql`.
    Flyway,
    /// `supabase/migrations/20260131120000_name.sql`.
    Supabase,
    /// `db/structure.sql`.
    Rails,
    /// A folder for each, as Prisma and Diesel have it.
    Folders,
    /// Any names that begin with a number, in natural order.
    Numbered,
}

impl Style {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlx => "sqlx",
            Self::Flyway => "Flyway",
            Self::Supabase => "Supabase",
            Self::Rails => "Rails",
            Self::Folders => "one folder each",
            Self::Numbered => "numbered files",
        }
    }
}

/// Where a migration tool looks back.
const DOWN: &[&str] = &["-- migrate:down", "-- +goose down", "-- +migrate down", "--//@undo"];
const UP: &[&str] = &["-- migrate:up", "-- +goose up", "-- +migrate up"];

const KNOWN: &str = "known are sqlx (1_name.sql, 1_name.up.sql), Flyway (V1__name.sql), supabase/migrations, Rails' \
                     db/structure.sql, folders with migration.sql or up.sql, and files whose names begin with a number; \
                     --schema takes files in the order given";

/// Reads the migrations of a directory in the order in which they run.
///
/// # Errors
/// [`Error::Script`] where a file or the directory cannot be read, or its manner is none that is known.
pub fn migrations(dir: &Path) -> Result<(Style, Vec<SqlFile>)> {
    if dir.is_file() {
        if dir.file_name().is_some_and(|name| name == "structure.sql") {
            return Ok((Style::Rails, vec![SqlFile::read(dir)?]));
        }
        return Err(unusable(dir.display().to_string(), "it is a file", "--schema reads files"));
    }
    let below = dir.join("migrations");
    let project = dir.file_name().is_some_and(|name| name == "supabase") || dir.join("config.toml").is_file();
    if project && below.is_dir() {
        return migrations(&below);
    }
    let entries = list(dir)?;
    let flyway = flyway(dir)?;
    let (style, paths) =
        if let Some(paths) = flyway { (Style::Flyway, paths) } else { ordered(dir, &entries)? };
    if paths.is_empty() {
        return Err(unusable(dir.display().to_string(), "there is no migration in it", KNOWN));
    }
    let mut files = Vec::new();
    for path in paths {
        let mut file = SqlFile::read(&path)?;
        file.transaction = !matches!(style, Style::Rails | Style::Numbered)
            && file.text.lines().next().is_none_or(|line| line.trim() != "-- no-transaction");
        file.supabase = style == Style::Supabase;
        if style == Style::Flyway {
            refuse_placeholders(&file)?;
        } else {
            file.text = upward(&file.text);
        }
        files.push(file);
    }
    Ok((style, files))
}

/// What is in a directory, by name; what is hidden is not.
fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let wrong = |error: std::io::Error| Error::Script {
        file: dir.display().to_string(),
        line: None,
        what: error.to_string(),
        hint: None,
        cause: None,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(unusable(path.display().to_string(), "its name is not text in UTF-8", "rename it"));
        };
        if !name.starts_with('.') {
            entries.push((name.to_owned(), path));
        }
    }
    entries.sort_by(|(a, _), (b, _)| natural(a, b));
    Ok(entries)
}

fn is_sql(name: &str, path: &Path) -> bool {
    name.ends_with(".sql") && path.is_file()
}

/// The files of a directory that is not Flyway's.
fn ordered(dir: &Path, entries: &[(String, PathBuf)]) -> Result<(Style, Vec<PathBuf>)> {
    let shown = dir.display().to_string();
    let files: Vec<&(String, PathBuf)> = entries.iter().filter(|(name, path)| is_sql(name, path)).collect();
    if let [(name, path)] = files[..]
        && name == "structure.sql"
    {
        return Ok((Style::Rails, vec![path.clone()]));
    }
    if files.is_empty() {
        let folders: Vec<PathBuf> = entries
            .iter()
            .filter(|(name, _)| begins_with_a_number(name))
            .filter_map(|(_, path)| {
                ["migration.sql", "up.sql"].iter().map(|name| path.join(name)).find(|path| path.is_file())
            })
            .collect();
        if folders.is_empty() && entries.iter().any(|(name, _)| name.ends_with(".rb")) {
            let hint = "give it db/structure.sql (config.active_record.schema_format = :sql)";
            return Err(unusable(shown, "migrations in Ruby need Rails to run", hint));
        }
        if folders.is_empty() && entries.iter().any(|(name, _)| name.ends_with(".py")) {
            let hint = "migrate a database and give --schema what pg_dump --schema-only makes of it";
            return Err(unusable(shown, "migrations in Python need their framework to run", hint));
        }
        return Ok((Style::Folders, folders));
    }
    if let Some((name, path)) = files.iter().find(|(name, _)| !begins_with_a_number(name)) {
        let what = format!("nothing says when {name} runs");
        return Err(unusable(path.display().to_string(), what, KNOWN));
    }
    let up: Vec<&(String, PathBuf)> =
        files.into_iter().filter(|(name, _)| !name.ends_with(".down.sql")).collect();
    let versions: Option<Vec<&str>> = up.iter().map(|(name, _)| version(name)).collect();
    let style = match &versions {
        Some(_) if in_supabase(dir) => Style::Supabase,
        Some(_) => Style::Sqlx,
        None => Style::Numbered,
    };
    for pair in versions.as_deref().unwrap_or_default().windows(2).zip(up.windows(2)) {
        if natural(pair.0[0], pair.0[1]) == Ordering::Equal {
            let what = format!("{} and {} have the same version", pair.1[0].0, pair.1[1].0);
            return Err(unusable(shown, what, "give each migration a version of its own"));
        }
    }
    Ok((style, up.into_iter().map(|(_, path)| path.clone()).collect()))
}

/// The number before the first underscore.
fn version(name: &str) -> Option<&str> {
    let (version, _) = name.split_once('_')?;
    version.bytes().all(|byte| byte.is_ascii_digit()).then_some(version)
}

fn begins_with_a_number(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_digit())
}

fn in_supabase(dir: &Path) -> bool {
    let whole = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    whole.parent().and_then(Path::file_name).is_some_and(|name| name == "supabase")
}

/// What the prefix of a file says to Flyway.
enum Kind {
    Versioned(Vec<u64>),
    Baseline(Vec<u64>),
    Repeatable(String),
    Undo,
}

/// Flyway's files in its order, if the directory or one below it holds such.
fn flyway(dir: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for (name, path) in list(&folder)? {
            // A link to a directory may lead back here.
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if is_sql(&name, &path) {
                files.push((flyway_kind(&name), path));
            }
        }
    }
    if !files.iter().any(|(kind, _)| matches!(kind, Some(Kind::Versioned(_) | Kind::Baseline(_)))) {
        return Ok(None);
    }
    let (mut versioned, mut baselines, mut repeatable) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, path) in files {
        match kind {
            Some(Kind::Versioned(version)) => versioned.push((version, path)),
            Some(Kind::Baseline(version)) => baselines.push((version, path)),
            Some(Kind::Repeatable(name)) => repeatable.push((name, path)),
            Some(Kind::Undo) => {}
            None => {
                let hint = "Flyway's are V1__name.sql, U1__name.sql, B1__name.sql and R__name.sql; callbacks are not run";
                return Err(unusable(path.display().to_string(), "it is no migration of Flyway's", hint));
            }
        }
    }
    versioned.sort();
    repeatable.sort();
    // A new database begins at the last baseline.
    let mut order = Vec::new();
    if let Some((start, path)) = baselines.into_iter().max() {
        versioned.retain(|(version, _)| *version > start);
        order.push(path);
    }
    if let Some(pair) = versioned.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let what = format!("it has the same version as {}", pair[0].1.display());
        let hint = "give each migration a version of its own";
        return Err(unusable(pair[1].1.display().to_string(), what, hint));
    }
    order.extend(versioned.into_iter().map(|(_, path)| path));
    order.extend(repeatable.into_iter().map(|(_, path)| path));
    Ok(Some(order))
}

fn flyway_kind(name: &str) -> Option<Kind> {
    let (head, description) = name.strip_suffix(".sql")?.split_once("__")?;
    let prefix = head.chars().next()?;
    let rest = &head[prefix.len_utf8()..];
    if prefix == 'R' {
        return rest.is_empty().then(|| Kind::Repeatable(description.to_owned()));
    }
    let parts: Result<Vec<u64>, _> = rest.split(['.', '_']).map(str::parse).collect();
    let mut version = parts.ok()?;
    // 1 and 1.0 are the same.
    while version.len() > 1 && version.last() == Some(&0) {
        version.pop();
    }
    match prefix {
        'V' => Some(Kind::Versioned(version)),
        'B' => Some(Kind::Baseline(version)),
        'U' => Some(Kind::Undo),
        _ => None,
    }
}

/// Flyway would put something in their place, and nobody says what.
fn refuse_placeholders(file: &SqlFile) -> Result<()> {
    let named = |line: &str| {
        line.match_indices("${").any(|(at, _)| {
            let name = line[at + 2..].split('}').next().unwrap_or_default();
            line[at..].contains('}') && name.starts_with(|first: char| first.is_alphabetic())
        })
    };
    match file.text.lines().position(|line| !line.trim_start().starts_with("--") && named(line)) {
        None => Ok(()),
        Some(line) => {
            let hint = "write out what stands for ${…}, and give the files to --schema";
            Err(file.wrong(line + 1, "placeholders are not supported", Some(hint)))
        }
    }
}

/// A migration without the part that takes it back; the lines stay where they are.
fn upward(text: &str) -> String {
    let mut down = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let marker = line.trim().to_lowercase();
        if DOWN.iter().any(|begin| marker.starts_with(begin)) {
            down = true;
        } else if UP.iter().any(|begin| marker.starts_with(begin)) {
            down = false;
        }
        kept.push_str(if down { "\n" } else { line });
    }
    kept
}

/// Numbers by their value, everything else by its letters.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let (one, rest_one) = run(left);
        let (two, rest_two) = run(right);
        let digits = |part: &str| part.starts_with(|first: char| first.is_ascii_digit());
        let order = if digits(one) && digits(two) {
            let (one, two) = (one.trim_start_matches('0'), two.trim_start_matches('0'));
            one.len().cmp(&two.len()).then_with(|| one.cmp(two))
        } else {
            one.cmp(two)
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (rest_one, rest_two);
    }
    left.len().cmp(&right.len())
}

/// The digits, or the rest, that a text begins with; and what follows.
fn run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|first: char| first.is_ascii_digit());
    text.split_at(text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a directory of these files and reads it.
    fn read(files: &[&str]) -> Result<(Style, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "SELECT 1;\n").unwrap();
        }
        let begin =
            dir.path().join(if files[0].starts_with("supabase/") { "supabase/migrations" } else { "" });
        let (style, files) = migrations(&begin).map_err(|error| error.to_string())?;
        let strip = |file: SqlFile| Path::new(&file.name).strip_prefix(&begin).unwrap().display().to_string();
        Ok((style, files.into_iter().map(strip).collect()))
    }

    #[track_caller]
    fn is(files: &[&str], style: Style, order: &[&str]) {
        assert_eq!(read(files), Ok((style, order.iter().map(ToString::to_string).collect())));
    }

    #[track_caller]
    fn refused(files: &[&str], says: &str) {
        let error = read(files).unwrap_err();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn each_tool_has_its_order() {
        is(
            &["10_b.up.sql", "9_a.up.sql", "9_a.down.sql", "x.txt"],
            Style::Sqlx,
            &["9_a.up.sql", "10_b.up.sql"],
        );
        is(&["0002_b.sql", "0001_a.sql"], Style::Sqlx, &["0001_a.sql", "0002_b.sql"]);
        is(
            &[
                "R__z.sql",
                "V2__b.sql",
                "V1_10__d.sql",
                "V1.2__c.sql",
                "sub/V1__a.sql",
                "U1__a.sql",
                "R__a.sql",
            ],
            Style::Flyway,
            &["sub/V1__a.sql", "V1.2__c.sql", "V1_10__d.sql", "V2__b.sql", "R__a.sql", "R__z.sql"],
        );
        is(
            &["V1__a.sql", "B2__all.sql", "V3__c.sql", "V2__b.sql"],
            Style::Flyway,
            &["B2__all.sql", "V3__c.sql"],
        );
        is(
            &["supabase/migrations/20260201000000_b.sql", "supabase/migrations/20260101000000_a.sql"],
            Style::Supabase,
            &["20260101000000_a.sql", "20260201000000_b.sql"],
        );
        is(&["structure.sql", "seeds.rb"], Style::Rails, &["structure.sql"]);
        is(
            &["10-b.sql", "2.sql", "02b.sql", "1.1.sql"],
            Style::Numbered,
            &["1.1.sql", "2.sql", "02b.sql", "10-b.sql"],
        );
        is(&["2_b/up.sql", "1_a/up.sql", "1_a/down.sql"], Style::Folders, &["1_a/up.sql", "2_b/up.sql"]);
    }

    #[test]
    fn what_has_no_order_is_refused() {
        refused(&["1_a.sql", "roles.sql"], "nothing says when roles.sql runs");
        refused(&["1_a.sql", "01_b.sql"], "have the same version");
        refused(&["V1__a.sql", "V1.0__b.sql"], "same version");
        refused(&["V1__a.sql", "beforeMigrate.sql"], "no migration of Flyway's");
        refused(&["20260101_a.rb"], "Ruby");
        refused(&["README.md"], "no migration in it");
    }

    #[test]
    fn a_way_back_is_left_out() {
        let text = "-- migrate:up\nCREATE TABLE t ();\n-- migrate:down\nDROP TABLE t;\n";
        assert_eq!(upward(text), "-- migrate:up\nCREATE TABLE t ();\n\n\n");
        assert_eq!(upward("-- +goose Down\nDROP;\n-- +goose Up\nCREATE;"), "\n\n-- +goose Up\nCREATE;");
        assert_eq!(upward("SELECT 1;"), "SELECT 1;");
    }

    #[test]
    fn placeholders_are_refused() {
        let file = |text: &str| SqlFile {
            name: "V1__a.sql".into(),
            text: text.into(),
            transaction: true,
            supabase: false,
        };
        let error = refuse_placeholders(&file("SELECT 1;\nSELECT '${schema}';")).unwrap_err().to_string();
        assert_eq!(error, "V1__a.sql:2: placeholders are not supported");
        assert!(refuse_placeholders(&file("-- ${x}\nSELECT $${$$, '${', '${1}';")).is_ok());
    }
}
