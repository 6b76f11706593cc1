//! Writing through views, materialized views, and partitions and inheritance children in their own right.

use tenancy::rls::Severity::{Error, Note};
use tenancy::rls::report::{Source, Verdict};

use super::{assert_found, assert_quiet, assert_silent, find, verified};

const MINE: &str = "SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id()";

#[tokio::test]
async fn writing_through_views_is_convicted() {
    let report = verified(&format!(
        "CREATE VIEW public.planted AS {MINE}; GRANT INSERT ON public.planted TO tenancy_app;
         CREATE VIEW public.moved AS {MINE}; GRANT SELECT, UPDATE ON public.moved TO tenancy_app;
         CREATE VIEW public.\"Wi ped\" AS SELECT id FROM public.tickets; GRANT DELETE ON public.\"Wi ped\" TO tenancy_app;
         CREATE VIEW public.changed AS SELECT price FROM public.tickets; GRANT UPDATE (price) ON public.changed TO tenancy_app;
         CREATE VIEW public.instead WITH (security_invoker) AS SELECT * FROM public.tickets;
         GRANT SELECT, INSERT ON public.instead TO tenancy_app;
         CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             INSERT INTO public.tickets (tenant_id, event_id, price) VALUES (NEW.tenant_id, NEW.event_id, NEW.price);
             RETURN NEW; END $$;
         CREATE TRIGGER t INSTEAD OF INSERT ON public.instead FOR EACH ROW EXECUTE FUNCTION public.f();"
    ))
    .await;
    for (view, statement) in [
        ("planted", "INSERT INTO"),
        ("moved", "SET \"tenant_id\" = '<tenant B>'"),
        ("\"Wi ped\"", "DELETE FROM"),
        ("changed", "UPDATE public.changed"),
        ("instead", "INSERT INTO"),
    ] {
        let finding = assert_found(&report, Error, "view-definer", &format!("public.{view}"));
        assert_eq!(finding.source, Source::Probe, "{finding:#?}");
        assert!(finding.evidence.contains(statement), "{finding:#?}");
    }
}

#[tokio::test]
async fn views_that_check_what_is_written_are_notes() {
    let report = verified(&format!(
        "CREATE VIEW public.checked WITH (security_barrier) AS {MINE} WITH CHECK OPTION;
         GRANT SELECT, INSERT, UPDATE, DELETE ON public.checked TO tenancy_app;
         CREATE VIEW public.invoker WITH (security_invoker) AS SELECT * FROM public.tickets;
         CREATE VIEW public.instead WITH (security_invoker) AS SELECT * FROM public.tickets;
         GRANT SELECT, INSERT ON public.invoker, public.instead TO tenancy_app;
         CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$ BEGIN
             INSERT INTO public.tickets (tenant_id, event_id, price)
             VALUES (tenancy.current_tenant_id(), NEW.event_id, NEW.price);
             RETURN NEW; END $$;
         CREATE TRIGGER t INSTEAD OF INSERT ON public.instead FOR EACH ROW EXECUTE FUNCTION public.f();"
    ))
    .await;
    assert_quiet(&report);
    let finding = find(&report, "view-definer", "public.checked").expect("a note");
    assert_eq!(finding.severity, Note, "{report:#?}");
    assert!(find(&report, "view-definer", "public.instead").is_none(), "{report:#?}");
}

#[tokio::test]
async fn what_a_view_shows_of_a_leaking_table_is_the_tables_leak() {
    let report = verified(
        "DROP POLICY tenant_floor ON public.tickets; CREATE POLICY a ON public.tickets USING (true);
         CREATE VIEW public.v WITH (security_invoker) AS SELECT * FROM public.tickets;
         GRANT SELECT, DELETE ON public.v TO tenancy_app",
    )
    .await;
    assert_found(&report, Error, "permissive-leak", "public.tickets");
    assert_silent(&report, "view-definer");
}

#[tokio::test]
async fn a_materialized_view_is_read() {
    let event = "INSERT INTO tenancy.tenants (slug, name, plan, contact_email) SELECT 'real', 'Real', min(key), 'a@b.example' FROM tenancy.plans;
         INSERT INTO public.countries VALUES ('DE', 'Germany');
         INSERT INTO public.events SELECT id, gen_random_uuid(), 'x', 'DE', '2026-01-01', '2026-01-02' FROM tenancy.tenants;";
    let report = verified(&format!(
        "{event} CREATE MATERIALIZED VIEW public.full AS SELECT title FROM public.events;
         CREATE MATERIALIZED VIEW public.\"void\" AS SELECT title FROM public.events WHERE false;
         CREATE MATERIALIZED VIEW public.unfilled AS SELECT title FROM public.events WITH NO DATA;
         CREATE MATERIALIZED VIEW public.shut AS SELECT title FROM public.events;
         GRANT SELECT ON public.full, public.\"void\", public.unfilled TO tenancy_app"
    ))
    .await;
    for (name, source) in [("full", Source::Probe), ("void", Source::Catalog), ("unfilled", Source::Catalog)]
    {
        let object = format!("public.{}", if name == "full" { "\"full\"" } else { name });
        let finding = assert_found(&report, Error, "materialized-view", &object);
        assert_eq!(finding.source, source, "{finding:#?}");
        assert!(finding.fix.starts_with("REVOKE ALL"), "{finding:#?}");
    }
    assert!(find(&report, "materialized-view", "public.shut").is_none(), "{report:#?}");
}

#[tokio::test]
async fn partitions_and_children_are_attacked_themselves() {
    let report = verified(
        "CREATE TABLE public.logs (tenant_id uuid NOT NULL, at date NOT NULL, line text, PRIMARY KEY (tenant_id, at))
             PARTITION BY RANGE (at);
         CREATE TABLE public.logs_2026 PARTITION OF public.logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         CREATE TABLE public.base (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
         CREATE TABLE public.child (extra text NOT NULL, PRIMARY KEY (tenant_id, id)) INHERITS (public.base);
         CREATE TABLE public.safe (extra text NOT NULL, PRIMARY KEY (tenant_id, id)) INHERITS (public.base);
         SELECT tenancy.test_protect('public.logs'), tenancy.test_protect('public.base'), tenancy.test_protect('public.safe');
         GRANT SELECT ON public.logs_2026, public.child TO tenancy_app",
    )
    .await;
    for name in ["public.logs_2026", "public.child"] {
        let finding = assert_found(&report, Error, "partition-open", name);
        assert_eq!(finding.source, Source::Probe, "{finding:#?}");
    }
    for name in ["public.logs", "public.base", "public.safe"] {
        let table = report.tables.iter().find(|table| table.object == name).expect("a verdict");
        assert_eq!(table.verdict, Verdict::Proven, "{report:#?}");
    }
    assert_silent(&report, "probe-leak");
}
