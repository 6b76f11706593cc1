//! Views, materialized views and functions.

use tenancy::rls::Severity::{Error, Note};
use tenancy::rls::report::Source;

use super::{assert_found, assert_quiet, assert_silent, find, verified};

#[tokio::test]
async fn view_definer_is_found() {
    let report =
        verified("CREATE VIEW public.v AS SELECT id, price FROM public.tickets; GRANT SELECT ON public.v TO tenancy_app").await;
    let finding = assert_found(&report, Error, "view-definer", "public.v");
    assert!(finding.fix.contains("security_invoker"), "{finding:#?}");
}

#[tokio::test]
async fn a_leaking_view_is_convicted_by_a_probe() {
    let report = verified(
        "CREATE VIEW public.v AS SELECT * FROM public.events; GRANT SELECT ON public.v TO tenancy_app",
    )
    .await;
    let finding = assert_found(&report, Error, "view-definer", "public.v");
    assert_eq!(finding.source, Source::Probe);
}

#[tokio::test]
async fn view_definer_under_an_invoker_view_is_found() {
    let report = verified(
        "CREATE VIEW public.inner_v AS SELECT * FROM public.tickets;
         CREATE VIEW public.outer_v WITH (security_invoker) AS SELECT * FROM public.inner_v;
         GRANT SELECT ON public.outer_v, public.inner_v TO tenancy_app",
    )
    .await;
    assert_found(&report, Error, "view-definer", "public.outer_v");
}

#[tokio::test]
async fn views_that_the_policies_bind_are_quiet() {
    let report = verified(
        "CREATE VIEW public.invoker WITH (security_invoker = on) AS SELECT * FROM public.tickets;
         CREATE VIEW public.bound AS SELECT * FROM public.tickets;
         ALTER VIEW public.bound OWNER TO tenancy_owner;
         CREATE VIEW public.unreachable AS SELECT * FROM public.tickets;
         CREATE VIEW public.elsewhere AS SELECT * FROM public.countries;
         GRANT SELECT ON public.invoker, public.bound, public.elsewhere TO tenancy_app",
    )
    .await;
    assert_quiet(&report);
    assert_silent(&report, "view-definer");
}

#[tokio::test]
async fn a_view_that_filters_by_the_tenant_itself_is_a_note() {
    let report = verified(
        "CREATE VIEW public.v WITH (security_barrier) AS
             SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id();
         GRANT SELECT ON public.v TO tenancy_app",
    )
    .await;
    assert_quiet(&report);
    assert_eq!(find(&report, "view-definer", "public.v").map(|finding| finding.severity), Some(Note));
}

#[tokio::test]
async fn a_filtering_view_that_can_be_written_through_is_found() {
    let report = verified(
        "CREATE VIEW public.v AS SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id();
         GRANT SELECT, INSERT ON public.v TO tenancy_app",
    )
    .await;
    assert_found(&report, Error, "view-definer", "public.v");
}

#[tokio::test]
async fn materialized_view_is_found() {
    let report = verified(
        "CREATE MATERIALIZED VIEW public.m AS SELECT * FROM public.tickets; GRANT SELECT ON public.m TO tenancy_app",
    )
    .await;
    assert_found(&report, Error, "materialized-view", "public.m");
    let report = verified(
        "CREATE MATERIALIZED VIEW public.m AS SELECT * FROM public.tickets;
         CREATE MATERIALIZED VIEW public.c AS SELECT * FROM public.countries; GRANT SELECT ON public.c TO tenancy_app",
    )
    .await;
    assert_quiet(&report);
}

#[tokio::test]
async fn materialized_view_behind_a_view_is_found() {
    let report = verified(
        "CREATE MATERIALIZED VIEW public.m AS SELECT * FROM public.tickets;
         CREATE VIEW public.v AS SELECT * FROM public.m; GRANT SELECT ON public.v TO tenancy_app",
    )
    .await;
    assert_found(&report, Error, "materialized-view", "public.m");
}

#[tokio::test]
async fn function_definer_is_found() {
    let report = verified(
        "CREATE FUNCTION public.every_event() RETURNS SETOF public.events STABLE LANGUAGE sql SECURITY DEFINER
             SET search_path = '' AS 'SELECT * FROM public.events'",
    )
    .await;
    let finding = assert_found(&report, Error, "function-definer", "public.every_event()");
    assert_eq!(finding.source, Source::Probe);
}

#[tokio::test]
async fn function_definer_that_takes_the_tenant_from_the_caller_is_found() {
    let report = verified(
        "CREATE FUNCTION public.events_of(tenant uuid) RETURNS SETOF text STABLE LANGUAGE plpgsql SECURITY DEFINER
             AS $$ BEGIN RETURN QUERY SELECT title FROM public.events WHERE tenant_id = tenant; END $$;
         CREATE FUNCTION public.run(sql text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE sql; END $$;",
    )
    .await;
    assert_found(&report, Error, "function-definer", "public.events_of(tenant uuid)");
    assert_found(&report, Error, "function-definer", "public.run(sql text)");
}

#[tokio::test]
async fn functions_that_are_bound_or_not_callable_or_filter_are_quiet() {
    let report = verified(
        "CREATE FUNCTION public.mine() RETURNS SETOF public.events STABLE LANGUAGE sql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp
             AS 'SELECT * FROM public.events WHERE tenant_id = tenancy.current_tenant_id()';
         CREATE FUNCTION public.invoker() RETURNS SETOF public.events STABLE LANGUAGE sql AS 'SELECT * FROM public.events';
         CREATE FUNCTION public.bound() RETURNS SETOF public.events STABLE LANGUAGE sql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp
             AS 'SELECT * FROM public.events';
         ALTER FUNCTION public.bound OWNER TO tenancy_owner;
         CREATE FUNCTION public.revoked() RETURNS SETOF public.events STABLE LANGUAGE sql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp
             AS 'SELECT * FROM public.events';
         REVOKE EXECUTE ON FUNCTION public.revoked FROM PUBLIC;
         CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp
             AS $$ BEGIN PERFORM FROM public.events; RETURN NEW; END $$",
    )
    .await;
    assert_quiet(&report);
}
