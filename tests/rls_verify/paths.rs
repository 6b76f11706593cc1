//! A finding that takes several steps prints the path, every hop by name; one about a single object has none.

use tenancy::rls::Severity::Error;
use tenancy::rls::report::{Form, Source};
use tenancy::rls::{Finding, Report};

use super::roles::Roles;
use super::{assert_found, verified};
use crate::common;

/// The path in a line, from the given application role on: who logs in is another test's affair.
fn from_role<'a>(finding: &'a Finding, app: &str) -> Option<&'a [tenancy::rls::report::Step]> {
    let at = finding.path.iter().position(|step| step.name == app)?;
    Some(&finding.path[at..])
}

#[track_caller]
fn assert_path(finding: &Finding, app: &str, rest: &[(&str, &str)]) {
    let path = from_role(finding, app).unwrap_or_else(|| panic!("no {app} on the path: {finding:#?}"));
    let steps: Vec<(&str, &str)> =
        path[1..].iter().map(|step| (step.kind.as_str(), step.name.as_str())).collect();
    assert_eq!(steps, rest, "{finding:#?}");
}

fn fingerprint(report: &Report, check: &str, object: &str) -> String {
    let finding = report.findings.iter().find(|one| one.check == check && one.object == object);
    finding.expect("a finding").fingerprint.clone()
}

#[tokio::test]
async fn every_membership_on_the_way_is_named() {
    // Out of the control plane's role first: its members are looked at in every other test's database.
    let roles = Roles::new(
        "REVOKE tenancy_app FROM $app; CREATE ROLE $app_login LOGIN; GRANT $app TO $app_login; CREATE ROLE \"$other hop\"; GRANT \"$other hop\" TO $app;
         GRANT $other TO \"$other hop\"; ALTER ROLE $other BYPASSRLS; GRANT pg_read_server_files TO $other;
         CREATE ROLE $other_owner; GRANT $other_owner TO \"$other hop\"; ALTER TABLE public.tickets OWNER TO $other_owner",
    )
    .await;
    let report = roles.verify().await;
    let (login, hop) = (format!("{}_login", roles.app), format!("\"{} hop\"", roles.other));
    let owner = format!("{}_owner", roles.other);
    let bypass = assert_found(&report, Error, "role-bypassrls", &roles.other);
    assert_eq!(
        bypass.path_line(),
        format!("login {login} → role {} → role {hop} → role {}", roles.app, roles.other)
    );
    let files = assert_found(&report, Error, "role-server-files", "pg_read_server_files");
    assert_path(
        files,
        &roles.app,
        &[("role", &hop), ("role", &roles.other), ("role", "pg_read_server_files")],
    );
    let owned = assert_found(&report, Error, "owner-reachable", "public.tickets");
    assert_path(owned, &roles.app, &[("role", &hop), ("role", &owner), ("table", "public.tickets")]);
    let line = format!("      path: {}\n", bypass.path_line());
    assert!(report.text(false).contains(&line), "{}", report.text(false));
    let sarif = Form::Sarif.render(&report, false).expect("a log");
    assert!(sarif.contains("codeFlows"), "{sarif}");
    let drop = format!(
        "DROP ROLE {hop}, {login}; ALTER TABLE public.tickets OWNER TO tenancy_owner; DROP ROLE {owner}"
    );
    common::execute(&roles.database, &drop).await;
}

#[tokio::test]
async fn reset_role_is_a_step_of_the_path() {
    let roles = Roles::new(
        "REVOKE tenancy_app FROM $app; CREATE ROLE $app_login LOGIN; GRANT $app TO $app_login; ALTER ROLE $other BYPASSRLS;
         CREATE ROLE $app_hop; GRANT $app_hop TO $app_login; GRANT $other TO $app_hop",
    )
    .await;
    let report = roles.verify().await;
    let (login, hop) = (format!("{}_login", roles.app), format!("{}_hop", roles.app));
    let finding = assert_found(&report, Error, "login-escapes", &login);
    assert_eq!(
        finding.path_line(),
        format!("role {} → login {login} → role {hop} → role {}", roles.app, roles.other)
    );
    common::execute(&roles.database, &format!("DROP ROLE {login}, {hop}")).await;
}

