//! Policies that do not mean what they should, and look-alikes that do.

use tenancy::rls::Severity::{Error, Note, Warning};
use tenancy::rls::report::Source;

use super::{assert_found, assert_quiet, assert_silent, find, verified};

/// Takes the floor away, so that a permissive policy alone decides.
const NO_FLOOR: &str = "DROP POLICY tenant_floor ON public.tickets;";

async fn without_floor(sql: &str) -> tenancy::rls::Report {
    verified(&format!("{NO_FLOOR}{sql}")).await
}

#[tokio::test]
async fn permissive_leak_is_found() {
    let report =
        without_floor("CREATE POLICY wide ON public.tickets FOR SELECT TO tenancy_app USING (true)").await;
    let finding = assert_found(&report, Error, "permissive-leak", "public.tickets");
    assert_eq!(finding.source, Source::Probe);
    assert!(finding.fix.contains("DROP POLICY wide"), "{finding:#?}");
    assert_silent(&report, "fails-open");
    assert_silent(&report, "delete-leak");
    assert_silent(&report, "check-leak");
}

#[tokio::test]
async fn permissive_leak_hidden_in_an_or_is_found() {
    let report = without_floor(
        "ALTER POLICY tenant_isolation ON public.tickets USING (tenant_id = tenancy.current_tenant_id() OR price >= 0)",
    )
    .await;
    assert_found(&report, Error, "permissive-leak", "public.tickets");
}

#[tokio::test]
async fn rows_shared_by_a_flag_are_found() {
    let report = verified(
        "CREATE TABLE public.posts (tenant_id uuid NOT NULL, id int, status text NOT NULL DEFAULT 'draft', owner text NOT NULL,
             PRIMARY KEY (tenant_id, id));
         SELECT tenancy.test_protect('public.posts'); DROP POLICY tenant_floor ON public.posts;
         CREATE POLICY published ON public.posts FOR SELECT USING (tenant_id = tenancy.current_tenant_id() OR status = 'live');
         ALTER TABLE public.tickets ADD shared boolean; DROP POLICY tenant_floor ON public.tickets;
         ALTER POLICY tenant_isolation ON public.tickets USING (tenant_id = tenancy.current_tenant_id() OR shared IS NOT FALSE)",
    )
    .await;
    let finding = assert_found(&report, Error, "permissive-leak", "public.posts");
    assert!(finding.evidence.contains("\"status\" = 'live'"), "{finding:#?}");
    assert_found(&report, Error, "permissive-leak", "public.tickets");
}

#[tokio::test]
async fn a_flag_that_only_narrows_is_quiet() {
    let report = verified(
        "ALTER TABLE public.tickets ADD deleted_at timestamptz; DROP POLICY tenant_floor ON public.tickets;
         ALTER POLICY tenant_isolation ON public.tickets USING (tenant_id = tenancy.current_tenant_id() AND deleted_at IS NULL)",
    )
    .await;
    assert_quiet(&report);
}

