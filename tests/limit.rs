//! Limits in layers: which one wins, until when, what is soft, and that no change of one lets too much through.

use serde_json::{Value, json};

mod race;

use crate::common::{Database, Run, run};

fn track(db: &Database, arguments: &[&str]) -> Run {
    db.tenantctl(&[&["usage", "track", "acme", "-o", "json"], arguments].concat())
}

/// Limit, source and softness of a metric in the statistics and in the explanation, which agree.
#[track_caller]
fn in_force(db: &Database, metric: &str, variables: &[(&str, &str)]) -> (Value, String, bool) {
    let json = |arguments: &[&str]| {
        run(db.command().envs(variables.iter().copied()).args(arguments).args(["-o", "json"]))
            .expect(0)
            .json()
    };
    let stats = json(&["usage", "stats", "acme"]);
    let stat = stats.as_array().unwrap().iter().find(|stat| stat["metric"] == metric).unwrap();
    let explained = json(&["limit", "explain", "acme", metric]);
    for field in ["limit", "source", "soft", "used", "remaining", "period_start", "unit"] {
        assert_eq!(stat[field], explained[field], "{field}");
    }
    let winners: Vec<_> =
        explained["layers"].as_array().unwrap().iter().filter(|layer| layer["wins"] == true).collect();
    assert_eq!(winners.len(), 1, "{explained}");
    assert_eq!(
        (&winners[0]["source"], &winners[0]["limit"], &winners[0]["soft"]),
        (&stat["source"], &stat["limit"], &stat["soft"])
    );
    (stat["limit"].clone(), stat["source"].as_str().unwrap().to_owned(), stat["soft"] == true)
}

/// How many counters do not hold what the layers say.
fn out_of_line(db: &Database) -> String {
    db.sql(
        "SELECT count(*) FROM tenancy.usage_counters c JOIN tenancy.limit_layers v USING (tenant_id, metric)
          WHERE (c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until)
                IS DISTINCT FROM (v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until)",
    )
}

#[tokio::test]
async fn every_layer_wins_when_it_should() {
    let db = Database::with_acme("starter").await;
    let environment = [("STARTER_PLAN_EVENTS", "7")];
    db.sql("UPDATE tenancy.metrics SET default_limit = 3, default_soft = true WHERE key = 'events'");
    let expected = |limit: u64, source: &str, soft| (json!(limit), source.to_owned(), soft);
    assert_eq!(in_force(&db, "events", &[]), expected(5, "plan", false));
    assert_eq!(in_force(&db, "events", &environment), expected(7, "environment", false));
    db.tenantctl(&["limit", "set", "acme", "events", "9", "--soft"]).expect(0);
    assert_eq!(in_force(&db, "events", &[]), expected(9, "override", true));
    assert_eq!(in_force(&db, "events", &environment), expected(9, "override", true));
    db.tenantctl(&["limit", "set", "acme", "events", "unlimited"]).expect(0);
    assert_eq!(in_force(&db, "events", &environment), (Value::Null, "override".into(), false));
    db.tenantctl(&["limit", "unset", "acme", "events"]).expect(0);
    assert_eq!(in_force(&db, "events", &environment), expected(7, "environment", false));
    db.sql(
        "BEGIN; DELETE FROM tenancy.plan_limits WHERE metric = 'events';
         SELECT tenancy.refresh_plan_limits(NULL, '{events}'); COMMIT",
    );
    assert_eq!(in_force(&db, "events", &[]), expected(3, "default", true));

    // The guard goes by the same: what is in force, before there is a counter and after.
    for (set, limit) in [("2", 2), ("4", 4), ("1", 1)] {
        db.tenantctl(&["limit", "set", "acme", "participants", set]).expect(0);
        let over = track(&db, &["--metric=participants", &format!("--amount={}", limit + 1)]).expect(6);
        assert_eq!(over.json()["limit"], limit);
        let fits = track(&db, &["--metric=participants", &format!("--amount={limit}")]).expect(0).json();
        assert_eq!((&fits["used"], &fits["limit"]), (&json!(limit), &json!(limit)));
        assert_eq!(out_of_line(&db), "0");
        track(&db, &["--metric=participants", &format!("--amount=-{limit}")]).expect(0);
    }
    // Members count against their limit, too.
    db.tenantctl(&["limit", "set", "acme", "admins", "0"]).expect(0);
    db.tenantctl(&["user", "add", "acme", "a@acme.org", "--role", "admin"]).expect(6);
    db.tenantctl(&["limit", "set", "acme", "admins", "1"]).expect(0);
    db.tenantctl(&["user", "add", "acme", "a@acme.org", "--role", "admin"]).expect(0);
}

