//! Usage as a platform's service reports it: the SQL function, called as the application role.

use crate::common::{Database, Run};

struct Service {
    db: Database,
    login: String,
    acme: String,
    beta: String,
}

/// A service's login, with two tenants to serve.
async fn service() -> Service {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "Beta", "--owner", "b@beta.org"]).expect(0);
    db.tenantctl(&["user", "add", "acme", "a@acme.org", "--role", "owner"]).expect(0);
    let id = |slug: &str| db.sql(&format!("SELECT id FROM tenancy.tenants WHERE slug = '{slug}'"));
    Service { login: db.app_login(), acme: id("acme"), beta: id("beta"), db }
}

impl Service {
    fn run(&self, context: Option<&str>, sql: &str) -> Run {
        self.db.psql_as(&self.login, context, sql)
    }

    fn sees(&self, context: Option<&str>, sql: &str) -> String {
        self.run(context, sql).expect(0).stdout.trim_end().to_owned()
    }

    fn refused(&self, context: Option<&str>, sql: &str, sqlstate: &str) {
        let run = self.run(context, sql);
        assert!(run.code != 0 && run.stderr.contains(&format!("ERROR:  {sqlstate}")), "{sql}: {run:?}");
    }
}

#[tokio::test]
async fn a_service_tracks_in_the_context_of_the_tenant_that_it_serves() {
    let service = service().await;
    let acme = service.acme.as_str();
    let call = |rest: &str| format!("SELECT * FROM tenancy.track_usage('{acme}', 'events'{rest})");
    assert_eq!(service.sees(Some(acme), &call(", 1, 'k'")), "accepted|1|1|1|-infinity");
    assert_eq!(service.sees(Some(acme), &call(", 1, 'k'")), "duplicate|1|1|1|-infinity");
    assert_eq!(service.sees(Some(acme), &call("")), "rejected|1|1|1|-infinity");
    assert_eq!(service.sees(Some(acme), &call(", -1")), "accepted|-1|0|1|-infinity");

    let before = service.db.dump();
    // Another tenant's context, none, an empty one, one that is no tenant.
    for context in [Some(service.beta.as_str()), None, Some(""), Some("0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11")]
    {
        service.refused(context, &call(""), "42501");
    }
    service.refused(Some("' OR true --"), &call(""), "42601");
    service.refused(Some("garbage"), &call(""), "22P02");
    service.refused(Some(acme), "SELECT tenancy.track_usage(NULL, 'events')", "42501");
    service.refused(None, "SELECT tenancy.track_usage(NULL, 'events')", "42501");
    // Its own mistakes have codes of their own.
    for (arguments, sqlstate) in [
        ("'gold', 1", "TN001"),
        ("'admins', 1", "TN002"),
        ("'events', 0", "TN003"),
        ("'events', NULL", "TN003"),
        ("'events', -9223372036854775808", "TN003"),
        ("'events', 5, 'k'", "TN006"),
    ] {
        service.refused(Some(acme), &format!("SELECT tenancy.track_usage('{acme}', {arguments})"), sqlstate);
    }
    let stranger = "0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11";
    service.refused(Some(stranger), &format!("SELECT tenancy.track_usage('{stranger}', 'events')"), "TN004");
    assert_eq!(service.db.dump(), before);
    service.db.tenantctl(&["tenant", "suspend", "acme"]).expect(0);
    service.refused(Some(acme), &call(""), "TN005");
}

/// Advisory locks of the transaction that only one may hold, and all of them; the epoch's is shared.
const LOCKS: &str = "SELECT count(*) FILTER (WHERE mode = 'ExclusiveLock'), count(*) FROM pg_locks
                      WHERE pid = pg_backend_pid() AND locktype = 'advisory'";

