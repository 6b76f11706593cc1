//! `rls verify --contract`: platforms of other makers, each clean and with a leak, none with a control plane.

#[path = "rls_contract/clean.rs"]
mod clean;
#[path = "rls_contract/init.rs"]
mod init;
#[path = "rls_contract/platforms.rs"]
mod platforms;
#[path = "rls_contract/styles.rs"]
mod styles;

use crate::common::verify;
use tenancy::rls::report::Verdict;
use tenancy::rls::{Contract, Options, Report, Severity};

use crate::common::{self, Database};
use platforms::Platform;

/// A platform in a database of its own. Its roles, which belong to the whole server, start with the database's name.
struct Built {
    database: Database,
    contract: String,
}

impl Built {
    async fn new(platform: &Platform) -> Self {
        let database = Database::empty().await;
        let named = |text: &str| text.replace("@", &format!("{}_", database.name));
        common::execute(&database.options, &named(platform.schema)).await;
        let contract = named(platform.contract);
        Self { database, contract }
    }

    async fn change(&self, sql: &str) {
        common::execute(&self.database.options, &sql.replace("@", &format!("{}_", self.database.name))).await;
    }

    async fn verified(&self) -> Report {
        self.verified_by(&self.contract).await
    }

    async fn verified_by(&self, contract: &str) -> Report {
        let contract = Contract::parse(contract, "isolation.yaml").expect("a contract");
        let options = Options { contract: Some(contract), strict: true, ..Options::default() };
        verify(&self.database.options, &options).await.expect("a report")
    }
}

#[track_caller]
fn assert_proven(report: &Report) {
    assert!(report.summary.passed, "{report:#?}");
    assert!(!report.tables.is_empty(), "{report:#?}");
    assert!(
        report.tables.iter().all(|table| table.verdict == Verdict::Proven && table.tried > 0),
        "{report:#?}"
    );
}

#[track_caller]
fn assert_leak(report: &Report, check: &str, object: &str) {
    let found = report.findings.iter().find(|finding| finding.check == check && finding.object == object);
    let found = found.unwrap_or_else(|| panic!("no {check} on {object}: {report:#?}"));
    assert_eq!(found.severity, Severity::Error, "{found:#?}");
    let leaks = report.tables.iter().any(|table| table.object == object && table.verdict == Verdict::Leak);
    assert!(leaks, "{report:#?}");
}

/// Clean it is proven; with each leak that is found.
async fn prove(platform: &Platform) {
    let built = Built::new(platform).await;
    let before = built.database.sql(platform.state);
    assert_proven(&built.verified().await);
    for (plant, undo, check, object) in platform.leaks {
        built.change(plant).await;
        assert_leak(&built.verified().await, check, object);
        built.change(undo).await;
    }
    assert_proven(&built.verified().await);
    assert_eq!(built.database.sql(platform.state), before, "everything is rolled back");
}

#[tokio::test]
async fn supabase_with_memberships() {
    prove(&platforms::SUPABASE).await;
}

#[tokio::test]
async fn postgrest_with_a_tenant_in_the_claims() {
    prove(&platforms::POSTGREST).await;
}

#[tokio::test]
async fn django_with_integer_keys() {
    prove(&platforms::DJANGO).await;
}

#[tokio::test]
async fn rails_with_accounts() {
    prove(&platforms::RAILS).await;
}

#[tokio::test]
async fn a_hand_written_one_with_odd_names() {
    prove(&platforms::HAND_WRITTEN).await;
}

