//! Users: members of tenants, their roles, and what limits them.

use std::process::{Child, Stdio};

use serde_json::{Map, Value, json};
use tenancy::ErrorKind;
use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::TenantRef;
use tenancy::user::{self, Role, UserRef};

use crate::common::Database;

const NOBODY: &str = "0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11";

fn add(db: &Database, user: &str, role: &str) -> Value {
    db.json(&["user", "add", "acme", user, "--role", role])
}

fn emails(db: &Database, arguments: &[&str]) -> Vec<String> {
    let run = db.tenantctl(&[&["user", "list", "acme", "-q"], arguments].concat()).expect(0);
    run.stdout.lines().map(str::to_owned).collect()
}

fn admins_used(db: &Database) -> Value {
    db.json(&["usage", "stats", "acme"])[3]["used"].clone()
}

#[tokio::test]
async fn users_are_added_listed_and_removed() {
    let db = Database::with_acme("starter").await;
    let ada = add(&db, "Ada@Acme.org", "owner");
    let fields: Vec<_> = ada.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        ["outcome", "tenant", "user_id", "email", "role", "permissions", "created_at", "updated_at"]
    );
    assert_eq!((&ada["outcome"], &ada["tenant"]), (&json!("created"), &json!("acme")));
    assert_eq!((&ada["email"], &ada["role"]), (&json!("ada@acme.org"), &json!("owner")));
    assert_eq!(ada["permissions"], json!({}));
    add(&db, "zoe@acme.org", "admin");
    add(&db, "bob@acme.org", "member");
    let with = db.json(&[
        "user",
        "add",
        "acme",
        "carl@acme.org",
        "--role=viewer",
        "--permission=can_manage_events=true",
        "--permission=can_judge=false",
    ]);
    assert_eq!(with["permissions"], json!({ "can_manage_events": true, "can_judge": false }));

    assert_eq!(emails(&db, &[]), ["ada@acme.org", "zoe@acme.org", "bob@acme.org", "carl@acme.org"]);
    assert_eq!(emails(&db, &["--role", "admin"]), ["zoe@acme.org"]);
    assert_eq!(db.json(&["tenant", "show", "acme"])["user_count"], 4);
    let listed = db.json(&["user", "list", "acme", "--role", "viewer"]);
    assert_eq!(listed[0]["permissions"], with["permissions"]);

    // The same person in another tenant is the same user.
    db.tenantctl(&["tenant", "create", "Beta"]).expect(0);
    let elsewhere = db.json(&["user", "add", "beta", "ada@acme.org", "--role", "viewer"]);
    assert_eq!(elsewhere["user_id"], ada["user_id"]);
    let id = ada["user_id"].as_str().unwrap();
    db.tenantctl(&["user", "remove", "beta", id, "--yes"]).expect(0);
    db.json(&["user", "add", "beta", id, "--role", "member"]);

    let removed = db.json(&["user", "remove", "acme", "bob@acme.org", "--yes"]);
    assert_eq!((&removed["outcome"], &removed["email"]), (&json!("removed"), &json!("bob@acme.org")));
    assert_eq!(emails(&db, &["--role", "member"]), [""; 0]);
    assert_eq!(
        db.sql("SELECT count(*) FROM tenancy.users WHERE email = 'bob@acme.org'"),
        "1",
        "still a user"
    );
    assert_eq!(
        db.tenantctl(&["user", "add", "acme", "d@acme.org", "--role=member", "-q"]).stdout,
        "d@acme.org\n"
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let db = Database::with_acme("starter").await;
    add(&db, "ada@acme.org", "owner");
    let before = db.dump();
    let error = db.refused(4, &["user", "add", "acme", "ada@acme.org", "--role", "member"]);
    assert!(error["message"].as_str().unwrap().contains("is already owner of acme"), "{error}");
    let unchanged = db.json(&["user", "add", "acme", "ada@acme.org", "--role", "member", "--if-not-exists"]);
    assert_eq!((&unchanged["outcome"], &unchanged["role"]), (&json!("unchanged"), &json!("owner")));

    assert_eq!(
        db.refused(3, &["user", "add", "acme", NOBODY, "--role", "member"])["details"]["kind"],
        "user"
    );
    assert_eq!(
        db.refused(3, &["user", "add", "amce", "b@acme.org", "--role", "member"])["details"]["suggestion"],
        "acme"
    );
    let role = db.tenantctl(&["user", "add", "acme", "b@acme.org", "--role", "amdin"]).expect(2);
    assert!(role.stderr.contains("did you mean \"admin\""), "{role:?}");
    assert_eq!(db.refused(2, &["user", "add", "acme", "b@acme.org"])["details"]["field"], "role");
    assert_eq!(db.refused(2, &["user", "add", "acme"])["details"]["field"], "user");
    db.refused(2, &["user", "add", "acme", "b@acme", "--role", "member"]);
    for permission in ["x", "x=maybe", "X=true", "=true", "x'y=true"] {
        db.refused(2, &["user", "add", "acme", "b@acme.org", "--role", "member", "--permission", permission]);
    }

    assert_eq!(
        db.refused(3, &["user", "update", "acme", "ada@acme.ogr", "--role", "admin"])["hint"],
        "did you mean \"ada@acme.org\"?"
    );
    db.refused(2, &["user", "update", "acme", "ada@acme.org"]);
    db.refused(3, &["user", "remove", "acme", "b@acme.org", "--yes"]);
    assert_eq!(
        db.json(&["user", "remove", "acme", "b@acme.org", "--yes", "--if-exists"]),
        json!({ "outcome": "unchanged" })
    );
    db.refused(3, &["user", "remove", "nobody", "b@acme.org", "--yes", "--if-exists"]);
    assert_eq!(db.refused(10, &["user", "remove", "acme", "ada@acme.org"])["hint"], "pass --yes");
    db.refused(3, &["user", "list", "nobody"]);
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn roles_and_permissions_change() {
    let db = Database::with_acme("starter").await;
    add(&db, "bob@acme.org", "member");
    let update =
        |arguments: &[&str]| db.json(&[&["user", "update", "acme", "bob@acme.org"], arguments].concat());
    let changed = update(&["--role", "viewer", "--permission", "can_judge=true"]);
    assert_eq!((&changed["outcome"], &changed["role"]), (&json!("updated"), &json!("viewer")));
    let changed = update(&["--permission", "can_manage_events=true", "--permission", "can_judge=false"]);
    assert_eq!(changed["role"], "viewer", "what is not said stays");
    assert_eq!(changed["permissions"], json!({ "can_judge": false, "can_manage_events": true }));
    assert_eq!(update(&["--role", "viewer", "--permission", "can_judge=false"])["outcome"], "unchanged");
}

#[tokio::test]
async fn admins_count_against_the_plan() {
    let db = Database::with_acme("free").await;
    add(&db, "own@acme.org", "owner");
    assert_eq!(admins_used(&db), 0, "an owner is no admin");
    add(&db, "a@acme.org", "admin");
    assert_eq!(admins_used(&db), 1);
    add(&db, "m@acme.org", "member");

    let before = db.dump();
    let expected = json!({
        "tenant": "acme", "metric": "admins", "amount": 1, "used": 1, "limit": 1, "remaining": 0, "plan": "free",
        "outcome": "rejected",
    });
    for verb in [
        &["user", "add", "acme", "b@acme.org", "--role", "admin"][..],
        &["user", "update", "acme", "m@acme.org", "--role", "admin"],
    ] {
        let error = db.refused(6, verb);
        assert_eq!((&error["code"], &error["details"]), (&json!("limit_exceeded"), &expected));
    }
    assert_eq!(db.dump(), before, "not even the user is left behind");

    // Whoever stops being an admin makes room, by demotion, promotion or removal.
    db.json(&["user", "update", "acme", "a@acme.org", "--role", "member"]);
    assert_eq!(admins_used(&db), 0);
    db.json(&["user", "update", "acme", "m@acme.org", "--role", "admin"]);
    db.json(&["user", "update", "acme", "m@acme.org", "--role", "owner"]);
    db.json(&["user", "update", "acme", "a@acme.org", "--role", "admin"]);
    db.json(&["user", "remove", "acme", "a@acme.org", "--yes"]);
    assert_eq!(admins_used(&db), 0);
    add(&db, "b@acme.org", "admin");
    // A membership that is left as it is counts once.
    db.json(&["user", "add", "acme", "b@acme.org", "--role", "admin", "--if-not-exists"]);
    assert_eq!(admins_used(&db), 1);
}

#[tokio::test]
async fn a_race_for_the_last_admins_admits_exactly_the_limit() {
    let db = Database::with_acme("starter").await;
    let children: Vec<Child> = (0..16)
        .map(|n| {
            let mut command = db.command();
            command.args(["user", "add", "acme", &format!("a{n}@acme.org"), "--role", "admin", "-q"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 3, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 6).count(), 13, "{codes:?}");
    assert_eq!(emails(&db, &["--role", "admin"]).len(), 3);
    assert_eq!(admins_used(&db), 3);
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.users"), "3");
}

#[tokio::test]
async fn the_last_owner_stays() {
    let db = Database::with_acme("starter").await;
    add(&db, "ada@acme.org", "owner");
    add(&db, "adm@acme.org", "admin");
    let before = db.dump();
    for verb in [
        &["user", "remove", "acme", "ada@acme.org", "--yes"][..],
        &["user", "update", "acme", "ada@acme.org", "--role", "admin"],
    ] {
        let error = db.refused(10, verb);
        assert_eq!(error["message"], "ada@acme.org is the last owner of tenant acme");
        assert!(error["hint"].as_str().unwrap().contains("--role owner"), "{error}");
    }
    assert_eq!(db.dump(), before);
    db.json(&["user", "update", "acme", "ada@acme.org", "--permission", "x=true"]);
    add(&db, "bob@acme.org", "owner");
    db.json(&["user", "update", "acme", "ada@acme.org", "--role", "viewer"]);
    db.refused(10, &["user", "remove", "acme", "bob@acme.org", "--yes"]);
}

#[tokio::test]
async fn of_two_owners_who_leave_at_once_one_stays() {
    let db = Database::with_acme("starter").await;
    add(&db, "ada@acme.org", "owner");
    add(&db, "bob@acme.org", "owner");
    let acme = TenantRef::Slug("acme".into());
    let owner = |name: &str| -> UserRef { format!("{name}@acme.org").parse().unwrap() };

    // The first has left but not committed; the second has to wait, and then sees that nobody else is left.
    let mut first = db.session().await;
    let mut leaving = first.begin_as_owner().await.unwrap();
    user::remove(&mut leaving, &acme, &owner("ada")).await.unwrap();
    let mut second = db.session().await;
    let (reference, bob) = (acme.clone(), owner("bob"));
    let waiting = tokio::spawn(async move {
        let mut transaction = second.begin_as_owner().await.unwrap();
        let (none, environment) = (Map::new(), EnvironmentLimits::default());
        let role = Some(Role::Member);
        let result = user::update(&mut transaction, &reference, &bob, role, &none, &environment).await;
        transaction.commit().await.unwrap();
        result
    });
    db.blocked(1).await;
    leaving.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(emails(&db, &["--role", "owner"]), ["bob@acme.org"]);
}
