//! `rls verify` on a corpus: each leak planted alone into a platform that is otherwise safe, and what only looks like one.

use std::collections::VecDeque;

use crate::common::verify;
use tenancy::rls::{Contract, Options, Report, Severity};
use tokio::task::JoinSet;

use crate::common::{self, Database};

const BASE: &str = include_str!("corpus/base.sql");
const CONTRACT: &str = include_str!("corpus/contract.yaml");

/// Databases at once.
const AT_ONCE: usize = 4;

struct Entry {
    name: String,
    checks: Vec<String>,
    sql: String,
}

/// The entries of a file: a line `-- <kind> <name>: <check>, …`, and SQL up to the next.
fn entries(text: &str, kind: &str) -> VecDeque<Entry> {
    let mark = format!("-- {kind} ");
    let mut entries = VecDeque::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix(&mark) {
            let (name, checks) = header.split_once(':').unwrap_or((header, ""));
            let checks = checks.split(',').map(str::trim).filter(|check| !check.is_empty());
            entries.push_back(Entry {
                name: name.into(),
                checks: checks.map(Into::into).collect(),
                sql: String::new(),
            });
        } else if let Some(entry) = entries.back_mut() {
            entry.sql.push_str(line);
            entry.sql.push('\n');
        }
    }
    entries
}

/// What verification says of the platform with that planted.
async fn report(sql: &str) -> Report {
    let database = Database::empty().await;
    let named = |text: &str| text.replace('@', &format!("{}_", database.name));
    common::execute(&database.options, &named(BASE)).await;
    common::execute(&database.options, &named(sql)).await;
    let contract = Contract::parse(&named(CONTRACT), "contract.yaml").expect("a contract");
    let options = Options { contract: Some(contract), strict: true, ..Options::default() };
    let report = verify(&database.options, &options).await.expect("a report");
    // No role that bypasses stays for the tests beside this one to see.
    common::execute(
        &database.options,
        &format!(
            "DO $$ DECLARE name text; BEGIN
                FOR name IN SELECT rolname FROM pg_roles WHERE starts_with(rolname, '{}_') LOOP
                    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION NOLOGIN', name);
                END LOOP;
            END $$",
            database.name
        ),
    )
    .await;
    report
}

/// Plants each entry; what `judge` objects to, by the entry's name.
async fn plant(mut entries: VecDeque<Entry>, judge: fn(&Entry, &Report) -> Option<String>) -> Vec<String> {
    let mut running = JoinSet::new();
    let mut wrong = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(entry) = entries.pop_front()
        {
            running.spawn(async move {
                let report = report(&entry.sql).await;
                judge(&entry, &report).map(|what| format!("{}: {what}", entry.name))
            });
        }
        let Some(done) = running.join_next().await else { return wrong };
        wrong.extend(done.expect("no panic"));
    }
}

fn said(report: &Report) -> String {
    let findings = report.findings.iter().map(|finding| {
        format!("{:?} {} {} ({})", finding.severity, finding.check, finding.object, finding.message)
    });
    let unproven = report.not_proven.iter().map(|table| format!("not proven: {table:?}"));
    findings.chain(unproven).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn every_leak_is_found_by_the_checks_that_are_for_it() {
    let entries = entries(include_str!("corpus/leaks.sql"), "leak");
    assert!(entries.len() > 70);
    let wrong = plant(entries, |entry, report| {
        let missing: Vec<&str> = entry
            .checks
            .iter()
            .map(String::as_str)
            .filter(|check| {
                !report
                    .findings
                    .iter()
                    .any(|finding| finding.check == *check && finding.severity >= Severity::Warning)
            })
            .collect();
        (!missing.is_empty()).then(|| format!("no {}, but {}", missing.join(", "), said(report)))
    })
    .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_only_looks_like_a_leak_is_passed() {
    let mut entries = entries(include_str!("corpus/safe.sql"), "safe");
    assert!(entries.len() > 10);
    entries.push_front(Entry { name: "nothing planted".into(), checks: Vec::new(), sql: String::new() });
    let wrong = plant(entries, |_, report| (!report.summary.passed).then(|| said(report))).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
