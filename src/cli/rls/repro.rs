//! `--repro DIR`: for each leak a script that shows it.

use std::fs;
use std::path::Path;

use anyhow::Context;
use tenancy::rls::Report;

/// Writes the scripts, named by check and fingerprint. Gives their paths.
pub(super) fn write(report: &Report, folder: &Path) -> anyhow::Result<Vec<String>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut written = Vec::new();
    for finding in &report.findings {
        let Some(script) = report.scripts.get(&(finding.check.clone(), finding.object.clone())) else {
            continue;
        };
        let path = folder.join(format!("{}-{}.sql", finding.check, finding.fingerprint));
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}
