//! Tenants: creating, finding, changing, suspending and deleting them.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Database, Run, run};

/// The fields of `tenant show -o json`, in order: other programs read them.
const FIELDS: [&str; 17] = [
    "id",
    "slug",
    "name",
    "status",
    "plan",
    "contact_email",
    "organization_type",
    "website_url",
    "branding",
    "settings",
    "aliases",
    "created_at",
    "updated_at",
    "suspended_at",
    "purge_after",
    "user_count",
    "billing_day",
];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_tenant_is_created_with_all_that_is_said_of_it() {
    let db = Database::migrated().await;
    let arguments = [
        "tenant",
        "create",
        "Acme University",
        "--slug=acme-university",
        "--contact-email=Admin@Acme.edu",
        "--plan=professional",
        "--organization-type=university",
        "--website-url=https://acme.edu",
        "--owner=Ada@acme.edu",
    ];
    let created = db.json(&arguments);
    assert_eq!(created["outcome"], "created");
    assert_eq!(keys(&created)[1..], FIELDS);

    let shown = db.json(&["tenant", "show", "acme-university"]);
    assert_eq!(keys(&shown), FIELDS);
    for (field, value) in [
        ("slug", json!("acme-university")),
        ("name", json!("Acme University")),
        ("status", json!("active")),
        ("plan", json!("professional")),
        ("contact_email", json!("admin@acme.edu")),
        ("organization_type", json!("university")),
        ("website_url", json!("https://acme.edu")),
        ("branding", json!({})),
        ("settings", json!({})),
        ("aliases", json!([])),
        ("suspended_at", Value::Null),
        ("purge_after", Value::Null),
        ("user_count", json!(1)),
        ("billing_day", Value::Null),
    ] {
        assert_eq!(shown[field], value, "{field}");
        assert_eq!(created[field], value, "{field}");
    }
    assert!(shown["created_at"].as_str().unwrap().ends_with('Z'), "{shown}");
    assert_eq!(
        db.sql("SELECT email, role FROM tenancy.memberships JOIN tenancy.users ON id = user_id"),
        "ada@acme.edu|owner"
    );

    // Again: a conflict, or nothing to do where that is said to be fine.
    let before = db.dump();
    let error = db.refused(4, &arguments);
    assert_eq!(error["code"], "conflict");
    assert_eq!(error["details"], json!({ "kind": "tenant", "name": "acme-university" }));
    assert!(error["hint"].as_str().unwrap().contains("--if-not-exists"), "{error}");
    let again = db.tenantctl(&[&arguments[..], &["--if-not-exists", "-o", "json"]].concat()).expect(0);
    assert_eq!(again.json()["outcome"], "unchanged");
    assert_eq!(again.json()["id"], shown["id"]);
    assert!(again.stderr.contains("unchanged"), "{again:?}");
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn what_is_not_said_has_a_default() {
    let db = Database::migrated().await;
    let run = db.tenantctl(&["tenant", "create", "Béta Labs & Sons", "-o", "json"]).expect(0);
    let created = run.json();
    assert_eq!(created["slug"], "b-ta-labs-sons");
    assert_eq!(created["plan"], "free");
    assert_eq!(created["contact_email"], Value::Null);
    assert_eq!(created["user_count"], 0);
    assert!(run.stderr.contains("without an owner") && run.stderr.contains("tenantctl user add"), "{run:?}");

    let with_owner = db.tenantctl(&["tenant", "create", "Gamma", "--owner", "g@gamma.org"]).expect(0);
    assert!(with_owner.stderr.contains("owned by g@gamma.org"), "{with_owner:?}");
    assert!(!with_owner.stderr.contains("without an owner"), "{with_owner:?}");
}

#[tokio::test]
async fn a_hostile_name_is_only_a_name() {
    let db = Database::migrated().await;
    let name = "Robert'); DROP TABLE tenants;--";
    let created = db.json(&["tenant", "create", name]);
    assert_eq!(created["slug"], "robert-drop-table-tenants");
    assert_eq!(db.json(&["tenant", "show", "robert-drop-table-tenants"])["name"], name);
    let found = db.json(&["tenant", "list", "--filter", "'); DROP"]);
    assert_eq!(found[0]["name"], name);
    assert_eq!(db.json(&["tenant", "list", "--filter", "%"]), json!([]), "a filter is no pattern");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_written() {
    let db = Database::migrated().await;
    let before = db.dump();
    let create = |arguments: &[&str]| db.refused(2, &[&["tenant", "create", "Acme"], arguments].concat());
    for slug in ["admin", "www", "A", "Acme", "a_b", "-a", "xn--80ak", "a b", &"a".repeat(64)] {
        let error = create(&[&format!("--slug={slug}")]);
        assert_eq!(
            (&error["code"], &error["details"]["field"]),
            (&json!("invalid"), &json!("slug")),
            "{slug}"
        );
        assert!(error["message"].as_str().unwrap().contains("--slug"), "{slug}: {error}");
    }
    assert_eq!(create(&["--slug", "admin"])["hint"], "try \"admin-team\"");
    assert_eq!(create(&["--slug", "Acme Inc"])["hint"], "try \"acme-inc\"");
    for (flag, value, field) in [
        ("--contact-email", "nobody", "contact_email"),
        ("--contact-email", "a@b@c d.e", "contact_email"),
        ("--website-url", "javascript:alert(1)", "website_url"),
        ("--website-url", "acme.edu", "website_url"),
        ("--organization-type", " ", "organization_type"),
    ] {
        let error = create(&[flag, value]);
        assert_eq!(error["code"], "invalid");
        assert_eq!(error["details"]["field"], field);
        assert_eq!(error["details"]["value"], value);
    }
    create(&["--owner", "nobody"]);
    for name in ["", " ", "a\u{1b}[31m", &"é".repeat(201)] {
        db.refused(2, &["tenant", "create", name, "--slug", "acme"]);
    }
    // A name of which no slug, or a reserved one, could be made.
    assert_eq!(db.refused(2, &["tenant", "create", "日本"])["hint"], "give one with --slug");
    db.refused(2, &["tenant", "create", "Admin"]);

    let error = db.refused(2, &["tenant", "create"]);
    assert_eq!(error["details"]["field"], "name");
    let error = db.refused(3, &["tenant", "create", "Acme", "--plan", "profesional"]);
    assert_eq!(
        error["details"],
        json!({ "kind": "plan", "name": "profesional", "suggestion": "professional" })
    );
    assert_eq!(error["hint"], "did you mean \"professional\"?");
    // An owner that nobody knows undoes the tenant.
    let error =
        db.refused(3, &["tenant", "create", "Acme", "--owner", "0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11"]);
    assert_eq!(error["details"]["kind"], "user");
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn tenants_are_listed_by_what_is_asked_for() {
    let db = Database::migrated().await;
    for (name, plan) in [("Alpha", "free"), ("Beta", "starter"), ("Gamma", "starter"), ("Delta", "free")] {
        db.tenantctl(&["tenant", "create", name, "--plan", plan, "--contact-email", "x@gmail.com"]).expect(0);
    }
    db.tenantctl(&["tenant", "suspend", "beta"]).expect(0);
    db.tenantctl(&["tenant", "delete", "delta", "--yes"]).expect(0);

    let list = |arguments: &[&str]| {
        let run = db.tenantctl(&[&["tenant", "list", "-q"], arguments].concat()).expect(0);
        run.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list(&[]), ["alpha", "beta", "gamma"]);
    assert_eq!(list(&["--status", "suspended"]), ["beta"]);
    assert_eq!(list(&["--status", "active", "--status", "deleted"]), ["alpha", "delta", "gamma"]);
    assert_eq!(list(&["--plan", "starter"]), ["beta", "gamma"]);
    assert_eq!(list(&["--plan", "starter", "--status", "active"]), ["gamma"]);
    assert_eq!(list(&["--filter", "GAM"]), ["gamma"]);
    assert_eq!(list(&["--filter", "gmail"]), ["alpha", "beta", "gamma"]);
    assert_eq!(list(&["--filter", "nothing"]), [""; 0]);
    assert_eq!(db.json(&["tenant", "list", "--filter", "nothing"]), json!([]));
    let listed = db.json(&["tenant", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(keys(&listed[0]), FIELDS);

    assert_eq!(db.refused(3, &["tenant", "list", "--plan", "stater"])["details"]["suggestion"], "starter");
    assert!(db.tenantctl(&["tenant", "list", "--status", "gone"]).expect(2).stderr.contains("active"));
}

#[tokio::test]
async fn a_tenant_is_found_by_every_name_it_has() {
    let db = Database::migrated().await;
    let id = db.json(&["tenant", "create", "Acme University"])["id"].as_str().unwrap().to_owned();
    db.sql(&format!("INSERT INTO tenancy.tenant_aliases (slug, tenant_id) VALUES ('acme-college', '{id}')"));
    let show = |name: &str, base: Option<&str>| -> Run {
        let mut command = db.command();
        command.args(["tenant", "show", name, "-o", "json"]);
        run(command.envs(base.map(|base| ("TENANTCTL_BASE_DOMAIN", base))))
    };
    for name in ["acme-university", "ACME-University", &id, &id.to_uppercase(), "acme-college"] {
        assert_eq!(show(name, None).expect(0).json()["id"], id.as_str(), "{name}");
    }
    for host in
        ["acme-university.hackops.com", "Acme-University.HackOps.com:8443", "acme-college.hackops.com."]
    {
        assert_eq!(show(host, Some("hackops.com")).expect(0).json()["id"], id.as_str(), "{host}");
    }
    assert_eq!(show("acme-university", None).json()["aliases"], json!(["acme-college"]));
    // An earlier slug is taken, and a tenant that has another one now is not the one to leave as it is.
    db.refused(4, &["tenant", "create", "Acme College", "--slug", "acme-college", "--if-not-exists"]);
    // Hosts of somebody else are no tenants of ours.
    for host in ["acme-university.evil.com", "a.acme-university.hackops.com", "hackops.com"] {
        show(host, Some("hackops.com")).expect(2);
    }
    assert!(show("acme-university.hackops.com", None).expect(2).stderr.contains("base domain"));
    show("0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11", None).expect(3);

    let missing = db.tenantctl(&["tenant", "show", "acme-univeristy"]).expect(3);
    assert_eq!(missing.stdout, "");
    assert_eq!(
        missing.stderr,
        "error: tenant \"acme-univeristy\" not found\nhint: did you mean \"acme-university\"?\n"
    );

    // An earlier slug is not free.
    let error = db.refused(4, &["tenant", "create", "College", "--slug", "acme-college"]);
    assert!(error["message"].as_str().unwrap().contains("earlier slug of tenant acme-university"), "{error}");
}

#[tokio::test]
async fn a_tenant_is_changed_field_by_field() {
    let db = Database::with_acme("starter").await;
    let update = |arguments: &[&str]| db.json(&[&["tenant", "update", "acme"], arguments].concat());
    let changed = update(&[
        "--name=Acme Inc",
        "--contact-email=a@acme.org",
        "--website-url=https://acme.org",
        "--organization-type=company",
        "--set=branding.primary_color=#336699",
        "--set=branding.logo.width=120",
        "--set=settings.beta=true",
        "--plan=professional",
    ]);
    assert_eq!(changed["outcome"], "updated");
    assert_eq!(changed["name"], "Acme Inc");
    assert_eq!(changed["plan"], "professional");
    assert_eq!(changed["branding"], json!({ "primary_color": "#336699", "logo": { "width": 120 } }));
    assert_eq!(changed["settings"], json!({ "beta": true }));

    // Nothing else changes with one field, and null or an empty text removes one.
    let removed = update(&["--set=branding.logo.width=null", "--set=settings.beta=null", "--contact-email="]);
    assert_eq!(removed["branding"], json!({ "primary_color": "#336699", "logo": {} }));
    assert_eq!(removed["settings"], json!({}));
    assert_eq!(removed["contact_email"], Value::Null);
    assert_eq!(removed["name"], "Acme Inc");
    assert_eq!(removed["website_url"], "https://acme.org");

    let before = db.dump();
    assert_eq!(update(&["--name=Acme Inc", "--plan=professional"])["outcome"], "unchanged");
    for wrong in [
        "--set=branding",
        "--set=slug.x=1",
        "--set=branding=1",
        "--set=branding..x=1",
        "--set=branding.primary_color.x=1",
        "--name=",
        "--website-url=x",
    ] {
        db.refused(2, &["tenant", "update", "acme", wrong]);
    }
    db.refused(2, &["tenant", "update", "acme"]);
    db.refused(3, &["tenant", "update", "acme", "--plan", "gold"]);
    db.refused(3, &["tenant", "update", "nobody", "--name", "x"]);
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn a_plan_that_is_too_small_is_refused() {
    let db = Database::with_acme("starter").await;
    db.tenantctl(&["usage", "track", "acme", "--metric=events", "--amount=4"]).expect(0);
    db.tenantctl(&["usage", "track", "acme", "--metric=storage", "--amount=3GB"]).expect(0);
    let before = db.dump();
    let error = db.refused(6, &["tenant", "update", "acme", "--plan", "free", "--name", "Other"]);
    assert_eq!(error["code"], "limit_exceeded");
    assert_eq!(
        error["details"],
        json!({ "tenant": "acme", "plan": "free", "excesses": [
            { "metric": "events", "used": 4, "limit": 1 },
            { "metric": "storage", "used": 3_u64 << 30, "limit": 1 << 30 },
        ] })
    );
    assert_eq!(db.dump(), before);

    // Once it fits, the limits of the new plan hold at once, and so do those of a larger one.
    db.tenantctl(&["usage", "track", "acme", "--metric=events", "--amount=-3"]).expect(0);
    db.tenantctl(&["usage", "track", "acme", "--metric=storage", "--amount=-2GB"]).expect(0);
    db.tenantctl(&["tenant", "update", "acme", "--plan", "free"]).expect(0);
    db.tenantctl(&["usage", "track", "acme", "--metric=events"]).expect(6);
    db.tenantctl(&["tenant", "update", "acme", "--plan", "starter"]).expect(0);
    db.tenantctl(&["usage", "track", "acme", "--metric=events"]).expect(0);
}

#[tokio::test]
async fn a_tenant_is_suspended_and_resumed() {
    let db = Database::with_acme("free").await;
    let verb = |verb: &str| db.json(&["tenant", verb, "acme"]);
    assert_eq!(verb("resume")["outcome"], "unchanged");
    let suspended = verb("suspend");
    assert_eq!(
        (suspended["outcome"].as_str(), suspended["status"].as_str()),
        (Some("updated"), Some("suspended"))
    );
    assert!(suspended["suspended_at"].is_string());
    let again = verb("suspend");
    assert_eq!(again["outcome"], "unchanged");
    assert_eq!(again["suspended_at"], suspended["suspended_at"]);
    let resumed = verb("resume");
    assert_eq!((resumed["outcome"].as_str(), resumed["status"].as_str()), (Some("updated"), Some("active")));
    assert_eq!(resumed["suspended_at"], Value::Null);
    db.refused(3, &["tenant", "suspend", "nobody"]);
}

#[tokio::test]
async fn a_tenant_is_deleted_with_consent_and_its_grace_period_is_fixed() {
    let db = Database::with_acme("free").await;
    let before = db.dump();
    for without in [&["tenant", "delete", "acme"][..], &["tenant", "delete", "acme", "--no-input"]] {
        let error = db.refused(10, without);
        assert_eq!(error["code"], "refused");
        assert_eq!(error["hint"], "pass --yes");
    }
    db.refused(10, &["tenant", "delete", "acme", "--confirm", "other"]);
    assert_eq!(db.dump(), before);

    let mut command = db.command();
    command.args(["tenant", "delete", "acme", "--yes", "-o", "json"]).env("TENANTCTL_GRACE_DAYS", "7");
    let deleted = run(&mut command).expect(0).json();
    assert_eq!((deleted["outcome"].as_str(), deleted["status"].as_str()), (Some("updated"), Some("deleted")));
    assert_eq!(db.sql("SELECT purge_after - deleted_at FROM tenancy.tenants"), "7 days");

    // Deleted again under another setting: nothing to do, and nothing moves.
    let again = db.json(&["tenant", "delete", "acme"]);
    assert_eq!(again["outcome"], "unchanged");
    assert_eq!(again["purge_after"], deleted["purge_after"]);

    let error = db.refused(4, &["tenant", "create", "Acme", "--if-not-exists"]);
    assert!(error["message"].as_str().unwrap().contains("deleted tenant"), "{error}");
    for verb in [
        &["tenant", "suspend", "acme"][..],
        &["tenant", "resume", "acme"],
        &["tenant", "update", "acme", "--name", "x"],
        &["user", "add", "acme", "a@acme.org", "--role", "member"],
        &["usage", "track", "acme", "--metric", "events"],
    ] {
        assert!(db.refused(10, verb)["message"].as_str().unwrap().contains("deleted"), "{verb:?}");
    }
    db.refused(3, &["tenant", "delete", "nobody", "--yes"]);
    let absent =
        db.tenantctl(&["tenant", "delete", "nobody", "--yes", "--if-exists", "-o", "json"]).expect(0);
    assert_eq!(absent.json(), json!({ "outcome": "unchanged" }));
}

#[tokio::test]
async fn a_protected_profile_wants_the_name_of_what_is_destroyed() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["user", "add", "acme", "a@acme.org", "--role=member"]).expect(0);
    let dir = TempDir::new().unwrap();
    let yaml = format!("profiles:\n  prod:\n    url: {}\n    protected: true\n", db.url());
    std::fs::write(dir.path().join("tenantctl.yaml"), yaml).unwrap();
    let prod = |arguments: &[&str]| {
        let mut command = crate::common::tenantctl();
        run(command.current_dir(dir.path()).args(["--profile", "prod", "-o", "json"]).args(arguments))
    };
    for verb in [&["tenant", "delete", "acme"][..], &["user", "remove", "acme", "a@acme.org"]] {
        let refused = prod(&[verb, &["--yes"]].concat()).expect(10);
        assert_eq!(refused.error()["hint"], "pass --confirm acme");
        prod(&[verb, &["--confirm", "amce"]].concat()).expect(10);
    }
    assert_eq!(prod(&["tenant", "show", "acme"]).expect(0).json()["status"], "active");
    prod(&["user", "remove", "acme", "a@acme.org", "--confirm", "acme"]).expect(0);
    prod(&["tenant", "delete", "acme", "--confirm", "acme"]).expect(0);
}

#[tokio::test]
async fn a_dry_run_of_any_verb_changes_nothing_and_says_what_it_would() {
    let db = Database::with_acme("starter").await;
    db.tenantctl(&["user", "add", "acme", "ada@acme.org", "--role=owner"]).expect(0);
    db.tenantctl(&["user", "add", "acme", "bob@acme.org", "--role=admin"]).expect(0);
    db.tenantctl(&["tenant", "create", "Paused"]).expect(0);
    db.tenantctl(&["tenant", "suspend", "paused"]).expect(0);
    let before = db.dump();
    for (arguments, would) in [
        (&["tenant", "create", "Beta", "--owner", "b@beta.org"][..], "would create tenant beta"),
        (&["tenant", "update", "acme", "--plan", "free", "--name", "x"], "would update tenant acme"),
        (&["tenant", "suspend", "acme"], "would suspend tenant acme"),
        (&["tenant", "resume", "paused"], "would resume tenant paused"),
        (&["tenant", "delete", "acme"], "would delete tenant acme"),
        (&["user", "add", "acme", "c@acme.org", "--role", "admin"], "would add c@acme.org as admin of acme"),
        (
            &["user", "update", "acme", "bob@acme.org", "--role", "viewer"],
            "would update bob@acme.org as viewer",
        ),
        (&["user", "remove", "acme", "bob@acme.org"], "would remove bob@acme.org from acme"),
        (&["usage", "track", "acme", "--metric", "events", "--key", "k"], "would track events of acme"),
    ] {
        let run = db.tenantctl(&[arguments, &["--dry-run", "-o", "json"]].concat()).expect(0);
        assert!(run.stderr.starts_with(would), "{run:?}");
        assert_eq!(run.json()["dry_run"], true, "{run:?}");
        assert_eq!(db.dump(), before, "{arguments:?}");
    }
    // The real transaction, so that it fails where the real one would.
    db.refused(4, &["tenant", "create", "Acme", "--dry-run"]);
    db.tenantctl(&["usage", "track", "acme", "--metric", "events", "--amount", "6", "--dry-run"]).expect(6);
    db.refused(10, &["user", "remove", "acme", "ada@acme.org", "--dry-run"]);
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn every_change_is_on_record_and_no_failure_is() {
    let db = Database::with_acme("starter").await;
    for arguments in [
        &["tenant", "update", "acme", "--name", "New"][..],
        &["tenant", "update", "acme", "--name", "New"], // unchanged: nothing to record
        &["user", "add", "acme", "ada@acme.org", "--role", "owner"],
        &["user", "add", "acme", "bob@acme.org", "--role", "admin"],
        &["user", "update", "acme", "bob@acme.org", "--role", "member"],
        &["user", "remove", "acme", "bob@acme.org", "--yes"],
        &["tenant", "suspend", "acme"],
        &["tenant", "resume", "acme"],
        &["tenant", "delete", "acme", "--yes"],
    ] {
        db.tenantctl(arguments).expect(0);
    }
    let recorded = db.sql(
        "SELECT string_agg(action, ' ' ORDER BY a.id) FROM tenancy.audit_log a
           JOIN tenancy.tenants t ON t.id = tenant_id WHERE actor = 'postgres'",
    );
    assert_eq!(
        recorded,
        "tenant.create tenant.update user.add user.add user.update user.remove tenant.suspend tenant.resume tenant.delete"
    );
    // A tenant and its entry carry the time of the one transaction that wrote them.
    assert_eq!(
        db.sql("SELECT count(*) FROM tenancy.tenants t JOIN tenancy.audit_log a ON a.recorded_at = t.created_at AND action = 'tenant.create'"),
        "1"
    );

    // Where the entry cannot be written, the change is not made either.
    db.sql("ALTER TABLE tenancy.audit_log ADD CONSTRAINT full_up CHECK (false) NOT VALID");
    let before = db.dump();
    db.tenantctl(&["tenant", "create", "Beta", "--owner", "b@beta.org"]).expect(1);
    assert_eq!(db.dump(), before);
}
