//! Clean platforms of different styles: with the contract that their people wrote, nothing is found.

use crate::common::verify;
use tenancy::rls::{Options, Severity};

use super::{Built, assert_proven, platforms, styles};
use crate::rls_contract::platforms::Platform;

/// Gives the tables to a role that policies bind, as a careful team does.
const OWNED: &str = r#"
CREATE ROLE "@keeper" NOLOGIN;
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_' LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO "@keeper"', name);
    END LOOP;
    FOR name IN SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO "@keeper"', name);
    END LOOP;
END $$"#;

/// Each table is proven, and nothing is found but what is named.
async fn clean(platform: &Platform, contract: &str, notes: &[(&str, &str)]) {
    let built = Built::new(platform).await;
    let named = |text: &str| text.replace("@", &format!("{}_", built.database.name));
    built.change(OWNED).await;
    let report = built.verified_by(&named(contract)).await;
    assert_proven(&report);
    assert!(report.not_proven.is_empty(), "{report:#?}");
    for finding in &report.findings {
        assert_eq!(finding.severity, Severity::Note, "{report:#?}");
        let known =
            |(check, object): &(&str, &str)| finding.check == *check && finding.object == named(object);
        assert!(notes.iter().any(known), "{finding:#?}");
    }
    // The catalogue alone does not cry wolf either, but where only a probe can tell.
    let contract = tenancy::rls::Contract::parse(&named(contract), "isolation.yaml").expect("a contract");
    let options = Options { contract: Some(contract), probes: false, ..Options::default() };
    let report = verify(&built.database.options, &options).await.expect("a report");
    assert_eq!(report.summary.probes, 0);
    assert!(
        report.findings.iter().all(|f| f.severity != Severity::Error || notes.iter().any(|n| n.0 == f.check))
    );
}

#[tokio::test]
async fn a_claim_of_the_token() {
    let contract = "tenant_column: workspace_id\napp_roles: ['@web']\ncontext: {set: \"SELECT set_config('request.jwt.claims', \
        '{\\\"tenant\\\":\\\"{tenant}\\\"}', true)\"}";
    clean(&platforms::POSTGREST, contract, &[]).await;
}

#[tokio::test]
async fn one_setting_and_integers() {
    clean(&platforms::DJANGO, platforms::DJANGO.contract, &[]).await;
}

#[tokio::test]
async fn two_settings_and_two_roles() {
    clean(&platforms::RAILS, platforms::RAILS.contract, &[]).await;
}

#[tokio::test]
async fn names_that_need_quotes() {
    // The policies pin the column, whatever the grant says.
    let notes = [("grant-tenant-column", "\"My Data\".\"Order\"\"s\"")];
    clean(&platforms::HAND_WRITTEN, platforms::HAND_WRITTEN.contract, &notes).await;
}

#[tokio::test]
async fn a_function_for_the_account() {
    let contract = "tenant_column: account_id\ntables: {public.accounts: id}\napp_roles: ['@laravel']\n\
        context: {set: \"SET LOCAL laravel.account_id = '{tenant}'\"}";
    clean(&styles::LARAVEL.platform, contract, &[]).await;
}

#[tokio::test]
async fn claims_that_the_user_cannot_edit() {
    let contract = "tenant_column: tenant_id\ntables: {public.tenants: id}\napp_roles: ['@authenticated']\n\
        admin_roles: ['@service_role']\nshared_tables: [public.plans]\ncontext:\n  set:\n    - >-\n      SELECT \
        set_config('request.jwt.claims', '{\"app_metadata\":{\"tenant_id\":\"{tenant}\"}}', true)";
    clean(&styles::SUPABASE_CLAIM.platform, contract, &[]).await;
}

#[tokio::test]
async fn memberships() {
    // What policies look up reads otherwise than a comparison with the tenant: a note where a probe cleared it.
    let tables = ["public.members", "public.organizations", "public.projects"];
    let mut notes: Vec<_> =
        tables.iter().flat_map(|t| [("fails-open", *t), ("permissive-leak", *t)]).collect();
    notes.extend([("login-escapes", "@authenticator"), ("grant-tenant-column", "public.projects")]);
    clean(&platforms::SUPABASE, platforms::SUPABASE.contract, &notes).await;
}
