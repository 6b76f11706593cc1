//! Policies whose branches, floors and sources of the tenant mean something else than they should.

use crate::common::verify;
use tenancy::rls::Options;
use tenancy::rls::Severity::{self, Error, Note, Warning};

use super::{assert_silent, common, database, find, verified};

/// Tables that are protected but for the floor, so that the permissive policies decide.
pub(super) fn tables(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("$n${name}$n$")).collect();
    format!(
        "DO $do$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY[{}] LOOP
             EXECUTE format('CREATE TABLE public.%I (tenant_id uuid NOT NULL, id int, flag boolean, \"Ki\"\"nd\" text,
                                                     PRIMARY KEY (tenant_id, id))', t);
             PERFORM tenancy.test_protect(format('public.%I', t)::regclass);
             EXECUTE format('DROP POLICY tenant_floor ON public.%I', t);
         END LOOP; END $do$;",
        names.join(", ")
    )
}

/// Finds exactly what is expected of these checks, runs every fix, and then finds none of it.
pub(super) async fn mended(sql: &str, expected: &[(Severity, &str, &str)]) {
    let database = database(sql).await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    let asked = |check: &str| expected.iter().any(|(_, known, _)| *known == check);
    let findings: Vec<_> = report.findings.iter().filter(|finding| asked(&finding.check)).collect();
    let mut found: Vec<_> = findings
        .iter()
        .map(|finding| (finding.severity, finding.check.as_ref(), finding.object.as_str()))
        .collect();
    let mut expected = expected.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{findings:#?}");
    for finding in &findings {
        assert!(!finding.message.is_empty() && !finding.evidence.is_empty(), "{finding:#?}");
        common::execute(&database, &finding.fix).await;
    }
    let report = verify(&database, &Options::default()).await.expect("a report");
    for (_, check, _) in expected {
        assert_silent(&report, check);
    }
}

#[tokio::test]
async fn a_floor_with_holes_is_found() {
    let sql = format!(
        "{} CREATE POLICY wide ON public.commands TO tenancy_app USING (true);
         CREATE POLICY floor ON public.commands AS RESTRICTIVE FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY wide ON public.\"Ro\"\"les\" USING (true);
         CREATE POLICY \"flo'or\" ON public.\"Ro\"\"les\" AS RESTRICTIVE TO tenancy_owner
             USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY wide ON public.writes FOR INSERT WITH CHECK (true);
         CREATE POLICY floor ON public.writes AS RESTRICTIVE FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         -- A floor in pieces, one that nothing needs, and one for a command that the role may not use.
         CREATE POLICY wide ON public.pieces USING (true);
         CREATE POLICY r ON public.pieces AS RESTRICTIVE FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY a ON public.pieces AS RESTRICTIVE FOR INSERT WITH CHECK (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY w ON public.pieces AS RESTRICTIVE FOR UPDATE USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY d ON public.pieces AS RESTRICTIVE FOR DELETE TO tenancy_app
             USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY floor ON public.idle AS RESTRICTIVE FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY wide ON public.reads USING (true);
         CREATE POLICY floor ON public.reads AS RESTRICTIVE FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
         REVOKE ALL ON public.reads FROM tenancy_app; GRANT SELECT ON public.reads TO tenancy_app",
        tables(&["commands", "Ro\"les", "writes", "pieces", "idle", "reads"])
    );
    mended(
        &sql,
        &[
            (Error, "command-uncovered", "public.commands"),
            (Error, "command-uncovered", "public.\"Ro\"\"les\""),
            (Error, "command-uncovered", "public.writes"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_member_that_does_not_inherit_escapes_a_floor_for_the_group() {
    let database = common::Database::migrated().await;
    let (group, member, heir) =
        (format!("{}_g", database.name), format!("{}_m", database.name), format!("{}_h", database.name));
    let sql = format!(
        "CREATE ROLE {group}; CREATE ROLE {member} NOINHERIT; CREATE ROLE {heir}; GRANT {group} TO {member}, {heir};
         CREATE TABLE public.notes (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
         ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE public.notes FORCE ROW LEVEL SECURITY;
         CREATE POLICY wide ON public.notes USING (true);
         CREATE POLICY floor ON public.notes AS RESTRICTIVE TO {group} USING (tenant_id = tenancy.current_tenant_id());
         GRANT SELECT ON public.notes TO {group}, {member}"
    );
    common::execute(&database.options, &sql).await;
    for (role, found) in [(&member, true), (&heir, false)] {
        let options = Options { app_roles: vec![role.clone()], ..Options::default() };
        let report = verify(&database.options, &options).await.expect("a report");
        let finding = find(&report, "command-uncovered", "public.notes");
        assert_eq!(finding.is_some(), found, "{report:#?}");
        if let Some(finding) = finding {
            assert!(finding.evidence.contains(role.as_str()), "{finding:#?}");
            assert_eq!(finding.severity, Error, "{finding:#?}");
        }
    }
}

#[tokio::test]
async fn a_floor_that_is_always_true_is_found() {
    let sql = "CREATE POLICY one ON public.events AS RESTRICTIVE USING (true);
               CREATE POLICY two ON public.events AS RESTRICTIVE USING (1 = 1);
               CREATE POLICY three ON public.events AS RESTRICTIVE USING (tenant_id IS NOT NULL);
               CREATE POLICY four ON public.tickets AS RESTRICTIVE USING (tenant_id = tenancy.current_tenant_id()) WITH CHECK (true);
               CREATE POLICY five ON public.events AS RESTRICTIVE USING (tenant_id = tenancy.current_tenant_id() OR true);
               -- These say something.
               CREATE POLICY none ON public.tickets AS RESTRICTIVE FOR DELETE USING (false);
               CREATE POLICY parts ON public.tickets AS RESTRICTIVE USING (price IS NOT NULL OR price > 1)";
    let events = (Warning, "floor-constant", "public.events");
    mended(sql, &[events, events, events, events, (Warning, "floor-constant", "public.tickets")]).await;
}

#[tokio::test]
async fn branches_past_the_tenant_are_found() {
    let key = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    let own = "tenant_id = tenancy.current_tenant_id()";
    let sql = format!(
        "{} ALTER POLICY tenant_isolation ON public.literal USING ({own} OR tenant_id = '{key}');
         CREATE POLICY demo ON public.reversed FOR SELECT USING ('{key}' = tenant_id);
         ALTER POLICY tenant_isolation ON public.several USING (tenant_id = ANY (ARRAY['{key}'::uuid]) OR {own});
         ALTER POLICY tenant_isolation ON public.written WITH CHECK ({own} OR tenant_id::text = '{key}');
         ALTER POLICY tenant_isolation ON public.flagged USING ({own} OR flag OR \"Ki\"\"nd\" = 'live (OR not)');
         CREATE POLICY shared ON public.\"Shared so\" FOR SELECT USING (\"Ki\"\"nd\" = ANY (ARRAY['a', 'b']));
         -- What narrows, what only looks like a key, what asks for somebody, and what the floor holds.
         ALTER POLICY tenant_isolation ON public.narrow USING ({own} AND flag AND tenant_id <> '{key}');
         CREATE POLICY nested ON public.narrow USING ({own} AND (flag OR \"Ki\"\"nd\" = 'live'));
         ALTER POLICY tenant_isolation ON public.keyed USING (tenant_id = coalesce(tenancy.current_tenant_id(), '{key}'));
         CREATE POLICY r ON public.keyed USING (nullif(current_setting('app.current_tenant_id', true), '')::uuid = tenant_id);
         CREATE POLICY mine ON public.keyed USING ({own} OR \"Ki\"\"nd\" = CURRENT_USER);
         ALTER POLICY tenant_isolation ON public.events USING ({own} OR tenant_id = '{key}' OR title = 'live')",
        tables(&["literal", "reversed", "several", "written", "flagged", "Shared so", "narrow", "keyed"])
    );
    mended(
        &sql,
        &[
            (Error, "literal-tenant", "public.literal"),
            (Error, "literal-tenant", "public.reversed"),
            (Error, "literal-tenant", "public.several"),
            (Error, "literal-tenant", "public.written"),
            (Error, "row-flag-branch", "public.flagged"),
            (Error, "row-flag-branch", "public.\"Shared so\""),
        ],
    )
    .await;
}

#[tokio::test]
async fn rows_of_nobody_are_found() {
    let own = "tenant_id = tenancy.current_tenant_id()";
    let plant =
        |name: &str, using: &str| format!("CREATE POLICY p ON public.{name} TO tenancy_app USING ({using});");
    let sql = [
        tables(&["branch", "merged", "distinct_from", "checked", "closed"]),
        ["branch", "merged", "distinct_from", "checked", "closed"]
            .map(|name| {
                format!(
                    "ALTER TABLE public.{name} DROP CONSTRAINT {name}_pkey; ALTER TABLE public.{name} ALTER tenant_id DROP NOT NULL;"
                )
            })
            .concat(),
        plant("branch", &format!("{own} OR tenant_id IS NULL")),
        plant("merged", "coalesce(tenant_id, tenancy.current_tenant_id()) = tenancy.current_tenant_id()"),
        plant("distinct_from", "tenant_id IS NOT DISTINCT FROM tenancy.current_tenant_id()"),
        "ALTER TABLE public.checked ADD CHECK (tenant_id IS NOT NULL);".into(),
        plant("checked", &format!("{own} OR tenant_id IS NULL")),
        plant("closed", "coalesce(tenant_id, '6f9619ff-8b86-d011-b42d-00c04fc964ff') = tenancy.current_tenant_id()"),
        // The column is NOT NULL.
        format!("ALTER POLICY tenant_isolation ON public.tickets USING ({own} OR tenant_id IS NULL)"),
    ]
    .concat();
    mended(
        &sql,
        &[
            (Error, "null-tenant-shared", "public.branch"),
            (Error, "null-tenant-shared", "public.merged"),
            (Error, "null-tenant-shared", "public.distinct_from"),
        ],
    )
    .await;
}

/// Memberships, by a user that a setting names.
const MEMBERS: &str = "
    CREATE FUNCTION public.who() RETURNS text STABLE LANGUAGE sql AS $$SELECT nullif(current_setting('app.u', true), '')$$;
    CREATE TABLE public.members (org uuid NOT NULL, usr text NOT NULL, PRIMARY KEY (org, usr));
    CREATE TABLE public.confined (LIKE public.members); CREATE TABLE public.read_only (LIKE public.members);
    CREATE TABLE public.flags (name text PRIMARY KEY);
    ALTER TABLE public.confined ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON public.confined USING (usr = public.who() AND org = tenancy.current_tenant_id());
    GRANT SELECT ON public.read_only TO tenancy_app; GRANT SELECT, INSERT, UPDATE ON public.confined, public.flags TO tenancy_app;
    GRANT SELECT, INSERT ON public.members TO tenancy_app;";

#[tokio::test]
async fn who_belongs_is_not_the_roles_to_write() {
    let own = "tenant_id = tenancy.current_tenant_id()";
    let sql = format!(
        "{}{MEMBERS}
         CREATE TABLE public.profiles (tenant_id uuid NOT NULL, usr text PRIMARY KEY);
         ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY; ALTER TABLE public.profiles FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON public.profiles USING (usr = public.who());
         GRANT SELECT, UPDATE ON public.profiles TO tenancy_app;
         CREATE FUNCTION public.home() RETURNS uuid STABLE LANGUAGE sql AS
             $$SELECT p.tenant_id FROM public.profiles p WHERE p.usr = public.who()$$;
         CREATE POLICY m ON public.a USING (tenant_id IN (SELECT org FROM public.members WHERE usr = public.who()));
         CREATE POLICY p ON public.b USING (tenant_id = (SELECT public.home()));
         CREATE POLICY c ON public.c USING (tenant_id IN (SELECT org FROM public.confined WHERE usr = public.who()));
         CREATE POLICY r ON public.c USING (tenant_id IN (SELECT org FROM public.read_only WHERE usr = public.who()));
         CREATE POLICY f ON public.c USING ({own} AND EXISTS (SELECT FROM public.flags WHERE name = 'on'))",
        tables(&["a", "b", "c"])
    );
    mended(&sql, &[(Error, "self-granted", "public.members"), (Error, "self-granted", "public.profiles")])
        .await;
}

#[tokio::test]
async fn a_member_of_two_is_found_and_one_row_by_key_is_quiet() {
    let sql = format!(
        "{}{MEMBERS} CREATE TABLE public.homes (org uuid NOT NULL, usr text PRIMARY KEY);
         CREATE POLICY p ON public.a USING (tenant_id = (SELECT org FROM public.members WHERE usr = public.who()));
         CREATE POLICY p ON public.b USING (tenant_id = (SELECT m.org FROM public.members m WHERE m.usr = public.who() LIMIT 1));
         CREATE POLICY p ON public.c USING (tenant_id = (SELECT org FROM public.homes WHERE usr = public.who()));
         CREATE POLICY q ON public.c USING (tenant_id IN (SELECT org FROM public.members WHERE usr = public.who()))",
        tables(&["a", "b", "c"])
    );
    mended(
        &sql,
        &[(Warning, "membership-ambiguous", "public.a"), (Warning, "membership-ambiguous", "public.b")],
    )
    .await;
}

#[tokio::test]
async fn claims_that_users_edit_are_found() {
    let sql = format!(
        "{} CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO tenancy_app;
         CREATE FUNCTION auth.jwt() RETURNS jsonb STABLE LANGUAGE sql AS
             $$SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb$$;
         CREATE FUNCTION public.mine() RETURNS uuid STABLE LANGUAGE sql AS
             $$SELECT (auth.jwt() -> 'user_metadata' ->> 'tenant')::uuid$$;
         CREATE FUNCTION public.fine() RETURNS uuid STABLE LANGUAGE sql AS
             $$SELECT (auth.jwt() -> 'app_metadata' ->> 'tenant')::uuid -- not user_metadata$$;
         CREATE POLICY p ON public.a USING (tenant_id = ((SELECT auth.jwt()) -> 'user_metadata' ->> 'tenant')::uuid);
         CREATE POLICY p ON public.b USING (tenant_id = (SELECT public.mine()));
         CREATE POLICY p ON public.c USING (tenant_id = (SELECT public.fine()));
         CREATE POLICY q ON public.c USING (tenant_id = ((SELECT auth.jwt()) ->> 'org_id')::uuid);
         CREATE POLICY p ON public.events USING (tenant_id = ((SELECT auth.jwt()) -> 'user_metadata' ->> 'tenant')::uuid)",
        tables(&["a", "b", "c"])
    );
    mended(&sql, &[(Error, "editable-claim", "public.a"), (Error, "editable-claim", "public.b")]).await;
}

#[tokio::test]
async fn casts_and_settings_that_must_be_there_are_found() {
    let sql = format!(
        "{} CREATE TABLE public.names (tenant_id varchar(40) NOT NULL, id int, PRIMARY KEY (tenant_id, id));
         ALTER TABLE public.names ENABLE ROW LEVEL SECURITY; ALTER TABLE public.names FORCE ROW LEVEL SECURITY;
         GRANT SELECT ON public.names TO tenancy_app;
         CREATE POLICY p ON public.names USING (tenant_id = current_setting('app.current_tenant_id', true));
         CREATE FUNCTION public.needed() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT current_setting('app.current_tenant_id')::uuid$$;
         CREATE POLICY p ON public.a USING (tenant_id::text = current_setting('app.current_tenant_id', true));
         CREATE POLICY p ON public.b USING (tenant_id = current_setting('app.current_tenant_id')::uuid);
         CREATE POLICY p ON public.c USING (tenant_id = (SELECT public.needed()));
         CREATE POLICY q ON public.c USING (tenant_id = (current_setting('app.current_tenant_id', true)::uuid)
                                            AND current_setting('search_path') IS NOT NULL)",
        tables(&["a", "b", "c"])
    );
    mended(
        &sql,
        &[
            (Warning, "column-cast", "public.a"),
            (Note, "context-required", "public.b"),
            (Note, "context-required", "public.needed()"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_policy_for_everybody_is_found_where_others_were_given_less() {
    let sql = format!(
        "{} DO $do$ BEGIN
             EXECUTE format('CREATE ROLE %I', current_database() || ' reports');
             EXECUTE format('GRANT SELECT ON public.a, public.b, public.c TO %I', current_database() || ' reports');
             EXECUTE format('CREATE POLICY old ON public.a FOR SELECT TO %I USING (flag AND tenant_id IS NOT NULL)',
                            current_database() || ' reports');
         END $do$;
         CREATE POLICY p ON public.a USING (tenant_id = tenancy.current_tenant_id());
         -- For the application alone; for others by the same rule; for nobody else.
         CREATE POLICY p ON public.c USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY p ON public.d USING (tenant_id = tenancy.current_tenant_id())",
        tables(&["a", "b", "c", "d"])
    );
    mended(&sql, &[(Warning, "policy-to-public", "public.a")]).await;
}

#[tokio::test]
async fn policies_in_the_manner_of_careful_platforms_are_quiet() {
    let sql = format!(
        "{}{MEMBERS} REVOKE INSERT ON public.members FROM tenancy_app;
         CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO tenancy_app;
         CREATE FUNCTION auth.jwt() RETURNS jsonb STABLE LANGUAGE sql AS
             $$SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb$$;
         CREATE POLICY p ON public.a TO tenancy_app USING (tenant_id = ((SELECT auth.jwt()) ->> 'org_id')::uuid);
         CREATE POLICY p ON public.b TO tenancy_app
             USING (tenant_id IN (SELECT org FROM public.members WHERE usr = public.who()));
         CREATE POLICY p ON public.c TO tenancy_app
             USING (EXISTS (SELECT FROM public.members m WHERE m.org = c.tenant_id AND m.usr = (SELECT public.who())));
         CREATE POLICY p ON public.d USING (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid)",
        tables(&["a", "b", "c", "d"])
    );
    let report = verified(&sql).await;
    for check in [
        "command-uncovered",
        "floor-constant",
        "literal-tenant",
        "row-flag-branch",
        "null-tenant-shared",
        "self-granted",
        "helper-replaceable",
        "helper-immutable",
        "helper-volatile",
        "helper-unwrapped",
        "helper-search-path",
        "helper-trusts-caller",
        "policy-to-public",
        "editable-claim",
        "column-cast",
        "context-required",
        "membership-ambiguous",
    ] {
        assert_silent(&report, check);
    }
}