#[tokio::test]
async fn an_override_stops_to_count_when_it_expires() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["limit", "set", "acme", "events", "3", "--expires", "1h"]).expect(0);
    track(&db, &["--metric=events", "--amount=2"]).expect(0);
    assert_eq!(in_force(&db, "events", &[]).1, "override");
    // Time passes, and nobody does anything.
    let past = "now() - interval '1 second'";
    db.sql(&format!(
        "UPDATE tenancy.limit_overrides SET expires_at = {past}; UPDATE tenancy.usage_counters SET override_until = {past}"
    ));
    let rejected = track(&db, &["--metric=events"]).expect(6).json();
    assert_eq!((&rejected["limit"], &rejected["used"]), (&json!(1), &json!(2)));
    assert_eq!(in_force(&db, "events", &[]), (json!(1), "plan".into(), false));
    let explained = db.json(&["limit", "explain", "acme", "events"]);
    let own = &explained["layers"][0];
    assert_eq!((&own["set"], &own["expired"], &own["wins"]), (&json!(true), &json!(true), &json!(false)));
    assert!(db.tenantctl(&["limit", "list"]).expect(0).stdout.contains("(over)"));

    // For real: between two tracks.
    db.tenantctl(&["limit", "set", "acme", "events", "10", "--expires", "2s"]).expect(0);
    track(&db, &["--metric=events"]).expect(0);
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    track(&db, &["--metric=events"]).expect(6);

    let error = db.refused(2, &["limit", "set", "acme", "events", "3", "--expires", "2020-01-01T00:00:00Z"]);
    assert!(error["message"].as_str().unwrap().contains("it is over"), "{error}");
    for bad in ["yesterday", "", "-1d", "9999999999999y", "2027-13-01T00:00:00Z"] {
        db.tenantctl(&["limit", "set", "acme", "events", "3", &format!("--expires={bad}")]).expect(2);
    }
}

#[tokio::test]
async fn setting_says_what_it_did_and_a_dry_run_leaves_nothing() {
    let db = Database::with_acme("free").await;
    track(&db, &["--metric=storage", "--amount=1GB"]).expect(0);
    let before = db.dump();
    let reason = "O'Neill \"asked\"; DROP TABLE tenancy.tenants; -- für 14 Tage ✓";
    let set =
        ["limit", "set", "acme", "storage", "1536MB", "--expires", "2099-01-31T12:00:00+02:00", "--reason"];
    let dry = db.tenantctl(&[&set[..], &[reason, "--dry-run", "-o", "json"]].concat()).expect(0);
    assert_eq!((&dry.json()["outcome"], &dry.json()["dry_run"]), (&json!("created"), &json!(true)));
    assert_eq!(dry.stderr, "would set limit of storage of tenant acme\n");
    assert_eq!(db.dump(), before);

    let created = db.json(&[&set[..], &[reason]].concat());
    assert_eq!(
        created.as_object().unwrap().keys().collect::<Vec<_>>(),
        [
            "outcome",
            "tenant",
            "metric",
            "unit",
            "limit",
            "soft",
            "expires_at",
            "expired",
            "reason",
            "actor",
            "created_at",
            "used"
        ]
    );
    assert_eq!(
        (&created["outcome"], &created["limit"], &created["expires_at"], &created["reason"]),
        (&json!("created"), &json!(1536_u64 << 20), &json!("2099-01-31T10:00:00Z"), &json!(reason))
    );
    assert_eq!(created["actor"], db.sql("SELECT session_user"));
    let after = db.dump();
    assert_eq!(db.json(&[&set[..], &[reason]].concat())["outcome"], "unchanged");
    assert_eq!(db.dump(), after);
    let table = db.tenantctl(&["limit", "explain", "acme", "storage"]).expect(0);
    assert!(table.stdout.contains("1.5GB") && table.stdout.contains("FREE_PLAN_STORAGE"), "{table:?}");

    // Less than is used is a limit like any other, and said.
    let lower = db.tenantctl(&["limit", "set", "acme", "storage", "10kB"]).expect(0);
    assert!(lower.stderr.contains("1GB used already: nothing more is admitted"), "{lower:?}");
    assert!(lower.stdout.contains("10kB"), "{lower:?}");
    track(&db, &["--metric=storage", "--amount=1"]).expect(6);
    track(&db, &["--metric=storage", "--amount=-1"]).expect(0);

    assert_eq!(
        db.sql("SELECT string_agg(action || ' ' || (details->>'limit'), ', ' ORDER BY id) FROM tenancy.audit_log WHERE action LIKE 'limit.%'"),
        "limit.set 1610612736, limit.set 10240"
    );
    assert_eq!(
        db.sql(
            "SELECT details->>'reason' FROM tenancy.audit_log WHERE action = 'limit.set' ORDER BY id LIMIT 1"
        ),
        reason
    );
    assert_eq!(db.tenantctl(&["limit", "list", "-q"]).stdout, "acme storage\n");
    let listed = db.json(&["limit", "list", "acme"]);
    assert_eq!((&listed[0]["limit"], &listed[0]["used"]), (&json!(10240), &json!((1_u64 << 30) - 1)));

    db.tenantctl(&["limit", "unset", "acme", "storage", "--dry-run"]).expect(0);
    assert_eq!(db.json(&["limit", "list"]), listed);
    assert_eq!(db.json(&["limit", "unset", "acme", "storage"])["outcome"], "removed");
    assert_eq!(db.json(&["limit", "list"]), json!([]));
    let error = db.refused(3, &["limit", "unset", "acme", "storage"]);
    assert_eq!(error["details"]["kind"], "override");
    let absent = db.json(&["limit", "unset", "acme", "storage", "--if-exists"]);
    assert_eq!(absent, json!({ "outcome": "unchanged" }));
    assert_eq!(out_of_line(&db), "0");
}