/// Locks live in a table of a fixed size, and whoever holds one while he waits for another may wait for ever.
#[tokio::test]
async fn a_transaction_queues_once_whatever_it_tracks() {
    let service = service().await;
    let acme = service.acme.as_str();
    let track = |metric| format!("SELECT FROM tenancy.track_usage('{acme}', '{metric}');");
    let all = ["participants", "storage", "events"].map(track).concat();
    // What begins a period waits for nobody.
    assert_eq!(service.sees(Some(acme), &format!("{all} {LOCKS}")), "0|1");
    // The third is over its limit by now.
    assert_eq!(service.sees(Some(acme), &format!("{all} {LOCKS}")), "1|2");
    assert_eq!(service.sees(Some(acme), &format!("{} {LOCKS}", track("events"))), "0|1");
    assert_eq!(service.sees(Some(acme), &format!("{0} {0} {LOCKS}", track("events"))), "0|1");
}

#[tokio::test]
async fn a_service_cannot_lift_its_own_limits() {
    let service = service().await;
    let acme = service.acme.as_str();
    let track = format!("SELECT tenancy.track_usage('{acme}', 'events', 1, NULL, NULL, 1000)");
    service.run(Some(acme), &format!("SELECT tenancy.track_usage('{acme}', 'events')")).expect(0);
    let before = service.db.dump();
    for (sql, sqlstate) in [
        // The stand-in for a plan's limit is an operator's.
        (track.as_str(), "42501"),
        (&track.replace("1000", "-1"), "42501"),
        ("UPDATE tenancy.usage_counters SET used = 0", "42501"),
        ("UPDATE tenancy.usage_counters SET limit_value = NULL", "42501"),
        ("DELETE FROM tenancy.usage_events", "42501"),
        (
            "INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start) VALUES (gen_random_uuid(), 'events', now())",
            "42501",
        ),
        ("UPDATE tenancy.tenants SET plan = 'enterprise'", "42501"),
        ("UPDATE tenancy.plan_limits SET limit_value = NULL", "42501"),
        (
            "INSERT INTO tenancy.memberships SELECT tenant_id, user_id, 'admin' FROM tenancy.memberships",
            "42501",
        ),
        ("DELETE FROM tenancy.audit_log", "42501"),
        ("INSERT INTO tenancy.audit_log (action) VALUES ('x')", "42501"),
        ("SELECT tenancy.refresh_limits(gen_random_uuid())", "42501"),
        ("SELECT tenancy.refresh_plan_limits('{free}', NULL)", "42501"),
        ("SELECT tenancy.read_plan_limits()", "42501"),
        ("SELECT tenancy.change_plan_limits()", "42501"),
        ("SELECT tenancy.admit_usage(gen_random_uuid(), 'events', 1, now(), -1, 'sum')", "42501"),
        ("SELECT tenancy.usage_fits(0, 1, 'sum', 0, true)", "42501"),
        ("SELECT * FROM tenancy.limit_layers", "42501"),
        (
            "INSERT INTO tenancy.limit_overrides (tenant_id, metric) SELECT id, 'events' FROM tenancy.tenants",
            "42501",
        ),
        ("UPDATE tenancy.limit_overrides SET limit_value = NULL", "42501"),
        ("DELETE FROM tenancy.limit_overrides", "42501"),
        ("UPDATE tenancy.usage_counters SET override_until = 'infinity'", "42501"),
        ("UPDATE tenancy.metrics SET default_limit = NULL", "42501"),
        ("LOCK TABLE tenancy.plan_limits IN EXCLUSIVE MODE", "42501"),
        ("CALL tenancy.isolate('tenancy.tenants', 'true')", "42501"),
        ("TRUNCATE tenancy.usage_events", "42501"),
        ("CREATE TABLE tenancy.mine ()", "42501"),
        (
            "CREATE OR REPLACE FUNCTION tenancy.current_tenant_id() RETURNS uuid LANGUAGE sql RETURN NULL",
            "42501",
        ),
        ("DROP POLICY tenant_isolation ON tenancy.tenants", "42501"),
        ("SET LOCAL ROLE tenancy_owner", "42501"),
        ("SET LOCAL ROLE tenancy_admin", "42501"),
    ] {
        service.refused(Some(acme), sql, sqlstate);
    }
    assert_eq!(service.db.dump(), before);
}

