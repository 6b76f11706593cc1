//! Whom the database lets migrate and administer: roles, rights, and the prefix of the role names.

use serde_json::json;

use super::{prefixed, traces};
use crate::common::{Database, Run, run};

/// A login with a password, and a way to run `tenantctl` as it.
struct Login<'a> {
    db: &'a Database,
    name: String,
}

impl<'a> Login<'a> {
    fn new(db: &'a Database, options: &str) -> Self {
        let name = format!("{}_operator", db.name);
        db.sql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'right' {options}"));
        Self { db, name }
    }

    fn run(&self, prefix: &str, arguments: &[&str]) -> Run {
        let mut command = self.db.command();
        command.env("TENANTCTL_URL", self.db.url().replace("user=postgres", &format!("user={}", self.name)));
        command.env("PGPASSWORD", "right").env("TENANTCTL_ROLE_PREFIX", prefix);
        run(command.args(arguments).args(["-o", "json"]))
    }
}

#[tokio::test]
async fn an_operator_who_is_no_superuser_migrates_and_administers() {
    let db = Database::empty().await;
    // Roles of a superuser's making would be out of reach: a platform of its own on the server.
    let prefix = format!("{}_p", db.name);
    let operator = Login::new(&db, "CREATEROLE");
    db.sql(&format!("GRANT CREATE ON DATABASE {} TO {}", db.name, operator.name));
    assert_eq!(operator.run(&prefix, &["db", "migrate"]).expect(0).json()["outcome"], "created");
    assert_eq!(operator.run(&prefix, &["db", "migrate"]).expect(0).json()["outcome"], "unchanged");

    for arguments in [
        &["tenant", "create", "Acme", "--owner", "ada@acme.org"][..],
        &["user", "add", "acme", "bob@acme.org", "--role", "admin"],
        &["usage", "track", "acme", "--metric", "events"],
        &["tenant", "show", "acme"],
        &["tenant", "delete", "acme", "--yes"],
    ] {
        operator.run(&prefix, arguments).expect(0);
    }
    let actors = db.sql("SELECT string_agg(DISTINCT actor, ' ') FROM tenancy.audit_log");
    assert_eq!(actors, operator.name, "who did it is the login, not the role it acted as");
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ' ') FROM pg_class
                   WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r'";
    assert_eq!(db.sql(owners), format!("{prefix}_owner"));
    // None of the roles can do more than it has to.
    let flags = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE '{prefix}\\_%' AND NOT rolsuper AND NOT rolbypassrls
            AND NOT rolcreaterole AND NOT rolcreatedb AND NOT rolreplication AND NOT rolcanlogin"
    );
    assert_eq!(db.sql(&flags), "4");
}

