//! A teardown leaves what was there before setup: what setup made is gone, what it took away is back.

use std::time::Duration;

use sqlx::{ConnectOptions, Executor};

use crate::common::{Database, run};

/// Tables of every sort, one of them with an owner, rights and a policy of its own.
fn schema(db: &Database) -> String {
    let owner = format!("{}_Own'er", db.name);
    format!(
        r#"CREATE ROLE "{owner}";
           GRANT CREATE ON SCHEMA public TO "{owner}";
           CREATE SCHEMA "b""ill";
           CREATE TABLE "b""ill"."Invoice; \q" (id serial, tenant_id bigint, x text);
           CREATE TABLE log (id int, tenant_id uuid, x text, at date DEFAULT '2026-01-01') PARTITION BY RANGE (at);
           CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
           CREATE TABLE parent (id int, tenant_id uuid NOT NULL, x text);
           CREATE TABLE child (y int) INHERITS (parent);
           CREATE TABLE open (id int, tenant_id text, "né" int);
           GRANT ALL ON open TO PUBLIC, tenancy_app;
           GRANT SELECT ON open TO "{owner}" WITH GRANT OPTION;
           CREATE TABLE kept (id int, tenant_id uuid);
           CREATE INDEX ON kept (tenant_id, id);
           CREATE POLICY tenant_isolation ON kept FOR SELECT USING (id = 1);
           CREATE POLICY another ON kept AS RESTRICTIVE FOR UPDATE TO tenancy_app USING (id > 0) WITH CHECK (id > 1);
           ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
           ALTER TABLE kept OWNER TO "{owner}";
           CREATE TABLE countries (code text PRIMARY KEY)"#
    )
}

/// Everything in the catalogue that isolation is made of. Rights that are as they were born, and those spelt out, are one.
fn state(db: &Database) -> String {
    db.sql(
        "SELECT format('%s %s %s %s %s', c.oid::regclass, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity,
                (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(c.relacl,
                     acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner))) a)) AS line
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname IN ('public', 'b\"ill') AND c.relkind IN ('r', 'p', 'S', 'v')
         UNION ALL
         SELECT format('%s.%s %s %s', c.oid::regclass, a.attname, a.attnotnull,
                       (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(a.attacl) x))
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname IN ('public', 'b\"ill') AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0
         UNION ALL
         SELECT format('%s on %s %s %s %s %s %s', polname, polrelid::regclass, polpermissive, polcmd,
                       polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
           FROM pg_policy WHERE polrelid::regclass::text !~ '^tenancy[.]'
         UNION ALL
         SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
          WHERE connamespace IN ('public'::regnamespace, '\"b\"\"ill\"'::regnamespace)
         UNION ALL
         SELECT indexdef FROM pg_indexes WHERE schemaname IN ('public', 'b\"ill')
         UNION ALL
         SELECT format('%s %s', nspname, (SELECT array_agg(a::text ORDER BY a::text)
                FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) a))
           FROM pg_namespace WHERE nspname IN ('public', 'b\"ill')
         UNION ALL
         SELECT format('registered %s', relation) FROM tenancy.protected_tables
         UNION ALL
         SELECT format('changed %s %s', relation, kind) FROM tenancy.isolation_changes
         ORDER BY 1",
    )
}

#[tokio::test]
async fn what_was_there_before_comes_back() {
    let db = Database::migrated().await;
    db.sql(&schema(&db));
    let before = state(&db);
    let mut with_bypass = db.command();
    with_bypass.env("SYSTEM_ADMIN_BYPASS", "true").args(["rls", "setup", "--shared", "countries"]);
    run(&mut with_bypass).expect(0);
    // What setup mends is its own again, and what it takes back was never there.
    db.sql("DROP POLICY tenant_floor ON log; CREATE POLICY tenant_floor ON log USING (true)");
    db.sql("ALTER TABLE parent OWNER TO CURRENT_USER; REVOKE DELETE ON parent FROM tenancy_app");
    db.tenantctl(&["rls", "setup"]).expect(0);
    let protected = state(&db);

    db.tenantctl(&["rls", "teardown", "--dry-run"]).expect(0);
    assert_eq!(state(&db), protected, "a dry run changes nothing");
    let script = db.tenantctl(&["rls", "teardown", "--print"]).expect(0).stdout;
    assert_eq!(state(&db), protected, "to print changes nothing");
    let torn = db.json(&["rls", "teardown", "--yes"]);
    assert_eq!(torn["tables"].as_array().unwrap().len(), 8);
    assert_eq!(state(&db), before);
    assert!(
        script.starts_with("BEGIN;\n") && script.contains("DROP POLICY tenant_floor ON public.log;"),
        "{script}"
    );
    assert_eq!(
        db.sql("SELECT count(*) FROM tenancy.audit_log WHERE action = 'rls.teardown'"),
        "8",
        "each table has its line"
    );
    assert!(db.tenantctl(&["rls", "teardown", "--yes"]).expect(0).stderr.contains("unchanged"));
}