#[tokio::test]
async fn what_is_no_limit_is_refused() {
    let db = Database::with_acme("free").await;
    let before = db.dump();
    for (metric, value) in [
        ("events", "-1"),
        ("events", "1GB"),
        ("events", ""),
        ("events", "many"),
        ("events", "9223372036854775808"),
        ("events", "1.5"),
        ("storage", "1XB"),
        ("storage", "9007199254740992kB"),
        ("storage", "-1GB"),
    ] {
        let error = db.refused(2, &["limit", "set", "acme", metric, value]);
        assert_eq!(error["details"]["field"], "limit", "{value}: {error}");
    }
    db.refused(2, &["limit", "set", "acme", "events", "unlimited", "--soft"]);
    for reason in ["", " ", "a\nb", &"x".repeat(201)] {
        let error = db.refused(2, &["limit", "set", "acme", "events", "1", "--reason", reason]);
        assert_eq!(error["details"]["field"], "reason", "{error}");
    }
    for metric in ["event", "events'; --", "", "ünïcode"] {
        db.refused(3, &["limit", "set", "acme", metric, "1"]);
        db.refused(3, &["limit", "explain", "acme", metric]);
        db.refused(3, &["limit", "unset", "acme", metric, "--if-exists"]);
    }
    assert_eq!(db.refused(3, &["limit", "explain", "acme", "event"])["hint"], "did you mean \"events\"?");
    db.refused(3, &["limit", "set", "nobody", "events", "1"]);
    db.refused(3, &["limit", "unset", "nobody", "events", "--if-exists"]);
    db.refused(3, &["limit", "list", "nobody"]);
    assert_eq!(db.dump(), before);
    db.tenantctl(&["tenant", "delete", "acme", "--yes"]).expect(0);
    db.refused(10, &["limit", "set", "acme", "events", "1"]);
}

#[tokio::test]
async fn a_soft_limit_admits_and_marks() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["limit", "set", "acme", "events", "2", "--soft"]).expect(0);
    assert_eq!(track(&db, &["--metric=events", "--amount=2"]).expect(0).json()["outcome"], "accepted");
    let over = track(&db, &["--metric=events", "--key=k"]).expect(0);
    assert_eq!(
        over.json(),
        json!({ "tenant": "acme", "metric": "events", "amount": 1, "used": 3, "limit": 2, "remaining": 0,
                "period_start": null, "outcome": "over_soft_limit" })
    );
    assert_eq!(over.stderr, "tenant acme is over its soft limit of events: 3 used of 2\n");
    assert_eq!(track(&db, &["--metric=events", "--key=k"]).expect(0).json()["outcome"], "duplicate");
    let table = db.tenantctl(&["usage", "track", "acme", "--metric=events"]).expect(0);
    assert!(table.stdout.contains("over_soft_limit"), "{table:?}");
    let stats = db.tenantctl(&["usage", "stats", "acme"]).expect(0).stdout;
    assert!(stats.contains("2 (soft)") && stats.contains("200.0 %"), "{stats}");
    assert_eq!(track(&db, &["--metric=events", "--amount=-1"]).expect(0).json()["outcome"], "accepted");

    // What a counter cannot hold is refused by any limit.
    let most = "--amount=9223372036854775807";
    assert_eq!(track(&db, &["--metric=events", most]).expect(6).json()["used"], 3);
    db.tenantctl(&["limit", "set", "acme", "events", "unlimited"]).expect(0);
    track(&db, &["--metric=events", most]).expect(6);
    track(&db, &["--metric=events", "--amount=9223372036854775804"]).expect(0);
    track(&db, &["--metric=events"]).expect(6);
    assert_eq!(db.sql("SELECT used FROM tenancy.usage_counters"), "9223372036854775807");
    // It stands in the way of no smaller plan.
    db.tenantctl(&["limit", "set", "acme", "events", "2", "--soft"]).expect(0);
    db.tenantctl(&["tenant", "update", "acme", "--plan", "starter"]).expect(0);
    db.tenantctl(&["limit", "unset", "acme", "events"]).expect(0);
    db.tenantctl(&["tenant", "update", "acme", "--plan", "free"]).expect(6);
}

