//! Functions that run with their owner's rights.

use tenancy::rls::Severity::{Error, Note, Warning};
use tenancy::rls::report::Source;

use super::{assert_found, assert_quiet, assert_silent, find, verified};

const DEFINER: &str = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS";

#[tokio::test]
async fn a_body_that_only_mentions_the_context_is_found() {
    let report = verified(&format!(
        "CREATE FUNCTION public.commented() RETURNS SETOF public.events STABLE LANGUAGE sql SECURITY DEFINER
             AS 'SELECT * FROM public.events -- current_tenant_id()';
         CREATE FUNCTION public.wipe() RETURNS void {DEFINER}
             $$ BEGIN PERFORM current_setting('app.x', true); DELETE FROM public.tickets; END $$;
         CREATE PROCEDURE public.wipe_all() {DEFINER} $$ BEGIN DELETE FROM public.tickets; END $$;
         CREATE FUNCTION public.search(pattern text) RETURNS SETOF text {DEFINER}
             $$ BEGIN PERFORM tenancy.current_tenant_id(); RETURN QUERY SELECT e::text FROM public.events e WHERE title LIKE pattern; END $$;",
    ))
    .await;
    for name in ["commented()", "wipe()", "wipe_all()", "search(pattern text)"] {
        let finding = assert_found(&report, Error, "function-definer", &format!("public.{name}"));
        assert_eq!(finding.source, Source::Probe, "{finding:#?}");
    }
}

#[tokio::test]
async fn a_body_that_reaches_tables_through_something_else_is_found() {
    let report = verified(
        "CREATE VIEW public.v AS SELECT * FROM public.tickets; CREATE MATERIALIZED VIEW public.m AS SELECT * FROM public.tickets;
         CREATE FUNCTION public.inner_f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.tickets';
         REVOKE EXECUTE ON FUNCTION public.inner_f FROM PUBLIC;
         CREATE FUNCTION public.by_view() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.v';
         CREATE FUNCTION public.by_stored() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.m';
         CREATE FUNCTION public.by_function() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT public.inner_f()';
         CREATE FUNCTION public.by_xml() RETURNS bigint LANGUAGE sql SECURITY DEFINER
             AS $$SELECT length(schema_to_xml('public', true, false, '')::text)::bigint$$;",
    )
    .await;
    for name in ["by_view()", "by_stored()", "by_function()", "by_xml()"] {
        assert_found(&report, Error, "function-definer", &format!("public.{name}"));
    }
}

#[tokio::test]
async fn functions_that_keep_to_the_tenant_are_notes() {
    let report = verified(&format!(
        "CREATE FUNCTION public.a() RETURNS SETOF public.events STABLE LANGUAGE sql SECURITY DEFINER SET search_path = ''
             AS 'SELECT * FROM public.events WHERE tenant_id = tenancy.current_tenant_id()';
         CREATE FUNCTION public.b() RETURNS SETOF public.events {DEFINER}
             $$ BEGIN RETURN QUERY SELECT * FROM public.events WHERE tenant_id = tenancy.current_tenant_id(); END $$;
         CREATE FUNCTION public.c() RETURNS void {DEFINER}
             $$ BEGIN DELETE FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id(); END $$;",
    ))
    .await;
    assert_quiet(&report);
    for name in ["a()", "b()", "c()"] {
        let finding = find(&report, "function-definer", &format!("public.{name}")).expect("a note");
        assert_eq!(finding.severity, Note, "{finding:#?}");
    }
}

#[tokio::test]
async fn a_function_that_cannot_be_tried_is_a_warning() {
    let report = verified(&format!(
        "CREATE FUNCTION public.f(what jsonb) RETURNS bigint {DEFINER}
             $$ BEGIN RETURN (SELECT count(*) FROM public.events WHERE tenant_id = tenancy.current_tenant_id() AND title = what ->> 'x'); END $$;",
    ))
    .await;
    assert_found(&report, Warning, "function-definer", "public.f(what jsonb)");
}

#[tokio::test]
async fn a_body_that_reaches_no_tenant_is_silent() {
    let report = verified(&format!(
        "CREATE FUNCTION public.a() RETURNS timestamptz {DEFINER} $$ DECLARE t timestamptz; BEGIN EXECUTE 'select now()' INTO t; RETURN t; END $$;
         CREATE FUNCTION public.b() RETURNS int {DEFINER} $$ BEGIN -- execute nothing, tickets
             RETURN 1; END $$;
         CREATE FUNCTION public.c() RETURNS text {DEFINER} $$ BEGIN RETURN 'tickets and events'; END $$;",
    ))
    .await;
    assert_quiet(&report);
    assert_silent(&report, "function-definer");
}

#[tokio::test]
async fn an_owner_that_administers_is_not_bound() {
    let report = verified(
        "CREATE POLICY tenant_admin ON public.tickets TO tenancy_admin USING (true); GRANT SELECT ON public.tickets TO tenancy_admin;
         CREATE FUNCTION public.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.tickets';
         ALTER FUNCTION public.f OWNER TO tenancy_admin",
    )
    .await;
    assert_found(&report, Error, "function-definer", "public.f()");
}