#[tokio::test]
async fn views_functions_and_the_tables_behind_them() {
    let plant = "CREATE VIEW public.\"In ner\" AS SELECT * FROM public.tickets;
         CREATE VIEW public.outer_view WITH (security_invoker) AS SELECT * FROM public.\"In ner\";
         GRANT SELECT ON public.outer_view, public.\"In ner\" TO tenancy_app;
         CREATE MATERIALIZED VIEW public.kept AS SELECT * FROM public.\"In ner\";
         CREATE VIEW public.over_kept AS SELECT * FROM public.kept; GRANT SELECT ON public.over_kept TO tenancy_app;
         CREATE FUNCTION public.list_events() RETURNS SETOF public.events LANGUAGE sql AS 'SELECT * FROM public.events';
         CREATE FUNCTION public.entry() RETURNS SETOF public.events LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM public.list_events()';
         CREATE FUNCTION public.composed(t text) RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN RETURN QUERY EXECUTE 'SELECT * FROM ' || t; END $$";
    let report = verified(plant).await;
    let tickets = [("view", "public.\"In ner\""), ("table", "public.tickets")];
    let outer = assert_found(&report, Error, "view-definer", "public.outer_view");
    assert_eq!(outer.source, Source::Probe, "a conviction keeps the path of its suspicion");
    assert_path(outer, "tenancy_app", &[[("view", "public.outer_view")].as_slice(), &tickets].concat());
    let inner = assert_found(&report, Error, "view-definer", "public.\"In ner\"");
    assert_path(inner, "tenancy_app", &tickets);
    let kept = assert_found(&report, Error, "materialized-view", "public.kept");
    let steps = [("view", "public.over_kept"), ("materialized view", "public.kept")];
    assert_path(kept, "tenancy_app", &[steps.as_slice(), &tickets].concat());
    let entry = assert_found(&report, Error, "function-definer", "public.entry()");
    let steps =
        [("function", "public.entry()"), ("function", "public.list_events()"), ("table", "public.events")];
    assert_path(entry, "tenancy_app", &steps);
    let composed = assert_found(&report, Error, "function-definer", "public.composed(t text)");
    assert_path(composed, "tenancy_app", &[("function", "public.composed(t text)")]);

    // Another way to the same view: its name for the defect stays.
    let again = verified(&format!("{plant}; REVOKE SELECT ON public.outer_view FROM tenancy_app; GRANT SELECT ON public.outer_view TO PUBLIC")).await;
    for (check, object) in [("view-definer", "public.outer_view"), ("function-definer", "public.entry()")] {
        assert_eq!(fingerprint(&report, check, object), fingerprint(&again, check, object));
    }
    assert_eq!(outer.fingerprint, "f7e13a77760db712");
}

#[tokio::test]
async fn one_object_is_no_path() {
    let report = verified(
        "ALTER TABLE public.events DISABLE ROW LEVEL SECURITY; GRANT TRUNCATE ON public.tickets TO tenancy_app",
    )
    .await;
    for (check, object) in [("rls-disabled", "public.events"), ("grant-truncate", "public.tickets")] {
        let finding = assert_found(&report, Error, check, object);
        assert!(finding.path.is_empty(), "{finding:#?}");
        let json = serde_json::to_value(finding).expect("JSON");
        assert!(json.get("path").is_none(), "{json}");
    }
    let roles = Roles::new("ALTER ROLE $app CREATEROLE; ALTER TABLE public.tickets OWNER TO $app").await;
    let report = roles.verify().await;
    for (check, object) in [("role-createrole", roles.app.as_str()), ("owner-reachable", "public.tickets")] {
        let finding =
            report.findings.iter().find(|one| one.check == check && one.object == object).expect("found");
        assert!(finding.path.is_empty(), "{finding:#?}");
    }
}
