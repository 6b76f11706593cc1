//! The recorder: many callers, one statement, an answer of its own for each.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tenancy::ErrorKind;
use tenancy::context::Signer;
use tenancy::tenant::TenantId;
use tenancy::usage::{RecorderOptions, Usage, UsageRecorder, Verdict};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::counted;
use crate::common::Database;

/// Connections of a platform's login, with what the application role may do.
pub(super) fn pool_of(db: &Database, login: &str) -> PgPool {
    let become_it = format!("SET SESSION AUTHORIZATION {login}");
    PgPoolOptions::new()
        .max_connections(2)
        .after_connect(move |connection, _| {
            let become_it = become_it.clone();
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(AssertSqlSafe(become_it))).await?;
                Ok(())
            })
        })
        .connect_lazy_with(db.options.clone().application_name("recorder"))
}

pub(super) fn acme(db: &Database) -> TenantId {
    TenantId(db.sql("SELECT id FROM tenancy.tenants WHERE slug = 'acme'").parse::<Uuid>().unwrap())
}

fn recorder(db: &Database, options: RecorderOptions) -> Arc<UsageRecorder> {
    Arc::new(UsageRecorder::start(pool_of(db, &db.app_login()), options))
}

pub(super) fn one(tenant: TenantId, key: Option<String>) -> Usage {
    Usage { tenant, metric: "events".into(), amount: 1, key, at: None }
}