#[tokio::test]
async fn a_service_sees_the_rows_of_the_tenant_that_it_serves_and_no_other() {
    let service = service().await;
    let Service { db, acme, beta, .. } = &service;
    for slug in ["acme", "beta"] {
        db.tenantctl(&["usage", "track", slug, "--metric", "participants"]).expect(0);
    }
    db.sql(&format!("INSERT INTO tenancy.tenant_aliases VALUES ('a1', '{acme}'), ('b1', '{beta}')"));
    let tenant_tables = [
        ("tenants", "id"),
        ("tenant_aliases", "tenant_id"),
        ("memberships", "tenant_id"),
        ("usage_counters", "tenant_id"),
        ("usage_events", "tenant_id"),
        ("audit_log", "tenant_id"),
    ];
    for (table, column) in tenant_tables {
        let all = format!("SELECT string_agg(DISTINCT {column}::text, ',') FROM tenancy.{table}");
        assert_eq!(db.sql(&all).split(',').count(), 2, "{table} holds rows of both");
        assert_eq!(service.sees(Some(acme), &all), *acme, "{table}");
        assert_eq!(service.sees(Some(beta), &all), *beta, "{table}");
        for nobody in [None, Some(""), Some("0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11")] {
            assert_eq!(
                service.sees(nobody, &format!("SELECT count(*) FROM tenancy.{table}")),
                "0",
                "{table}"
            );
        }
    }
    // People are seen where they are members.
    let people = "SELECT string_agg(email, ',') FROM tenancy.users";
    assert_eq!(service.sees(Some(acme), people), "a@acme.org");
    assert_eq!(service.sees(Some(beta), people), "b@beta.org");
    assert_eq!(service.sees(None, people), "");
    // Every table of the control plane is either one of these, or the catalogue that all tenants share, or closed.
    let open = db.sql(
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
          WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r' AND NOT relrowsecurity
            AND has_table_privilege('tenancy_app', oid, 'SELECT')",
    );
    assert_eq!(open, "_sqlx_migrations features metrics plan_features plan_limits plans");
    let writable = db.sql(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r'
            AND has_table_privilege('tenancy_app', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')",
    );
    assert_eq!(writable, "0");
}

#[tokio::test]
async fn a_context_ends_with_its_transaction() {
    let service = service().await;
    let acme = service.acme.as_str();
    let role = format!("--command=SET SESSION AUTHORIZATION {}", service.login);
    let first = format!(
        "--command=BEGIN; SET LOCAL app.current_tenant_id = '{acme}'; SELECT slug FROM tenancy.tenants; COMMIT"
    );
    // The variable reads '' now, which is nobody.
    let second = "--command=SELECT count(*), tenancy.current_tenant_id() IS NULL FROM tenancy.tenants";
    let run = service.db.psql(&["--no-align", "--tuples-only", &role, &first, second]).expect(0);
    assert_eq!(run.stdout, "acme\n0|t\n");
}

/// A plan that was made while the ledger was known to be empty is kept, and would read all of it for each call.
#[tokio::test]
async fn a_call_reads_by_index_whatever_the_ledger_was_when_it_was_planned() {
    let db = Database::with_acme("professional").await;
    db.sql("VACUUM ANALYZE");
    let scans = db.sql(
        "DO $$
         DECLARE
             acme uuid := (SELECT id FROM tenancy.tenants WHERE slug = 'acme');
             held uuid;
         BEGIN
             PERFORM set_config('app.current_tenant_id', acme::text, true);
             FOR n IN 1..12 LOOP
                 PERFORM FROM tenancy.track_usage(acme, 'events', 1, 'key ' || n % 10);
                 held := (SELECT reservation FROM tenancy.reserve_usage(acme, 'events', p_key => 'held ' || n));
                 PERFORM FROM tenancy.commit_usage(acme, held) WHERE n > 6;
                 PERFORM FROM tenancy.release_usage(acme, held) WHERE n <= 6;
             END LOOP;
         END $$;
         SELECT sum(pg_stat_get_xact_numscans(x.oid))
           FROM (VALUES ('tenancy.usage_events_1'::regclass), ('tenancy.usage_counters'), ('tenancy.usage_reservations')) x (oid)",
    );
    assert_eq!(scans, "0");
    assert_eq!(db.sql("SELECT used FROM tenancy.usage_counters"), "16");
}
