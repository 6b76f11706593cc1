//! Functions that policies ask: who can change their answer, and what asking them costs.

use tenancy::rls::Severity::{Error, Note, Warning};

use super::meaning::{mended, tables};

const CONTEXT: &str = "nullif(current_setting('app.current_tenant_id', true), '')::uuid";

#[tokio::test]
async fn a_function_that_the_role_may_replace_is_found() {
    let sql = format!(
        "{} CREATE SCHEMA theirs AUTHORIZATION tenancy_app;
         CREATE FUNCTION public.\"My tenant\"() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         CREATE FUNCTION public.inner_one() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         CREATE FUNCTION public.outer_one() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT inner_one()$$;
         CREATE FUNCTION theirs.tenant() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         CREATE FUNCTION public.unasked() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         CREATE FUNCTION public.safe() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         ALTER FUNCTION public.\"My tenant\"() OWNER TO tenancy_app; ALTER FUNCTION public.inner_one() OWNER TO tenancy_app;
         ALTER FUNCTION public.unasked() OWNER TO tenancy_app;
         CREATE POLICY p ON public.a USING (tenant_id = public.\"My tenant\"());
         CREATE POLICY q ON public.a USING (tenant_id = public.outer_one());
         CREATE POLICY r ON public.a USING (tenant_id = theirs.tenant());
         CREATE POLICY s ON public.a USING (tenant_id = public.safe())",
        tables(&["a"])
    );
    mended(
        &sql,
        &[
            (Error, "helper-replaceable", "public.\"My tenant\"()"),
            (Error, "helper-replaceable", "public.inner_one()"),
            (Error, "helper-replaceable", "theirs.tenant()"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_function_that_says_it_never_changes_is_found() {
    let sql = format!(
        "{} CREATE FUNCTION public.fixed() RETURNS uuid IMMUTABLE LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         CREATE FUNCTION public.setting(name text) RETURNS uuid IMMUTABLE LANGUAGE plpgsql AS
             $$BEGIN RETURN nullif(current_setting(name, true), '')::uuid; END$$;
         CREATE FUNCTION public.row_of(tenant uuid) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
             $$BEGIN RETURN tenant = {CONTEXT}; END$$;
         CREATE FUNCTION public.pure(tenant uuid) RETURNS uuid IMMUTABLE LANGUAGE sql AS
             $$SELECT tenant /* current_setting */$$;
         CREATE FUNCTION public.stable_one() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         CREATE POLICY p ON public.a USING (tenant_id = public.fixed());
         CREATE POLICY q ON public.a USING (tenant_id = public.setting('app.current_tenant_id'));
         CREATE POLICY r ON public.a USING (public.row_of(tenant_id));
         CREATE POLICY s ON public.a USING (public.pure(tenant_id) = public.stable_one())",
        tables(&["a"])
    );
    mended(
        &sql,
        &[
            (Error, "helper-immutable", "public.fixed()"),
            (Error, "helper-immutable", "public.setting(name text)"),
            (Warning, "helper-immutable", "public.row_of(tenant uuid)"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_function_that_is_called_for_each_row_is_found() {
    let sql = format!(
        "{} CREATE FUNCTION public.\"Slow (one)\"() RETURNS uuid STABLE LANGUAGE plpgsql AS $$BEGIN RETURN {CONTEXT}; END$$;
         CREATE FUNCTION public.setting(name text) RETURNS uuid STABLE LANGUAGE plpgsql AS
             $$BEGIN RETURN nullif(current_setting(name, true), '')::uuid; END$$;
         CREATE FUNCTION public.forgotten() RETURNS uuid LANGUAGE plpgsql AS $$BEGIN RETURN {CONTEXT}; END$$;
         CREATE FUNCTION public.per_row(tenant uuid) RETURNS boolean LANGUAGE plpgsql AS
             $$BEGIN RETURN tenant = {CONTEXT}; END$$;
         CREATE FUNCTION public.logs() RETURNS uuid LANGUAGE plpgsql AS
             $$BEGIN PERFORM set_config('app.seen', 'yes', true); RETURN {CONTEXT}; END$$;
         -- PostgreSQL sees through this one, is told that the next is wrapped, and must call the last for each row.
         CREATE FUNCTION public.inlined() RETURNS uuid LANGUAGE sql AS $$SELECT {CONTEXT}$$;
         CREATE FUNCTION public.wrapped() RETURNS uuid LANGUAGE plpgsql AS $$BEGIN RETURN {CONTEXT}; END$$;
         CREATE FUNCTION public.of_row(tenant uuid) RETURNS boolean STABLE LANGUAGE plpgsql AS
             $$BEGIN RETURN tenant = {CONTEXT}; END$$;
         CREATE POLICY p ON public.a USING (tenant_id = public.\"Slow (one)\"());
         CREATE POLICY p2 ON public.a USING (tenant_id = (SELECT public.\"Slow (one)\"())) WITH CHECK (tenant_id = public.\"Slow (one)\"());
         CREATE POLICY q ON public.a USING (tenant_id = public.setting('app.current_tenant_id'));
         CREATE POLICY r ON public.b USING (tenant_id = public.forgotten());
         CREATE POLICY s ON public.b USING (public.per_row(tenant_id));
         CREATE POLICY t ON public.b USING (tenant_id = public.logs());
         CREATE POLICY u ON public.c USING (tenant_id = public.inlined());
         CREATE POLICY v ON public.c USING (tenant_id = (SELECT public.wrapped()));
         CREATE POLICY w ON public.c USING (public.of_row(tenant_id))",
        tables(&["a", "b", "c"])
    );
    mended(
        &sql,
        &[
            (Warning, "helper-unwrapped", "public.\"Slow (one)\"()"),
            (Warning, "helper-unwrapped", "public.setting(name text)"),
        ],
    )
    .await;
    mended(
        &sql,
        &[
            (Warning, "helper-volatile", "public.forgotten()"),
            (Warning, "helper-volatile", "public.per_row(tenant uuid)"),
            (Warning, "helper-volatile", "public.logs()"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_function_that_finds_a_table_by_the_callers_path_is_found() {
    let body = "SELECT org FROM members WHERE usr = current_setting('app.u', true)";
    let function = |name: &str, options: &str, body: &str| {
        format!(
            "CREATE FUNCTION public.{name}() RETURNS uuid STABLE SECURITY DEFINER {options} LANGUAGE sql {body};
             CREATE POLICY {name} ON public.a USING (tenant_id = (SELECT public.{name}()));"
        )
    };
    let text = format!("AS $${body}$$");
    let sql = [
        tables(&["a"]),
        "CREATE TABLE public.members (org uuid, usr text);".into(),
        function("loose", "", &text),
        function("pinned_too_little", "SET search_path = public", &text),
        function("pinned", "SET search_path = public, pg_temp", &text),
        function("emptied", "SET search_path = ''", &text.replace("members", "public.members")),
        function("qualified", "", &text.replace("members", "public.members")),
        function("parsed", "", &format!("RETURN ({body})")),
        function("no_table", "", &format!("AS $$SELECT {CONTEXT} /* from members */$$")),
    ]
    .concat();
    mended(
        &sql,
        &[
            (Error, "helper-search-path", "public.loose()"),
            (Error, "helper-search-path", "public.pinned_too_little()"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_definer_that_does_not_look_at_the_tenant_is_found() {
    let member = |name: &str, arguments: &str, condition: &str| {
        format!(
            "CREATE FUNCTION public.{name}({arguments}) RETURNS boolean STABLE SECURITY DEFINER SET search_path = '' LANGUAGE sql
                 AS $$SELECT EXISTS (SELECT FROM public.members m WHERE m.usr = current_setting('app.u', true){condition})$$;"
        )
    };
    let sql = [
        tables(&["a", "b", "c"]),
        "CREATE TABLE public.members (org uuid, usr text);".into(),
        member("ignores", "tenant uuid", ""),
        member("looks", "tenant uuid", " AND m.org = tenant"),
        member("looks_by_number", "uuid", " AND m.org = $1"),
        member("is_staff", "", ""),
        "CREATE POLICY p ON public.a USING (public.ignores(tenant_id));
         CREATE POLICY q ON public.b USING (tenant_id = tenancy.current_tenant_id() OR (SELECT public.is_staff()));
         CREATE POLICY r ON public.c USING (public.looks(tenant_id));
         CREATE POLICY s ON public.c USING (public.looks_by_number(tenant_id));
         CREATE POLICY t ON public.c USING (tenant_id = tenancy.current_tenant_id() AND public.is_staff());
         -- The floor holds whatever it says.
         CREATE POLICY p ON public.events USING (public.ignores(tenant_id))"
            .into(),
    ]
    .concat();
    // No attack makes anybody a member of the staff.
    mended(&sql, &[(Error, "helper-trusts-caller", "public.a"), (Note, "helper-trusts-caller", "public.b")])
        .await;
}