#[tokio::test]
async fn a_login_without_rights_is_told_so() {
    let db = Database::with_acme("free").await;
    let nobody = Login::new(&db, "");
    let before = db.dump();
    for arguments in [
        &["tenant", "list"][..],
        &["tenant", "create", "Beta"],
        &["usage", "track", "acme", "--metric", "events"],
        &["db", "migrate"],
    ] {
        let error = nobody.run("tenancy", arguments).expect(8).error();
        assert_eq!(error["code"], "permission_denied", "{arguments:?}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("superuser"), "{error}");
    }
    let status = nobody.run("tenancy", &["db", "status"]).expect(0).json();
    assert_eq!((&status["running"], &status["schema_version"]), (&json!(true), &json!(null)));
    assert_eq!(status["schema_readable"], false);

    let empty = Database::empty().await;
    let nobody = Login::new(&empty, "");
    nobody.run(&format!("{}_p", empty.name), &["db", "migrate"]).expect(8);
    assert_eq!(nobody.run("tenancy", &["db", "status"]).expect(0).json()["schema_readable"], true);
    for prefix in ["tenancy", "nobody_at_all"] {
        nobody.run(prefix, &["tenant", "list"]).expect(9);
    }
    // A service's login is no operator.
    let login = db.app_login();
    db.sql(&format!("ALTER ROLE {login} PASSWORD 'right'"));
    let service = Login { db: &db, name: login };
    service.run("tenancy", &["tenant", "list"]).expect(8);
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn two_platforms_share_a_server_under_prefixes_of_their_own() {
    let db = Database::empty().await;
    let prefix = format!("_{}_w31rd", db.name);
    prefixed(&db, &prefix, &["db", "migrate"]).expect(0);
    prefixed(&db, &prefix, &["tenant", "create", "Acme", "--owner", "a@acme.org"]).expect(0);
    prefixed(&db, &prefix, &["usage", "track", "acme", "--metric", "events"]).expect(0);
    assert_eq!(db.sql("SELECT tenancy.role_name('app')"), format!("{prefix}_app"));
    // The prefix was fixed when the control plane was made.
    let (before, dump) = (traces(&db), db.dump());
    let error = prefixed(&db, "tenancy", &["db", "migrate"]).expect(2).error();
    assert_eq!(error["code"], "invalid");
    assert_eq!(error["hint"], format!("set role_prefix: {prefix}"));
    let other = format!("{}_other", db.name);
    prefixed(&db, &other, &["db", "migrate"]).expect(2);
    assert_eq!(db.sql(&format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE '{other}%'")), "0");
    for wrong in ["tenancy", &other] {
        let error = prefixed(&db, wrong, &["tenant", "list"]).expect(2).error();
        assert_eq!(error["hint"], format!("set role_prefix: {prefix}"), "{wrong}");
    }
    assert_eq!((traces(&db), db.dump()), (before, dump));
}

#[tokio::test]
async fn a_role_that_could_get_round_the_policies_is_refused() {
    let db = Database::empty().await;
    let before = traces(&db);
    for (n, danger) in
        ["SUPERUSER", "BYPASSRLS", "CREATEROLE", "REPLICATION", "LOGIN"].into_iter().enumerate()
    {
        let prefix = format!("{}_danger{n}", db.name);
        db.sql(&format!("CREATE ROLE {prefix}_app {danger}"));
        let error = prefixed(&db, &prefix, &["db", "migrate"]).expect(10).error();
        assert!(error["message"].as_str().unwrap().contains(&format!("{prefix}_app")), "{error}");
        assert!(error["hint"].as_str().unwrap().starts_with("ALTER ROLE"), "{error}");
        assert_eq!(traces(&db), before, "{danger}");
        assert_eq!(db.sql(&format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE '{prefix}%'")), "1");
        // Done as the hint says, it goes on.
        let hint = error["hint"].as_str().unwrap();
        db.sql(hint.split(", or").next().unwrap());
        prefixed(&db, &prefix, &["db", "migrate", "--dry-run"]).expect(0);
    }
}

/// What a plain database owner can put where the control plane will be, to run as whoever migrates.
const TRAP: &str = "CREATE FUNCTION tenancy.role_name(text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN EXECUTE 'ALTER ROLE devdba SUPERUSER'; RETURN 'tenancy_' || $1; END $$";

#[tokio::test]
async fn a_schema_that_somebody_else_put_there_is_not_trusted() {
    let db = Database::empty().await;
    let devdba = Login::new(&db, "").name;
    let trap = TRAP.replace("devdba", &devdba);
    let as_devdba = |sql: &str| db.psql_as(&devdba, None, sql).expect(0);
    let innocent = |what: &str| {
        let superuser = db.sql(&format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{devdba}'"));
        assert_eq!(superuser, "f", "{what}");
    };
    db.sql(&format!("ALTER DATABASE {} OWNER TO {devdba}", db.name));
    as_devdba(&format!("CREATE SCHEMA tenancy; {trap}"));
    let before = traces(&db);
    for arguments in [&["db", "migrate", "--dry-run"][..], &["db", "migrate"]] {
        let error = db.refused(10, arguments);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&devdba) && message.contains("tenancy_owner"), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("find out who made it"), "{error}");
        innocent("the schema is theirs");
    }
    assert_eq!(traces(&db), before);
    // Any other command would meet a table of theirs first.
    as_devdba("CREATE TABLE tenancy._sqlx_migrations (version bigint, success boolean)");
    db.refused(10, &["tenant", "list"]);

    // Nor does a search path of the database's own lead to their functions.
    as_devdba(&format!(
        "DROP SCHEMA tenancy CASCADE; CREATE SCHEMA trap;
         CREATE FUNCTION trap.to_regnamespace(text) RETURNS regnamespace LANGUAGE plpgsql AS $$
         BEGIN EXECUTE 'ALTER ROLE {devdba} SUPERUSER'; RETURN NULL; END $$;
         CREATE FUNCTION trap.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN EXECUTE 'ALTER ROLE {devdba} SUPERUSER'; END $$;
         ALTER DATABASE {} SET search_path = trap, pg_catalog",
        db.name
    ));
    db.tenantctl(&["db", "migrate"]).expect(0);
    db.tenantctl(&["tenant", "create", "Acme"]).expect(0);
    innocent("the search path is theirs");
}

#[tokio::test]
async fn what_is_not_the_control_planes_in_its_schema_is_not_trusted() {
    let foreign = Database::migrated().await;
    let stranger = Login::new(&foreign, "").name;
    foreign.sql(&format!("ALTER FUNCTION tenancy.role_name OWNER TO {stranger}"));
    let error = foreign.refused(10, &["db", "migrate"]);
    assert!(error["message"].as_str().unwrap().contains("tenancy.role_name(text) belongs to"), "{error}");

    let taken = Database::migrated().await;
    taken.sql(&format!("ALTER TABLE tenancy._sqlx_migrations OWNER TO {stranger}"));
    let error = taken.refused(10, &["db", "migrate"]);
    assert!(error["message"].as_str().unwrap().contains("tenancy._sqlx_migrations belongs to"), "{error}");

    let armed = Database::migrated().await;
    armed.sql(
        "CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER fire BEFORE INSERT ON tenancy._sqlx_migrations FOR EACH ROW EXECUTE FUNCTION public.fire()",
    );
    let error = armed.refused(10, &["db", "migrate"]);
    assert!(error["message"].as_str().unwrap().contains("triggers"), "{error}");
}