#[tokio::test]
async fn a_change_of_plan_keeps_the_override() {
    let db = Database::with_acme("professional").await;
    track(&db, &["--metric=events", "--amount=15"]).expect(0);
    let error = db.refused(6, &["tenant", "update", "acme", "--plan", "starter"]);
    assert_eq!(error["details"]["excesses"], json!([{ "metric": "events", "used": 15, "limit": 5 }]));
    db.tenantctl(&["limit", "set", "acme", "events", "15"]).expect(0);
    db.tenantctl(&["tenant", "update", "acme", "--plan", "starter"]).expect(0);
    assert_eq!(in_force(&db, "events", &[]), (json!(15), "override".into(), false));
    track(&db, &["--metric=events"]).expect(6);
    assert_eq!(out_of_line(&db), "0");
    db.tenantctl(&["limit", "unset", "acme", "events"]).expect(0);
    let stat = &db.json(&["usage", "stats", "acme"])[0];
    assert_eq!((&stat["limit"], &stat["remaining"], &stat["percent"]), (&json!(5), &json!(0), &json!(300.0)));
    // The default is held against what is used where the plan says nothing.
    db.sql(
        "DELETE FROM tenancy.plan_limits WHERE plan = 'free' AND metric = 'events';
         UPDATE tenancy.metrics SET default_limit = 2 WHERE key = 'events'",
    );
    let error = db.refused(6, &["tenant", "update", "acme", "--plan", "free"]);
    assert_eq!(error["details"]["excesses"][0]["limit"], 2);
}

#[tokio::test]
async fn the_largest_amount_of_a_period_is_each_held_against_the_limit_by_itself() {
    let db = Database::with_acme("free").await;
    db.sql(
        "INSERT INTO tenancy.metrics (key, name, unit, kind, reset, aggregation, default_limit, position)
         VALUES ('peak', 'Peak', 'count', 'counter', 'daily', 'max', 10, 9)",
    );
    let used = |amount: &str, at: &str, code| {
        track(&db, &["--metric=peak", "--amount", amount, "--at", at]).expect(code).json()["used"].clone()
    };
    assert_eq!(used("7", "2026-11-01T10:00:00Z", 0), 7);
    assert_eq!(used("4", "2026-11-01T11:00:00Z", 0), 7);
    assert_eq!(used("11", "2026-11-01T12:00:00Z", 6), 7);
    assert_eq!(used("10", "2026-11-01T13:00:00Z", 0), 10);
    assert_eq!(used("10", "2026-11-01T14:00:00Z", 0), 10);
    assert_eq!(used("1", "2026-11-02T00:00:00Z", 0), 1);
    track(&db, &["--metric=peak", "--amount=-1"]).expect(2);
    db.tenantctl(&["limit", "set", "acme", "peak", "5", "--soft"]).expect(0);
    let over = track(&db, &["--metric=peak", "--amount=9223372036854775807"]).expect(0).json();
    assert_eq!((&over["used"], &over["outcome"]), (&json!(i64::MAX), &json!("over_soft_limit")));
}

