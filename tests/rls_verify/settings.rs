//! Settings that open a table, however they are read.

use tenancy::rls::Severity::{Error, Note};

use super::{assert_found, assert_quiet, find, verified};

const H: &str = "DROP POLICY tenant_floor ON public.tickets;
    CREATE FUNCTION public.g() RETURNS text STABLE LANGUAGE sql AS $$SELECT current_setting('my.mode', true)$$;
    CREATE FUNCTION public.is_root() RETURNS boolean STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN md5(public.g()) = 'x'; END $$;
    CREATE FUNCTION public.hidden() RETURNS boolean STABLE LANGUAGE plpgsql AS
        $$ DECLARE t text; BEGIN EXECUTE 'select current_setting(''my.''||''mode'',true)' INTO t; RETURN md5(t) = 'x'; END $$;";

#[tokio::test]
async fn what_guesses_do_not_open_is_not_cleared() {
    for term in [
        "nullif(current_setting('my.level', true), '')::int >= 7",
        "md5(current_setting('my.pw', true)) = '5f4dcc3b5aa765d61d8327deb882cf99'",
        "(SELECT tenancy.current_tenant_id()) = '00000000-0000-0000-0000-000000000000'",
        "public.is_root()",
        "public.hidden()",
    ] {
        let report = verified(&format!(
            "{H} ALTER POLICY tenant_isolation ON public.tickets USING (tenant_id = tenancy.current_tenant_id() OR {term})"
        ))
        .await;
        assert_found(&report, Error, "spoofable-bypass", "public.tickets");
    }
    // A permissive policy of its own is an alternative like any OR.
    let support = "CREATE POLICY support ON public.tickets FOR SELECT
                   USING (md5(current_setting('my.pw', true)) = '5f4dcc3b5aa765d61d8327deb882cf99')";
    let report = verified(&format!("{H} {support}")).await;
    assert_found(&report, Error, "spoofable-bypass", "public.tickets");
}

#[tokio::test]
async fn a_setting_under_and_or_over_a_floor_is_a_note() {
    let term = "md5(current_setting('my.pw', true)) IS DISTINCT FROM 'x'";
    let own = "tenant_id = tenancy.current_tenant_id()";
    let report = verified(&format!(
        "{H} ALTER POLICY tenant_isolation ON public.tickets USING ({own} AND {term});
         ALTER POLICY tenant_isolation ON public.events USING ({own} OR {term})"
    ))
    .await;
    assert_quiet(&report);
    for table in ["public.tickets", "public.events"] {
        let finding = find(&report, "spoofable-bypass", table).expect("a note");
        assert_eq!(finding.severity, Note, "{finding:#?}");
    }
}
