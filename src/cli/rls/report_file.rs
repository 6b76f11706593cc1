//! `--report FORM=FILE`: reports in files, complete or not there.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tempfile::NamedTempFile;
use tenancy::rls::Report;
use tenancy::rls::report::Form;
use tenancy::{Error, Result};

/// The names of the forms, as clap checks, lists and completes them.
pub(super) fn forms() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new(Form::ALL.map(|(name, _)| name)).try_map(|name| name.parse::<Form>())
}

/// A report that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct ReportFile {
    form: Form,
    path: PathBuf,
}

impl FromStr for ReportFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (form, path) = text.split_once('=').unwrap_or((text, ""));
        let form = form.parse()?;
        if matches!(path, "" | "-") {
            return Err(Error::Invalid {
                field: "report",
                value: text.into(),
                reason: "it names no file".into(),
                hint: Some(
                    "write --report sarif=out.sarif; --format says what goes to standard output".into(),
                ),
            });
        }
        Ok(Self { form, path: path.into() })
    }
}

/// A file that takes its place once it is complete. Until then it is a temporary one beside it, which goes away when
/// this is dropped.
pub(super) struct Pending {
    form: Form,
    name: PathBuf,
    /// Where it goes: the name, or what a link of that name points at.
    target: PathBuf,
    file: NamedTempFile,
}

/// Makes sure that every report can be written, before a long run and not after it.
pub(super) fn open(reports: &[ReportFile]) -> Result<Vec<Pending>> {
    let mut pending: Vec<Pending> = Vec::new();
    for report in reports {
        let one = Pending::open(report)?;
        if pending.iter().any(|other| other.target == one.target) {
            return Err(refused(&report.path, "two reports would go to this file"));
        }
        pending.push(one);
    }
    Ok(pending)
}

fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::invalid("report", path.display().to_string(), reason)
}

impl Pending {
    fn open(report: &ReportFile) -> Result<Self> {
        let wrong = |error: io::Error| refused(&report.path, error.to_string());
        let folder = match report.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let target = match fs::canonicalize(&report.path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name =
                    report.path.file_name().ok_or_else(|| refused(&report.path, "it is no file name"))?;
                fs::canonicalize(folder).map_err(wrong)?.join(name)
            }
            Err(error) => return Err(wrong(error)),
        };
        match fs::metadata(&target) {
            // A device or a pipe would be replaced, not written to.
            Ok(found) if !found.is_file() => {
                return Err(refused(&report.path, "it is there, and no regular file"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(error)),
        }
        let file = tempfile::Builder::new()
            .prefix(".tenantctl-report-")
            // As any other file: what the umask leaves of it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(target.parent().unwrap_or(folder))
            .map_err(wrong)?;
        Ok(Self { form: report.form, name: report.path.clone(), target, file })
    }

    pub(super) fn name(&self) -> String {
        self.name.display().to_string()
    }

    pub(super) fn write(mut self, report: &Report) -> anyhow::Result<()> {
        let context = format!("the report could not be written to {}", self.name.display());
        let text = self.form.render(report, false).with_context(|| context.clone())?;
        self.file.write_all(text.as_bytes()).with_context(|| context.clone())?;
        self.file.persist(&self.target).map_err(|error| error.error).context(context)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_and_a_file() {
        let good: ReportFile = "sarif=out/a=b.sarif".parse().unwrap();
        assert_eq!((good.form, good.path), (Form::Sarif, PathBuf::from("out/a=b.sarif")));
        for bad in ["sarif", "sarif=", "sarif=-", "out.sarif", "=x"] {
            assert!(bad.parse::<ReportFile>().is_err(), "{bad}");
        }
        let error = "sarf=x".parse::<ReportFile>().unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean \"sarif\"?"));
    }

    #[test]
    fn nothing_is_left_of_a_report_that_was_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| ReportFile { form: Form::Tap, path: folder.path().join(name) };
        drop(open(&[file("a.tap"), file("b.tap")]).unwrap());
        assert!(open(&[file("a.tap"), file("./a.tap")]).is_err());
        assert!(open(&[file("missing/a.tap")]).is_err());
        assert!(open(&[ReportFile { form: Form::Tap, path: "/dev/null".into() }]).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