#[tokio::test]
async fn a_monthly_period_begins_on_its_day() {
    let db = Database::with_acme("enterprise").await;
    db.sql("UPDATE tenancy.metrics SET kind = 'counter', reset = 'monthly', anchor_day = 31 WHERE key = 'events'");
    let period = |at: &str| {
        track(&db, &["--metric=events", "--at", at]).expect(0).json()["period_start"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (at, start) in [
        ("2027-01-30T23:59:59Z", "2026-12-31T00:00:00Z"),
        ("2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z"),
        ("2027-02-27T23:59:59Z", "2027-01-31T00:00:00Z"),
        ("2027-02-28T00:00:00Z", "2027-02-28T00:00:00Z"),
        ("2027-03-30T23:00:00Z", "2027-02-28T00:00:00Z"),
        ("2028-02-28T23:00:00Z", "2028-01-31T00:00:00Z"),
        ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
        // The zone of the session does not matter, that of the time does.
        ("2028-02-28T22:00:00-02:00", "2028-02-29T00:00:00Z"),
        ("2027-04-30T00:00:00Z", "2027-04-30T00:00:00Z"),
    ] {
        assert_eq!(period(at), start, "{at}");
    }
    // Every day belongs to one period, which began on it or before, and less than 32 days ago.
    assert_eq!(
        db.sql(
            "SELECT count(*) FROM generate_series(1, 31) a, generate_series('2027-01-01Z'::timestamptz, '2029-01-01Z', '6 h') d,
                    tenancy.usage_period('monthly', a::smallint, d) p
              WHERE p > d OR d - p >= interval '31 days' OR p <> tenancy.usage_period('monthly', a::smallint, p)
                 OR date_part('day', p AT TIME ZONE 'UTC') <>
                    least(a, date_part('day', date_trunc('month', p AT TIME ZONE 'UTC') + interval '1 month -1 day'))"
        ),
        "0"
    );
    // The tenant's own day wins, and begins a new period.
    let updated = db.json(&["tenant", "update", "acme", "--billing-day", "15"]);
    assert_eq!((&updated["outcome"], &updated["billing_day"]), (&json!("updated"), &json!(15)));
    assert_eq!(db.json(&["tenant", "update", "acme", "--billing-day", "15"])["outcome"], "unchanged");
    assert_eq!(period("2027-01-31T00:00:00Z"), "2027-01-15T00:00:00Z");
    assert_eq!(period("2027-01-14T00:00:00Z"), "2026-12-15T00:00:00Z");
    let stats = db.json(&["usage", "stats", "acme"]);
    assert_eq!(&stats[0]["period_start"].as_str().unwrap()[8..], "15T00:00:00Z");
    for bad in ["0", "32", "x", "-1", "1.5"] {
        db.tenantctl(&["tenant", "update", "acme", &format!("--billing-day={bad}")]).expect(2);
        db.tenantctl(&["tenant", "create", "Beta", &format!("--billing-day={bad}")]).expect(2);
    }
    assert_eq!(db.json(&["tenant", "update", "acme", "--billing-day", "none"])["billing_day"], Value::Null);
    assert_eq!(period("2027-01-31T00:00:00Z"), "2027-01-31T00:00:00Z");
    assert_eq!(db.json(&["tenant", "create", "Beta", "--billing-day", "31"])["billing_day"], 31);
}

#[tokio::test]
async fn a_tenant_sees_its_own_overrides_and_writes_none() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "Beta"]).expect(0);
    db.tenantctl(&["limit", "set", "acme", "events", "5", "--reason", "acme's"]).expect(0);
    db.tenantctl(&["limit", "set", "beta", "events", "6", "--reason", "beta's"]).expect(0);
    let acme = db.sql("SELECT id FROM tenancy.tenants WHERE slug = 'acme'");
    let role = db.app_login();
    let see = "SELECT reason FROM tenancy.limit_overrides";
    assert_eq!(db.psql_as(&role, Some(&acme), see).expect(0).stdout.trim(), "acme's");
    assert_eq!(db.psql_as(&role, None, see).expect(0).stdout.trim(), "");
    let before = db.dump();
    for sql in [
        "UPDATE tenancy.limit_overrides SET limit_value = NULL",
        "DELETE FROM tenancy.limit_overrides",
        "INSERT INTO tenancy.limit_overrides (tenant_id, metric) SELECT id, 'storage' FROM tenancy.tenants",
        "UPDATE tenancy.tenants SET anchor_day = 1",
        "SELECT * FROM tenancy.limit_layers",
        "SELECT tenancy.limit_in_force(1, false, NULL, NULL, NULL, NULL)",
    ] {
        let refused = db.psql_as(&role, Some(&acme), sql);
        assert!(refused.code != 0 && refused.stderr.contains("42501"), "{sql}: {refused:?}");
    }
    assert_eq!(db.dump(), before);
    // A role that may not administer gets no further with the command line.
    db.sql(&format!("ALTER ROLE {role} PASSWORD 'right'"));
    let mut command = db.command();
    command.env("TENANTCTL_URL", db.url().replace("user=postgres", &format!("user={role}")));
    command.env("PGPASSWORD", "right");
    let denied = run(command.args(["limit", "set", "acme", "events", "9", "-o", "json"]));
    assert_eq!(denied.expect(8).error()["code"], "permission_denied");
    assert_eq!(db.dump(), before);
}