#[tokio::test]
async fn permissive_true_under_the_floor_is_quiet() {
    let report =
        verified("CREATE POLICY wide ON public.tickets TO tenancy_app USING (true) WITH CHECK (true)").await;
    assert_quiet(&report);
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn a_suspicion_that_the_probes_clear_is_a_note() {
    let report = without_floor(
        "CREATE FUNCTION public.mine(t public.tickets) RETURNS boolean STABLE LANGUAGE sql
             AS 'SELECT t.tenant_id = tenancy.current_tenant_id()';
         ALTER POLICY tenant_isolation ON public.tickets USING (public.mine(tickets)) WITH CHECK (public.mine(tickets))",
    )
    .await;
    assert_quiet(&report);
    assert_eq!(
        find(&report, "permissive-leak", "public.tickets").map(|finding| finding.severity),
        Some(Note)
    );
}

#[tokio::test]
async fn fails_open_is_found() {
    let report = without_floor(
        "ALTER POLICY tenant_isolation ON public.tickets USING
             (tenancy.current_tenant_id() IS NULL OR tenant_id = tenancy.current_tenant_id())",
    )
    .await;
    assert_found(&report, Error, "fails-open", "public.tickets");
    assert_silent(&report, "permissive-leak");
}

#[tokio::test]
async fn fails_open_only_where_the_context_was_never_set_is_found() {
    let report = without_floor(
        "ALTER POLICY tenant_isolation ON public.tickets USING
             (current_setting('app.current_tenant_id', true) IS NULL OR tenant_id = tenancy.current_tenant_id())",
    )
    .await;
    let finding = assert_found(&report, Error, "fails-open", "public.tickets");
    assert!(finding.evidence.contains("without a context"), "{finding:#?}");
}

#[tokio::test]
async fn coalesce_that_closes_is_quiet() {
    let report = without_floor(
        "ALTER POLICY tenant_isolation ON public.tickets USING
             (tenant_id = coalesce(tenancy.current_tenant_id(), '00000000-0000-0000-0000-000000000000'))",
    )
    .await;
    assert_quiet(&report);
}

#[tokio::test]
async fn spoofable_bypass_is_found() {
    let report = without_floor(
        "ALTER POLICY tenant_isolation ON public.tickets USING
             (tenant_id = tenancy.current_tenant_id() OR current_setting('app.is_admin', true) = 'true')",
    )
    .await;
    let finding = assert_found(&report, Error, "spoofable-bypass", "public.tickets");
    assert!(finding.evidence.contains("app.is_admin = 'true'"), "{finding:#?}");
    assert_silent(&report, "permissive-leak");
}

#[tokio::test]
async fn spoofable_bypass_in_a_function_with_a_word_of_its_own_is_found() {
    let report = without_floor(
        "CREATE FUNCTION public.is_operator() RETURNS boolean STABLE LANGUAGE plpgsql
             AS $$ BEGIN RETURN current_setting('my.role', true) = 'platform-operator'; END $$;
         ALTER POLICY tenant_isolation ON public.tickets USING
             (tenant_id = tenancy.current_tenant_id() OR public.is_operator())",
    )
    .await;
    let finding = assert_found(&report, Error, "spoofable-bypass", "public.tickets");
    assert!(finding.evidence.contains("platform-operator"), "{finding:#?}");
}

#[tokio::test]
async fn a_setting_that_only_narrows_is_quiet() {
    let report = without_floor(
        "ALTER POLICY tenant_isolation ON public.tickets USING
             (tenant_id = tenancy.current_tenant_id() AND current_setting('app.hide', true) IS DISTINCT FROM 'true')",
    )
    .await;
    assert_quiet(&report);
}

#[tokio::test]
async fn check_leak_is_found() {
    let report = without_floor("ALTER POLICY tenant_isolation ON public.tickets WITH CHECK (true)").await;
    let finding = assert_found(&report, Error, "check-leak", "public.tickets");
    assert!(finding.evidence.contains("INSERT INTO public.tickets"), "{finding:#?}");
    assert_silent(&report, "permissive-leak");
}

#[tokio::test]
async fn moving_a_row_out_is_found() {
    let report = without_floor(
        "DROP POLICY tenant_isolation ON public.tickets;
         CREATE POLICY r ON public.tickets FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY a ON public.tickets FOR INSERT WITH CHECK (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY w ON public.tickets FOR UPDATE USING (tenant_id = tenancy.current_tenant_id()) WITH CHECK (true);
         GRANT UPDATE ON public.tickets TO tenancy_app",
    )
    .await;
    let finding = assert_found(&report, Error, "check-leak", "public.tickets");
    assert!(finding.evidence.contains("UPDATE public.tickets SET"), "{finding:#?}");
}

#[tokio::test]
async fn moving_rows_in_unseen_is_found() {
    let report = without_floor(
        "DROP POLICY tenant_isolation ON public.tickets;
         CREATE POLICY r ON public.tickets FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY w ON public.tickets FOR UPDATE USING (true) WITH CHECK (tenant_id = tenancy.current_tenant_id());
         REVOKE INSERT, DELETE ON public.tickets FROM tenancy_app; GRANT UPDATE ON public.tickets TO tenancy_app",
    )
    .await;
    assert_found(&report, Error, "check-leak", "public.tickets");
}

#[tokio::test]
async fn delete_leak_is_found() {
    let report = without_floor(
        "DROP POLICY tenant_isolation ON public.tickets;
         CREATE POLICY r ON public.tickets FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY d ON public.tickets FOR DELETE USING (true)",
    )
    .await;
    let finding = assert_found(&report, Error, "delete-leak", "public.tickets");
    assert!(finding.evidence.contains("DELETE FROM public.tickets"), "{finding:#?}");
}

#[tokio::test]
async fn delete_leak_on_a_referenced_table_is_found() {
    let report = verified(
        "DROP POLICY tenant_floor ON public.events; DROP POLICY tenant_isolation ON public.events;
         CREATE POLICY r ON public.events FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY d ON public.events FOR DELETE USING (true)",
    )
    .await;
    assert_found(&report, Error, "delete-leak", "public.events");
}

#[tokio::test]
async fn policies_per_command_are_quiet() {
    let report = without_floor(
        "DROP POLICY tenant_isolation ON public.tickets;
         CREATE POLICY r ON public.tickets FOR SELECT TO tenancy_app USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY a ON public.tickets FOR INSERT TO tenancy_app WITH CHECK (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY w ON public.tickets FOR UPDATE TO tenancy_app USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY d ON public.tickets FOR DELETE TO tenancy_app USING (tenant_id = tenancy.current_tenant_id());
         GRANT UPDATE ON public.tickets TO tenancy_app",
    )
    .await;
    assert_quiet(&report);
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn an_all_policy_without_a_check_of_its_own_is_quiet() {
    let report = without_floor(
        "DROP POLICY tenant_isolation ON public.tickets;
         CREATE POLICY every ON public.tickets USING (tenant_id = tenancy.current_tenant_id())",
    )
    .await;
    assert_quiet(&report);
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn context_uncast_empty_is_found() {
    let report = without_floor(
        "ALTER POLICY tenant_isolation ON public.tickets USING
             (tenant_id = current_setting('app.current_tenant_id', true)::uuid)",
    )
    .await;
    assert_found(&report, Warning, "context-uncast-empty", "public.tickets");
    assert!(report.passed(Error, true), "{report:#?}");
}

#[tokio::test]
async fn no_policy_is_found_and_proves_nothing() {
    let report = verified("DROP POLICY tenant_isolation ON public.tickets").await;
    assert_found(&report, Warning, "no-policy", "public.tickets");
    assert_eq!(report.not_proven.len(), 1, "{report:#?}");
    assert!(report.passed(Error, false) && !report.passed(Error, true));
}

#[tokio::test]
async fn no_policy_for_a_command_that_is_not_granted_is_quiet() {
    let report = without_floor(
        "DROP POLICY tenant_isolation ON public.tickets;
         CREATE POLICY r ON public.tickets FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         REVOKE ALL ON public.tickets FROM tenancy_app; GRANT SELECT ON public.tickets TO tenancy_app",
    )
    .await;
    assert_quiet(&report);
}

/// Of two settings the one that is there, as PostgREST has them: nothing is shown where neither is. A third value is.
#[tokio::test]
async fn a_choice_of_two_settings_is_no_answer_and_a_third_value_is() {
    let setting = |name: &str| format!("nullif(current_setting('{name}', true), '')");
    for (third, expected) in [("", false), (", '00000000-0000-0000-0000-000000000001'", true)] {
        let database = super::database(&format!(
            "ALTER POLICY tenant_isolation ON public.tickets USING (tenant_id =
                 coalesce({}, ({}::jsonb ->> 'tenant'){third})::uuid)",
            setting("app.current_tenant_id"),
            setting("app.claims")
        ))
        .await;
        let options = tenancy::rls::Options { probes: false, ..tenancy::rls::Options::default() };
        let report = super::verify(&database, &options).await.expect("a report");
        let found = report.findings.iter().any(|finding| finding.check == "fails-open");
        assert_eq!(found, expected, "{report:#?}");
    }
}

#[tokio::test]
async fn a_policy_that_is_never_true_is_silent() {
    let report = without_floor(
        "DROP POLICY tenant_isolation ON public.tickets;
         CREATE POLICY closed ON public.tickets TO tenancy_app USING (false) WITH CHECK (false)",
    )
    .await;
    assert_silent(&report, "permissive-leak");
    assert_silent(&report, "check-leak");
}