#[tokio::test]
async fn whoever_called_first_is_decided_first() {
    let db = Database::with_acme("professional").await;
    let tenant = acme(&db);
    let recorder = recorder(&db, RecorderOptions { batch: 7, ..RecorderOptions::default() });
    // One thread: the tasks call in the order in which they are spawned.
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let recorder = Arc::clone(&recorder);
            tokio::spawn(async move { recorder.track(one(tenant, Some(format!("k{n}")))).await.unwrap() })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let answer = call.await.unwrap();
        let (verdict, used) =
            if n < 20 { (Verdict::Accepted, n as i64 + 1) } else { (Verdict::Rejected, 20) };
        assert_eq!((answer.verdict, answer.used, answer.limit), (verdict, Some(used), Some(20)), "call {n}");
    }
    let again = recorder.track(one(tenant, Some("k3".into()))).await.unwrap();
    assert_eq!((again.verdict, again.used), (Verdict::Duplicate, Some(4)));
    let other = Usage { amount: 2, ..one(tenant, Some("k3".into())) };
    assert_eq!(recorder.track(other).await.unwrap().verdict, Verdict::Conflict);
    let nobody = recorder.track(one(TenantId(Uuid::from_u128(7)), None)).await.unwrap();
    assert_eq!((nobody.verdict, nobody.used), (Verdict::UnknownTenant, None));
    let error = recorder.track(one(tenant, Some("a\0b".into()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(counted(&db, "events"), ("20".into(), "20".into()));
}

#[tokio::test]
async fn callers_who_go_away_and_a_recorder_that_ends_lose_nothing_that_was_answered() {
    let db = Database::with_acme("enterprise").await;
    db.sql("UPDATE tenancy.plan_limits SET limit_value = NULL WHERE plan = 'enterprise'");
    let tenant = acme(&db);
    // A queue that is shorter than the callers are many.
    let options = RecorderOptions { batch: 16, queue: 8, ..RecorderOptions::default() };
    let recorder = recorder(&db, options);
    let mut calls = JoinSet::new();
    for n in 0..400_u64 {
        let recorder = Arc::clone(&recorder);
        calls.spawn(async move {
            let call = recorder.track(one(tenant, None));
            // A third of them lose patience.
            let patience = if n % 3 == 0 { Duration::from_micros(n * 50) } else { Duration::from_secs(60) };
            tokio::time::timeout(patience, call).await.ok()
        });
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    recorder.close().await;
    recorder.close().await;
    let (mut accepted, mut refused, mut gone) = (0, 0, 0);
    for answer in calls.join_all().await {
        match answer {
            Some(Ok(answer)) => {
                assert_eq!(answer.verdict, Verdict::Accepted);
                accepted += 1;
            }
            Some(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                refused += 1;
            }
            None => gone += 1,
        }
    }
    assert_eq!(recorder.track(one(tenant, None)).await.unwrap_err().kind(), ErrorKind::Refused);
    let (used, ledger) = counted(&db, "events");
    assert_eq!(used, ledger);
    let used: u64 = used.parse().unwrap_or(0);
    assert!(
        (accepted..=accepted + gone).contains(&used),
        "{used} used, {accepted} accepted, {gone} gone, {refused} refused"
    );
}

#[tokio::test]
async fn lost_connections_count_nothing_twice() {
    let db = Arc::new(Database::with_acme("enterprise").await);
    db.sql("UPDATE tenancy.plan_limits SET limit_value = 900 WHERE plan = 'enterprise'");
    let tenant = acme(&db);
    let recorder = recorder(&db, RecorderOptions::default());
    let mut calls = JoinSet::new();
    for _ in 0..32 {
        let recorder = Arc::clone(&recorder);
        calls.spawn(async move {
            let mut accepted = 0;
            for _ in 0..40 {
                let answer = recorder.track(one(tenant, None)).await.unwrap();
                accepted += usize::from(answer.verdict == Verdict::Accepted);
            }
            accepted
        });
    }
    let killer = async {
        let mut killed = 0;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'recorder' AND datname = current_database()";
            killed += db.sql(query).parse::<u32>().unwrap();
        }
        killed
    };
    let (killed, accepted) = tokio::join!(killer, calls.join_all());
    assert!(killed > 0);
    assert_eq!(accepted.iter().sum::<usize>(), 900);
    assert_eq!(counted(&db, "events"), ("900".into(), "900".into()));
}

#[tokio::test]
async fn every_context_is_proven() {
    let db = Database::with_acme("enterprise").await;
    db.tenantctl(&["tenant", "create", "Beta"]).expect(0);
    let tenant = acme(&db);
    let login = db.app_login();
    let call = |contexts: &str, tenants: &str| {
        format!(
            "SELECT ords, outcomes, useds FROM tenancy.track_usages({contexts}, {tenants}, '{{events,events}}',
                 ARRAY[current_date, current_date], '{{1,2}}', '{{1,1}}', '{{a,b}}', ARRAY[now(), now()]);
             SELECT current_setting('app.current_tenant_id', true)"
        )
    };
    let beta = db.sql("SELECT id FROM tenancy.tenants WHERE slug = 'beta'");
    let both = format!("ARRAY['{tenant}', '{beta}']::uuid[]");
    let shown = db
        .psql_as(&login, Some(&beta), &call(&format!("ARRAY['{tenant}', '{beta}']"), &both))
        .expect(0)
        .stdout;
    assert_eq!(shown, format!("{{1,2}}|{{accepted,accepted}}|{{1,1}}\n{beta}\n"));
    for contexts in [
        format!("ARRAY['{tenant}', '{tenant}']"),
        "ARRAY[NULL, NULL]".into(),
        "'{}'".into(),
        "NULL".into(),
        format!("ARRAY['{tenant}', '']"),
    ] {
        let run = db.psql_as(&login, Some(&beta), &call(&contexts, &both));
        assert!(run.code != 0 && run.stderr.contains("42501"), "{contexts}: {run:?}");
    }
    // What only operators may call, a service may not.
    let record = "SELECT tenancy.record_usage('{}', '{}', '{}', NULL, '{}', '{}', '{}', '{}', now(), true)";
    let run = db.psql_as(&login, Some(&beta), record);
    assert!(run.code != 0 && run.stderr.contains("42501"), "{run:?}");

    // A login without the application role's rights is told so, and each caller is.
    db.sql(&format!("REVOKE tenancy_app FROM {login}"));
    let recorder = UsageRecorder::start(pool_of(&db, &login), RecorderOptions::default());
    let (first, second) = tokio::join!(recorder.track(one(tenant, None)), recorder.track(one(tenant, None)));
    for answer in [first, second] {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    db.sql(&format!("GRANT tenancy_app TO {login}"));

    // Sealed, a tenant's name proves nothing; a signature does.
    db.tenantctl(&["rls", "setup", "--context", "sealed"]).expect(0);
    let answer =
        UsageRecorder::start(pool_of(&db, &login), RecorderOptions::default()).track(one(tenant, None)).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let signer: Signer = db.sql("SELECT tenancy.signing_key()").parse().unwrap();
    let recorder = UsageRecorder::start(
        pool_of(&db, &login),
        RecorderOptions { signer: Some(signer), ..RecorderOptions::default() },
    );
    assert_eq!(recorder.track(one(tenant, None)).await.unwrap().verdict, Verdict::Accepted);
}
