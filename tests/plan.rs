//! Plans: what the default catalogue allows, and how the environment stands in for it.

mod apply;

use serde_json::{Value, json};

use crate::common::{Database, Run, run};

/// Runs `tenantctl` with variables.
fn with(db: &Database, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    run(db.command().envs(variables.iter().copied()).args(arguments).args(["-o", "json"]))
}

#[tokio::test]
async fn the_default_plans_are_the_ones_that_were_asked_for() {
    const GB: u64 = 1 << 30;
    let db = Database::with_acme("starter").await;
    let plans = db.json(&["plan", "list"]);
    let basic = ["basic_events", "team_formation"];
    let starter = [&basic[..], &["custom_branding", "analytics"]].concat();
    let professional = [&starter[..], &["advanced_judging", "sponsors", "api_access"]].concat();
    let enterprise = [&professional[..], &["sso_integration", "white_label"]].concat();
    let expected = [
        ("free", "Free", [1, 50, GB, 1], basic.to_vec()),
        ("starter", "Starter", [5, 200, 5 * GB, 3], starter),
        ("professional", "Professional", [20, 1000, 25 * GB, 10], professional),
        ("enterprise", "Enterprise", [100, 5000, 100 * GB, 50], enterprise),
    ];
    assert_eq!(plans.as_array().unwrap().len(), expected.len());
    for (plan, (key, name, limits, features)) in plans.as_array().unwrap().iter().zip(expected) {
        let units =
            [("events", "count"), ("participants", "count"), ("storage", "bytes"), ("admins", "count")];
        let limits = units.iter().zip(limits).map(|((metric, unit), limit)| {
            json!({ "metric": metric, "unit": unit, "limit": limit, "source": "plan", "soft": false })
        });
        let expected = json!({
            "key": key, "name": name, "is_default": key == "free", "limits": limits.collect::<Value>(),
            "features": features, "tenant_count": if key == "starter" { 1 } else { 0 },
        });
        assert_eq!(*plan, expected);
        assert_eq!(db.json(&["plan", "show", key]), expected);
    }
    let listed = db.tenantctl(&["plan", "list"]).expect(0);
    assert!(listed.stdout.contains("storage 5GB"), "{listed:?}");
    assert_eq!(db.tenantctl(&["plan", "list", "-q"]).stdout, "free\nstarter\nprofessional\nenterprise\n");
    assert_eq!(db.refused(3, &["plan", "show", "profesional"])["hint"], "did you mean \"professional\"?");
    assert_eq!(db.refused(3, &["plan", "show", "gold"])["hint"], "`tenantctl plan list` shows what there is");
}

#[tokio::test]
async fn a_deleted_tenant_is_on_no_plan() {
    let db = Database::with_acme("starter").await;
    db.tenantctl(&["tenant", "delete", "acme", "--yes"]).expect(0);
    assert_eq!(db.json(&["plan", "show", "starter"])["tenant_count"], 0);
}

#[tokio::test]
async fn the_environment_stands_in_for_limits() {
    let db = Database::with_acme("free").await;
    let raised =
        [("FREE_PLAN_EVENTS", "3"), ("FREE_PLAN_STORAGE", "2GB"), ("FREE_PLAN_PARTICIPANTS", "unlimited")];
    let plan = with(&db, &raised, &["plan", "show", "free"]).expect(0).json();
    let limits: Vec<_> = plan["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (&l["limit"], l["source"].as_str().unwrap()))
        .collect();
    let expected = [
        (&json!(3), "environment"),
        (&Value::Null, "environment"),
        (&json!(2_u64 << 30), "environment"),
        (&json!(1), "plan"),
    ];
    assert_eq!(limits, expected);
    let starter = with(&db, &raised, &["plan", "show", "starter"]).expect(0).json();
    assert_eq!(starter["limits"][0]["source"], "plan", "another plan's variable says nothing about it");

    let stats = with(&db, &raised, &["usage", "stats", "acme"]).expect(0).json();
    assert_eq!((&stats[0]["limit"], &stats[0]["source"]), (&json!(3), &json!("environment")));
    assert_eq!((&stats[1]["limit"], &stats[1]["percent"]), (&Value::Null, &Value::Null));

    // It lifts the limit of one event to three, for those who say so.
    let track = |variables: &[(&str, &str)], arguments: &[&str]| {
        with(&db, variables, &[&["usage", "track", "acme"], arguments].concat())
    };
    let events: &[&str] = &["--metric", "events"];
    assert_eq!(track(&raised, events).expect(0).json()["limit"], 3);
    track(&[], events).expect(6);
    track(&raised, events).expect(0);
    assert_eq!(track(&raised, events).expect(0).json()["remaining"], 0);
    assert_eq!(track(&raised, events).expect(6).error()["details"]["limit"], 3);
    let many = track(&raised, &["--metric", "participants", "--amount", "100000"]).expect(0).json();
    assert_eq!((&many["limit"], &many["remaining"]), (&Value::Null, &Value::Null));

    // It lowers one, too, and then stands in the way of nothing that is released.
    track(&[("FREE_PLAN_STORAGE", "1MB")], &["--metric", "storage", "--amount", "2MB"]).expect(6);
    track(&[("FREE_PLAN_STORAGE", "0")], &["--metric", "storage", "--amount", "1"]).expect(6);
    track(&[("FREE_PLAN_EVENTS", "0")], &["--metric", "events", "--amount", "-3"]).expect(0);

    // It is the limit that a smaller plan is checked against, and the one that admins count against.
    track(&[], &["--metric", "participants", "--amount", "-100000"]).expect(0);
    db.tenantctl(&["tenant", "update", "acme", "--plan", "enterprise"]).expect(0);
    track(&[], &["--metric", "events", "--amount", "3"]).expect(0);
    with(&db, &[], &["tenant", "update", "acme", "--plan", "free"]).expect(6);
    with(&db, &raised, &["tenant", "update", "acme", "--plan", "free"]).expect(0);
    let admins = [("FREE_PLAN_ADMINS", "2")];
    for (user, code) in [("a@acme.org", 0), ("b@acme.org", 0), ("c@acme.org", 6)] {
        with(&db, &admins, &["user", "add", "acme", user, "--role", "admin"]).expect(code);
    }
}

#[tokio::test]
async fn a_variable_that_holds_no_limit_is_an_error_that_names_it() {
    let db = Database::with_acme("free").await;
    let before = db.dump();
    for (name, value) in [
        ("FREE_PLAN_EVENTS", "many"),
        ("FREE_PLAN_EVENTS", "-1"),
        ("FREE_PLAN_EVENTS", "1GB"),
        ("FREE_PLAN_STORAGE", "1XB"),
    ] {
        let metric = name.rsplit('_').next().unwrap().to_lowercase();
        for arguments in [
            &["plan", "list"][..],
            &["plan", "show", "free"],
            &["usage", "stats", "acme"],
            &["usage", "track", "acme", "--metric", &metric],
        ] {
            let error = with(&db, &[(name, value)], arguments).expect(2).error();
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(name) && message.contains(value), "{arguments:?}: {error}");
        }
    }
    assert_eq!(db.dump(), before);
    // One of a plan that is not in question does no harm.
    with(&db, &[("STARTER_PLAN_EVENTS", "many")], &["usage", "track", "acme", "--metric", "events"])
        .expect(0);
}