#[tokio::test]
async fn the_printed_script_does_the_same() {
    let db = Database::migrated().await;
    db.sql(&schema(&db));
    let before = state(&db);
    db.tenantctl(&["rls", "setup", "--shared", "countries"]).expect(0);
    let script = db.tenantctl(&["rls", "teardown", "--print"]).expect(0).stdout;
    let file = std::env::temp_dir().join(format!("tenancy-teardown-{}.sql", std::process::id()));
    std::fs::write(&file, &script).unwrap();
    db.psql(&["--file", file.to_str().unwrap()]).expect(0);
    std::fs::remove_file(&file).unwrap();
    // Rights on schemas and sequences are gone; that they were ever given is forgotten by the next command.
    let left = |text: String| -> String {
        text.lines().filter(|line| !line.starts_with("changed ")).map(|line| format!("{line}\n")).collect()
    };
    assert_eq!(left(state(&db)), left(before));
}

#[tokio::test]
async fn one_table_leaves_the_others_alone() {
    let db = Database::migrated().await;
    db.sql(&schema(&db));
    db.tenantctl(&["rls", "setup"]).expect(0);
    let torn = db.json(&["rls", "teardown", "--table", "log", "--yes"]);
    let names: Vec<_> = torn["tables"].as_array().unwrap().iter().map(|t| t["table"].clone()).collect();
    assert_eq!(names, ["public.log_2026", "public.log"], "its partition goes with it");
    assert_eq!(db.sql("SELECT relrowsecurity FROM pg_class WHERE relname IN ('log', 'log_2026', 'open') ORDER BY relname"), "f\nf\nt");
    assert_eq!(db.sql("SELECT has_schema_privilege('tenancy_owner', 'public', 'USAGE')"), "t");
    assert_eq!(db.sql("SELECT has_schema_privilege('tenancy_app', 'b\"ill', 'USAGE')"), "t");

    db.tenantctl(&["rls", "teardown", "--table", "b\"ill.Invoice; \\q", "--yes"]).expect(0);
    assert_eq!(
        db.sql("SELECT has_schema_privilege('tenancy_app', 'b\"ill', 'USAGE')"),
        "f",
        "the last table of the schema takes the right on it along"
    );
    let error = db.refused(2, &["rls", "teardown", "--table", "countries", "--yes"]);
    assert!(error["message"].as_str().unwrap().contains("setup did nothing to it"), "{error}");
    db.refused(3, &["rls", "teardown", "--table", "ope", "--yes"]);
    // Set up again, it is as protected as the rest.
    db.tenantctl(&["rls", "setup"]).expect(0);
    assert_eq!(db.sql("SELECT count(*) FROM pg_policies WHERE tablename = 'log'"), "2");
}

#[tokio::test]
async fn nothing_is_undone_without_consent() {
    let db = Database::migrated().await;
    db.sql(&schema(&db));
    db.tenantctl(&["rls", "setup"]).expect(0);
    let before = state(&db);
    let error = db.refused(10, &["rls", "teardown"]);
    assert!(error["message"].as_str().unwrap().contains("take 7 tables out of tenant isolation"), "{error}");
    db.refused(10, &["rls", "teardown", "--confirm", "another_database"]);
    assert_eq!(state(&db), before);
}

#[tokio::test]
async fn what_nobody_wrote_down_is_undone_as_far_as_it_is_setups() {
    let db = Database::migrated().await;
    db.sql("CREATE TABLE t (id int, tenant_id uuid); CREATE POLICY theirs ON t USING (true)");
    db.tenantctl(&["rls", "setup"]).expect(0);
    db.sql("DELETE FROM tenancy.isolation_changes");
    let torn = db.json(&["rls", "teardown", "--yes"]);
    let notes = torn["tables"][0]["notes"].to_string();
    assert!(notes.contains("nobody wrote down") && notes.contains("theirs on it is not setup's"), "{notes}");
    assert_eq!(db.sql("SELECT policyname FROM pg_policies WHERE tablename = 't'"), "theirs");
    assert_eq!(
        db.sql("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = 't'"),
        "t|f",
        "somebody's policy still counts"
    );
    assert_eq!(db.sql("SELECT has_table_privilege('tenancy_app', 't', 'SELECT')"), "f");
    assert_eq!(db.sql("SELECT count(*) FROM pg_indexes WHERE tablename = 't'"), "1", "it may be anybody's");
}

#[tokio::test]
async fn a_busy_table_is_tried_again() {
    let db = Database::migrated().await;
    db.sql("CREATE TABLE t (id int, tenant_id uuid)");
    db.tenantctl(&["rls", "setup"]).expect(0);
    let mut holder = db.options.connect().await.unwrap();
    holder.execute("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE").await.unwrap();
    let mut command = db.command();
    command.env("TENANTCTL_LOCK_TIMEOUT", "50ms").args(["rls", "teardown", "--yes"]);
    let ended = tokio::task::spawn_blocking(move || run(&mut command));
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!ended.is_finished(), "it waits for its turn");
    holder.execute("COMMIT").await.unwrap();
    ended.await.unwrap().expect(0);
    assert_eq!(db.sql("SELECT relrowsecurity FROM pg_class WHERE relname = 't'"), "f");
}