#[tokio::test]
async fn what_the_context_does_not_show_is_not_proven() {
    let built = Built::new(&platforms::HAND_WRITTEN).await;
    // The policies read another setting: no tenant sees its own rows.
    let report = built.verified_by(&built.contract.replace("app.tenant", "app.other")).await;
    assert!(!report.summary.passed, "{report:#?}");
    assert!(report.tables.iter().all(|table| table.verdict == Verdict::NotProven), "{report:#?}");
    assert!(report.not_proven[0].reason.contains("does not see its own tenant's row"), "{report:#?}");

    let built = Built::new(&platforms::SUPABASE).await;
    let report =
        built.verified_by(&built.contract.replace("INTO public.members", "INTO public.nobody")).await;
    assert!(report.tables.iter().all(|table| table.verdict == Verdict::NotProven), "{report:#?}");
    assert!(report.not_proven[0].reason.contains("context.prepare of the contract failed"), "{report:#?}");
    // Nothing that the preparation says can end the transaction.
    for end in ["COMMIT", "ROLLBACK"] {
        let report = built.verified_by(&format!("{}    - {end}\n", built.contract)).await;
        assert!(report.tables.iter().all(|table| table.verdict == Verdict::NotProven), "{report:#?}");
    }
    assert_eq!(built.database.sql("SELECT count(*) FROM auth.users"), "1");
}

#[tokio::test]
async fn a_contract_that_does_not_fit_the_database_ends_with_exit_2() {
    let built = Built::new(&platforms::HAND_WRITTEN).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("isolation.yaml");
    let path = file.to_str().expect("a path");
    let verify = |contract: &str| {
        std::fs::write(&file, contract).expect("a file");
        built.database.tenantctl(&["rls", "verify", "--contract", path, "-o", "json"])
    };
    let json = verify(&built.contract).expect(0).json();
    assert_eq!(json["tables"][0]["verdict"], "proven", "{json}");
    for (from, to, says) in [
        ("Tenant Key", "tenant_key", "tables: table \"My Data.Order\\\"s\" has no column \"tenant_key\""),
        ("My Data.Order", "My Data.Odrer", "tables: there is no table"),
        ("[My Data]", "[public, ours]", "schemas: there is no schema \"ours\""),
        ("context:", "admin_roles: [nobody_of_that_name]\ncontext:", "admin_roles: there is no role"),
        ("context:", "shared_tables: [public.x]\ncontext:", "shared_tables: there is no table"),
        ("Äpp user", "app user", "app_roles: there is no role"),
        (
            "tables: {'My Data.Order\"s': Tenant Key}",
            "tenant_column: [tenant_id, org_id]",
            "tenant_column: no table in these schemas has a column \"tenant_id or org_id\"",
        ),
        ("SET LOCAL", "CALL", "context.set: "),
        ("app_roles", "app_role", "unknown field `app_role`"),
    ] {
        assert!(built.contract.contains(from), "{from}");
        let error = verify(&built.contract.replacen(from, to, 1)).expect(2).error();
        let message = error["message"].as_str().expect("a message");
        assert!(message.starts_with(path) && message.contains(says), "{says}: {message}");
    }
    built.database.tenantctl(&["rls", "verify", "--contract", "/no/such/file"]).expect(2);
    built.database.tenantctl(&["rls", "verify"]).expect(9);
}

#[tokio::test]
async fn schemas_and_declared_roles_narrow_what_is_said() {
    let built = Built::new(&platforms::SUPABASE).await;
    let report = built.verified().await;
    assert!(
        report.findings.iter().any(|f| f.check == "login-escapes" && f.severity == Severity::Note),
        "a declared bypass is a note: {report:#?}"
    );
    let admin = "admin_roles: [\"@service_role\"]\n".replace("@", &format!("{}_", built.database.name));
    let report = built.verified_by(&built.contract.replace(&admin, "")).await;
    assert!(report.findings.iter().any(|f| f.check == "login-escapes" && f.severity == Severity::Error));
    // A table elsewhere is nobody's business until its schema is named.
    built.change("CREATE SCHEMA other; CREATE TABLE other.t (); GRANT USAGE ON SCHEMA other TO @authenticated; GRANT SELECT ON other.t TO @authenticated").await;
    assert_proven(&built.verified().await);
    let report = built.verified_by(&built.contract.replace("schemas: [public]\n", "")).await;
    assert!(
        report.findings.iter().any(|f| f.check == "unclassified-table" && f.object == "other.t"),
        "{report:#?}"
    );
}
