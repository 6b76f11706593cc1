//! Hardening makes unique keys carry the tenant, with what refers to them, and a teardown gives the old ones back.

use tenancy::rls::{Options, Severity};

use super::*;
use crate::common::{Database, verify};

/// Every sort of unique key, on plain tables, on partitioned ones and on those whose names are a nuisance.
pub(super) const KEYS: &str = r#"
    CREATE EXTENSION btree_gist;
    CREATE SCHEMA "s 2";
    CREATE TABLE kinds (id int PRIMARY KEY, tenant_id uuid, x text, email text UNIQUE, login text,
        handle text COLLATE "C", num int, a int NOT NULL DEFAULT 1, b int NOT NULL, room int, during tsrange,
        token text UNIQUE, ref uuid UNIQUE,
        CONSTRAINT "Num ""x" UNIQUE NULLS NOT DISTINCT (num) INCLUDE (login) WITH (fillfactor = 70) DEFERRABLE INITIALLY DEFERRED,
        CONSTRAINT pair UNIQUE (a, b),
        CONSTRAINT booked EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0),
        CONSTRAINT apart EXCLUDE USING btree (login WITH =));
    CREATE UNIQUE INDEX " USING btree (" ON kinds
        (lower(login) text_pattern_ops DESC NULLS LAST, handle COLLATE "POSIX") INCLUDE (a) WITH (fillfactor = 80) WHERE login IS NOT NULL;
    CREATE UNIQUE INDEX by_email ON kinds (email) INCLUDE (tenant_id);
    COMMENT ON INDEX by_email IS 'it''s';
    COMMENT ON CONSTRAINT kinds_email_key ON kinds IS 'nobody twice';
    ALTER TABLE kinds REPLICA IDENTITY USING INDEX pair;
    ALTER TABLE kinds CLUSTER ON kinds_email_key;
    CREATE TABLE "s 2"."Na'tural" ("co""de" text PRIMARY KEY, tenant_id uuid, x text,
        up text REFERENCES "s 2"."Na'tural" ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE kid (id int PRIMARY KEY, tenant_id uuid NOT NULL, x text, par text, email text REFERENCES kinds (email) ON DELETE CASCADE,
        CONSTRAINT "Fk 1" FOREIGN KEY (par) REFERENCES "s 2"."Na'tural" ON UPDATE CASCADE ON DELETE SET NULL);
    ALTER TABLE kid ADD CONSTRAINT later FOREIGN KEY (par) REFERENCES "s 2"."Na'tural" NOT VALID;
    CREATE TABLE log (tenant_id uuid NOT NULL, at date, seq text, x text, PRIMARY KEY (at, seq)) PARTITION BY RANGE (at);
    CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    CREATE UNIQUE INDEX "Log x" ON log (lower(x), at);
    CREATE UNIQUE INDEX log_2_own ON log_2 (x);
    CREATE TABLE entry (id bigserial PRIMARY KEY, tenant_id uuid NOT NULL, at date, seq text,
        FOREIGN KEY (at, seq) REFERENCES log ON DELETE CASCADE);
    CREATE TABLE parent (tenant_id uuid NOT NULL, name text PRIMARY KEY);
    CREATE TABLE child (note text UNIQUE) INHERITS (parent);"#;

fn hardened() -> Setup {
    Setup { harden: true, ..Setup::default() }
}

fn notes<'a>(done: &'a Protection, table: &str) -> Vec<&'a str> {
    let table = done.tables.iter().find(|found| found.table == table).unwrap();
    table.notes.iter().map(String::as_str).collect()
}

/// Keys and references with all that belongs to them, and NOT NULL.
async fn keys(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%s %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint'))
           FROM pg_constraint WHERE contype IN ('p', 'u', 'x', 'f') AND connamespace IN ('public'::regnamespace, '\"s 2\"'::regnamespace)
         UNION ALL
         SELECT format('%s %s %s %s %s', pg_get_indexdef(i.indexrelid), i.indisreplident, i.indisclustered, c.reloptions,
                       obj_description(i.indexrelid, 'pg_class'))
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          WHERE c.relnamespace IN ('public'::regnamespace, '\"s 2\"'::regnamespace)
         UNION ALL
         SELECT format('%s.%s %s', attrelid::regclass, attname, attnotnull) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          WHERE c.relnamespace IN ('public'::regnamespace, '\"s 2\"'::regnamespace) AND c.relkind IN ('r', 'p') AND attnum > 0
         UNION ALL
         SELECT format('%s %s', relation, kind) FROM tenancy.isolation_changes
         ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Sorts that came with PostgreSQL 18.
pub(super) const NEWER: &str = "
    CREATE TABLE priced (tenant_id uuid NOT NULL, item text, during daterange, PRIMARY KEY (item, during WITHOUT OVERLAPS));
    ALTER TABLE kid ADD CONSTRAINT unenforced FOREIGN KEY (email) REFERENCES kinds (email) NOT ENFORCED;";

#[tokio::test]
async fn keys_of_every_sort_carry_the_tenant() {
    let db = Database::with_acme("free").await;
    let pool = db.pool();
    exec(&pool, KEYS).await;
    let newer = db.sql("SHOW server_version_num").parse::<u32>().unwrap() >= 180_000;
    if newer {
        exec(&pool, NEWER).await;
    }
    let before = keys(&pool).await;
    let done = set_up(&pool, &hardened()).await.unwrap();
    let told = notes(&done, "public.kinds");
    assert_eq!(told.len(), 7, "one for each key that was replaced: {told:#?}");
    assert!(
        told[0].contains(
            "ON CONFLICT (lower(login), handle) has to say ON CONFLICT (tenant_id, lower(login), handle)"
        ),
        "{told:#?}"
    );
    let mut expected = vec![
        ("kinds_email_key", "UNIQUE (tenant_id, email)"),
        (
            "Num \"x",
            "UNIQUE NULLS NOT DISTINCT (tenant_id, num) INCLUDE (login) DEFERRABLE INITIALLY DEFERRED",
        ),
        ("booked", "EXCLUDE USING gist (tenant_id WITH =, room WITH =, during WITH &&) WHERE ((room > 0))"),
        ("apart", "EXCLUDE USING btree (tenant_id WITH =, login WITH =)"),
        ("Na'tural_pkey", "PRIMARY KEY (tenant_id, \"co\"\"de\")"),
        ("log_pkey", "PRIMARY KEY (tenant_id, at, seq)"),
        ("parent_pkey", "PRIMARY KEY (tenant_id, name)"),
        ("child_note_key", "UNIQUE (tenant_id, note)"),
        ("kinds_token_key", "UNIQUE (token)"),
        ("kinds_ref_key", "UNIQUE (ref)"),
        ("kinds_pkey", "PRIMARY KEY (id)"),
        (
            "later",
            "FOREIGN KEY (tenant_id, par) REFERENCES \"s 2\".\"Na'tural\"(tenant_id, \"co\"\"de\") NOT VALID",
        ),
        (
            "Fk 1",
            "FOREIGN KEY (tenant_id, par) REFERENCES \"s 2\".\"Na'tural\"(tenant_id, \"co\"\"de\") ON UPDATE CASCADE ON DELETE SET NULL (par)",
        ),
        (
            "kid_email_fkey",
            "FOREIGN KEY (tenant_id, email) REFERENCES kinds(tenant_id, email) ON DELETE CASCADE",
        ),
        (
            "entry_at_seq_fkey",
            "FOREIGN KEY (tenant_id, at, seq) REFERENCES log(tenant_id, at, seq) ON DELETE CASCADE",
        ),
    ];
    if newer {
        expected.extend([
            ("priced_pkey", "PRIMARY KEY (tenant_id, item, during WITHOUT OVERLAPS)"),
            ("unenforced", "FOREIGN KEY (tenant_id, email) REFERENCES kinds(tenant_id, email) NOT ENFORCED"),
        ]);
    }
    for (name, definition) in expected {
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1 AND conparentid = 0",
        )
        .bind(name)
        .fetch_all(&pool)
        .await
        .unwrap();
        assert_eq!(found, [definition], "{name}");
    }
    let indexes: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s %s %s %s', pg_get_indexdef(i.indexrelid), i.indisreplident, i.indisclustered, obj_description(i.indexrelid, 'pg_class'))
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          WHERE c.relname IN (' USING btree (', 'by_email', 'pair', 'kinds_email_key', 'Num \"x', 'Log x', 'log_2_own') ORDER BY c.relname COLLATE \"C\"",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(
        indexes,
        [
            "CREATE UNIQUE INDEX \" USING btree (\" ON public.kinds USING btree (tenant_id, lower(login) text_pattern_ops DESC NULLS LAST, \
             handle COLLATE \"POSIX\") INCLUDE (a) WITH (fillfactor='80') WHERE (login IS NOT NULL) f f ",
            "CREATE UNIQUE INDEX \"Log x\" ON ONLY public.log USING btree (tenant_id, lower(x), at) f f ",
            "CREATE UNIQUE INDEX \"Num \"\"x\" ON public.kinds USING btree (tenant_id, num) INCLUDE (login) NULLS NOT DISTINCT WITH (fillfactor='70') f f ",
            "CREATE UNIQUE INDEX by_email ON public.kinds USING btree (tenant_id, email) INCLUDE (tenant_id) f f it's",
            "CREATE UNIQUE INDEX kinds_email_key ON public.kinds USING btree (tenant_id, email) f t ",
            "CREATE UNIQUE INDEX log_2_own ON public.log_2 USING btree (tenant_id, x) f f ",
            "CREATE UNIQUE INDEX pair ON public.kinds USING btree (tenant_id, a, b) t f ",
        ]
    );
    assert!(!set_up(&pool, &hardened()).await.unwrap().changed(), "a second run has nothing to do");

    let report = verify(&db.options, &Options::default()).await.unwrap();
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Note), "{report:#?}");

    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(keys(&pool).await, before);
}

#[tokio::test]
async fn tenants_can_have_the_same_values_and_nobody_two() {
    let pool = platform(KEYS).await;
    set_up(&pool, &hardened()).await.unwrap();
    for tenant in [A, B] {
        exec(
            &pool,
            format!(
                "INSERT INTO kinds (id, num, tenant_id, email, b, room, during)
                     VALUES ({id}, {id}, '{tenant}', 'e', 1, 1, '[2026-01-01, 2026-01-03)');
                 INSERT INTO \"s 2\".\"Na'tural\" (\"co\"\"de\", tenant_id) VALUES ('c', '{tenant}');
                 INSERT INTO kid (id, tenant_id, par, email) VALUES ({id}, '{tenant}', 'c', 'e')",
                id = if tenant == A { 1 } else { 2 }
            ),
        )
        .await;
    }
    exec(&pool, format!("INSERT INTO kinds (id, num, tenant_id, email, b) VALUES (3, 3, '{B}', 'only', 2)"))
        .await;
    let insert = |values: &str| {
        format!(
            "INSERT INTO kinds (id, num, tenant_id, email, b, room, during) VALUES (9, 9, '{A}', {values})"
        )
    };
    assert_eq!(app(&pool, A, &insert("'e', 9, NULL, NULL")).await, Err("23505".into()));
    assert_eq!(app(&pool, A, &insert("'f', 9, 1, '[2026-01-02, 2026-01-04)'")).await, Err("23P01".into()));
    assert_eq!(app(&pool, A, &insert("'only', 2, 1, '[2026-01-03, 2026-01-04)'")).await, Ok(1));
    assert_eq!(
        app(
            &pool,
            A,
            &(insert("'e', 9, NULL, NULL") + " ON CONFLICT (tenant_id, email) DO UPDATE SET x = 'y'")
        )
        .await,
        Ok(1)
    );
    assert_eq!(app(&pool, A, "UPDATE kid SET email = 'only'").await, Err("23503".into()));
    // Actions of references stay within the tenant, and leave the tenant as it is.
    exec(
        &pool,
        format!(
            "ALTER TABLE kid DROP CONSTRAINT later; DELETE FROM \"s 2\".\"Na'tural\" WHERE tenant_id = '{A}'"
        ),
    )
    .await;
    let left: Vec<(i32, Option<String>)> =
        sqlx::query_as("SELECT id, par FROM kid WHERE tenant_id IS NOT NULL ORDER BY id")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(left, [(1, None), (2, Some("c".to_owned()))]);
}

#[tokio::test]
async fn what_tenants_have_in_common_by_then_keeps_its_key() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "Other", "--plan", "free"]).expect(0);
    let pool = db.pool();
    exec(&pool, KEYS).await;
    let before = keys(&pool).await;
    set_up(&pool, &hardened()).await.unwrap();
    exec(
        &pool,
        "INSERT INTO kinds (id, num, tenant_id, email, b, room, during)
             SELECT n, n, id, 'e', n, 1, '[2026-01-01, 2026-01-03)' FROM (SELECT id, row_number() OVER () n FROM tenancy.tenants) t;
         INSERT INTO kid (id, tenant_id, email) SELECT n, id, 'e' FROM (SELECT id, row_number() OVER () n FROM tenancy.tenants) t",
    )
    .await;
    let script = db.tenantctl(&["rls", "teardown", "--print"]).expect(0).stdout;
    let torn = db.json(&["rls", "teardown", "--yes"]);
    let told = |name: &str| {
        let tables = torn["tables"].as_array().unwrap();
        tables.iter().find(|table| table["table"] == name).unwrap()["notes"].as_array().unwrap().clone()
    };
    let kinds: Vec<_> = told("public.kinds").iter().map(|note| note.as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds[0],
        "unique key booked goes on carrying the tenant: tenants have a value in common by now (SELECT a, b FROM \
         (SELECT tableoid, ctid, room AS c1, during AS c2 FROM ONLY public.kinds WHERE (room > 0)) a JOIN \
         (SELECT tableoid, ctid, room AS c1, during AS c2 FROM ONLY public.kinds WHERE (room > 0)) b \
         ON (a.tableoid, a.ctid) < (b.tableoid, b.ctid) AND a.c1 OPERATOR(pg_catalog.=) b.c1 AND a.c2 OPERATOR(pg_catalog.&&) b.c2)"
    );
    assert_eq!(kinds.len(), 3, "and {:?}", &kinds[1..]);
    assert!(script.contains("-- note: unique key kinds_email_key goes on carrying the tenant"), "{script}");
    // Each note has a query that shows the rows.
    for note in &kinds {
        let query = note.split_once(" (SELECT ").unwrap().1.strip_suffix(')').unwrap();
        assert_eq!(
            sqlx::raw_sql(AssertSqlSafe(format!("SELECT {query}"))).fetch_all(&pool).await.unwrap().len(),
            1,
            "{note}"
        );
    }
    assert_eq!(
        db.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname IN ('kid_email_fkey', 'Na''tural_pkey') ORDER BY 1"),
        "FOREIGN KEY (tenant_id, email) REFERENCES kinds(tenant_id, email) ON DELETE CASCADE\nPRIMARY KEY (\"co\"\"de\")"
    );
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.protected_tables"), "0");
    // Mended, the same again brings the rest back.
    exec(&pool, "DELETE FROM kid; DELETE FROM kinds").await;
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(keys(&pool).await, before);
}

#[tokio::test]
async fn a_reference_with_a_key_of_its_own_waits_for_the_old_one() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "Other", "--plan", "free"]).expect(0);
    db.sql(KEYS);
    let pool = db.pool();
    let before = keys(&pool).await;
    set_up_all(&pool).await;
    // Without the keys of the tables that it refers to: it takes new ones.
    set_up(&pool, &Setup { tables: vec!["kid".into()], ..hardened() }).await.unwrap();
    set_up(&pool, &hardened()).await.unwrap();
    assert!(!set_up(&pool, &hardened()).await.unwrap().changed());
    exec(
        &pool,
        "INSERT INTO kinds (id, num, tenant_id, email, b) SELECT n, n, id, 'e', n FROM (SELECT id, row_number() OVER () n FROM tenancy.tenants) t;
         INSERT INTO kid (id, tenant_id, email) SELECT n, id, 'e' FROM (SELECT id, row_number() OVER () n FROM tenancy.tenants) t",
    )
    .await;
    let torn = db.json(&["rls", "teardown", "--yes"]);
    assert!(
        torn.to_string().contains("constraint kinds_tenant_id_email_key stays: public.kid refers to it"),
        "{torn}"
    );
    exec(&pool, "DELETE FROM kid; DELETE FROM kinds").await;
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(keys(&pool).await, before);
}

#[tokio::test]
async fn one_table_is_torn_down_before_the_others() {
    let db = Database::migrated().await;
    db.sql(KEYS);
    let pool = db.pool();
    let before = keys(&pool).await;
    set_up(&pool, &hardened()).await.unwrap();
    let torn = db.json(&["rls", "teardown", "--table", "kid", "--yes"]);
    assert!(
        torn["tables"][0]["notes"].to_string().contains(
            "reference kid_email_fkey goes on carrying the tenant: it is as before once the key of public.kinds is"
        ),
        "{torn}"
    );
    db.tenantctl(&["rls", "teardown", "--table", "kinds", "--yes"]).expect(0);
    assert_eq!(
        db.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'kid_email_fkey'"),
        "FOREIGN KEY (email) REFERENCES kinds(email) ON DELETE CASCADE"
    );
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(keys(&pool).await, before);

    // The scripts of a setup and of a teardown do the same.
    let print = |arguments: &[&str], name: &str| {
        let file = std::env::temp_dir().join(format!("tenancy-keys-{}-{name}.sql", std::process::id()));
        std::fs::write(&file, db.tenantctl(arguments).expect(0).stdout).unwrap();
        file
    };
    let set_up_again = print(&["rls", "setup", "--harden", "--print"], "setup");
    db.psql(&["--file", set_up_again.to_str().unwrap()]).expect(0);
    assert!(!set_up(&pool, &hardened()).await.unwrap().changed());
    std::fs::remove_file(set_up_again).unwrap();
}

#[tokio::test]
async fn the_script_of_a_teardown_does_the_same() {
    let db = Database::migrated().await;
    db.sql(KEYS);
    let pool = db.pool();
    let before = keys(&pool).await;
    set_up(&pool, &hardened()).await.unwrap();
    let file = std::env::temp_dir().join(format!("tenancy-keys-{}-teardown.sql", std::process::id()));
    std::fs::write(&file, db.tenantctl(&["rls", "teardown", "--print"]).expect(0).stdout).unwrap();
    db.psql(&["--file", file.to_str().unwrap()]).expect(0);
    std::fs::remove_file(file).unwrap();
    let after: Vec<_> = keys(&pool)
        .await
        .into_iter()
        .filter(|line| !before.contains(line) && !line.ends_with(" right"))
        .collect();
    assert_eq!(after, Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_carry_the_tenant_says_why() {
    let pool = platform(
        "CREATE EXTENSION btree_gist;
         CREATE TABLE nullable (tenant_id uuid, code text PRIMARY KEY);
         INSERT INTO nullable VALUES (NULL, 'a');
         CREATE TABLE referred (tenant_id uuid NOT NULL, code text UNIQUE, other text UNIQUE, fine text UNIQUE);
         CREATE TABLE \"no tenant\" (id int PRIMARY KEY, code text REFERENCES referred (code));
         CREATE TABLE refers (id int PRIMARY KEY, tenant_id uuid NOT NULL, fine text REFERENCES referred (fine),
                              other text REFERENCES referred (other) ON UPDATE SET NULL);
         CREATE TABLE grouped (tenant_id uuid NOT NULL, name text PRIMARY KEY, x text);
         CREATE VIEW by_name AS SELECT name, x FROM grouped GROUP BY name;
         CREATE TABLE excluded (tenant_id uuid NOT NULL, h text, EXCLUDE USING hash (h WITH =),
                                r text, EXCLUDE USING gist (tenant_id WITH <>, r WITH =));
         CREATE TABLE ident (tenant_id uuid NOT NULL, at date NOT NULL, UNIQUE (at)) PARTITION BY RANGE (at);
         CREATE TABLE ident_1 PARTITION OF ident FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         ALTER TABLE ident_1 REPLICA IDENTITY USING INDEX ident_1_at_key;",
    )
    .await;
    for table in ["referred", "refers"] {
        exec(&pool, format!("ALTER TABLE {table} ADD x text")).await;
    }
    exec(&pool, format!("INSERT INTO referred (tenant_id, fine) VALUES ('{A}', 'f'); INSERT INTO refers VALUES (1, '{B}', 'f')")).await;
    let done = set_up(&pool, &hardened()).await.unwrap();
    let reasons = |table: &str| -> Vec<String> {
        notes(&done, table)
            .iter()
            .filter_map(|note| note.strip_prefix("unique key "))
            .map(|note| note.replace(" does not carry the tenant, and cannot: ", ": "))
            .collect()
    };
    assert_eq!(
        reasons("public.nullable"),
        ["nullable_pkey: it is the primary key, and the tenant column is nullable"]
    );
    assert_eq!(
        reasons("public.referred"),
        [
            "referred_code_key: reference \"no tenant_code_fkey\" of public.\"no tenant\" cannot (public.\"no tenant\" is no tenant's table)",
            "referred_fine_key: reference refers_fine_fkey of public.refers cannot (1 row points at a row of another tenant \
             (SELECT c.* FROM public.refers c JOIN public.referred p ON c.fine = p.fine WHERE c.tenant_id IS DISTINCT FROM p.tenant_id))",
            "referred_other_key: reference refers_other_fkey of public.refers cannot (its ON UPDATE action would reset the tenant)",
        ]
    );
    assert_eq!(reasons("public.grouped"), ["grouped_pkey: view public.by_name depends on it"]);
    assert_eq!(
        reasons("public.excluded"),
        [
            "excluded_h_excl: an index of method hash has one column",
            "excluded_tenant_id_r_excl: it compares the tenant with another operator"
        ]
    );
    assert_eq!(reasons("public.ident"), ["ident_at_key: it is the replica identity of a partition"]);

    // What stays is a finding still, of these and no others.
    let report = verify(&pool.connect_options(), &Options::default()).await.unwrap();
    let mut found: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.check == "unique-crosses")
        .filter_map(|finding| finding.message.split_once(" does not")?.0.split(' ').next_back())
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "excluded_h_excl",
            "excluded_tenant_id_r_excl",
            "grouped_pkey",
            "ident_at_key",
            "nullable_pkey",
            "referred_code_key",
            "referred_fine_key",
            "referred_other_key"
        ]
    );
    // The reason gone, the key follows.
    exec(&pool, "DELETE FROM refers; DROP VIEW by_name").await;
    let done = set_up(&pool, &hardened()).await.unwrap();
    assert_eq!(notes(&done, "public.grouped").len(), 1);
    assert!(notes(&done, "public.grouped")[0].contains("holds within each tenant"));
    assert!(
        notes(&done, "public.referred")
            .iter()
            .any(|note| note.starts_with("unique key referred_fine_key holds"))
    );
}

#[tokio::test]
async fn an_owner_who_sees_no_rows_gives_back_what_it_can() {
    let db = Database::migrated().await;
    let role = format!("{}_keys", db.name);
    db.sql(&format!(
        "CREATE ROLE {role} LOGIN IN ROLE tenancy_owner;
         GRANT CREATE, USAGE ON SCHEMA public TO {role} WITH GRANT OPTION;
         SET SESSION AUTHORIZATION {role};
         CREATE TABLE own (id int PRIMARY KEY, tenant_id uuid, email text UNIQUE, name text UNIQUE)"
    ));
    let pool = db.pool();
    let mut connection = pool.acquire().await.unwrap();
    let become_it = format!("SET SESSION AUTHORIZATION {role}");
    sqlx::raw_sql(AssertSqlSafe(become_it.clone())).execute(&mut *connection).await.unwrap();
    let options = Setup { tables: vec!["own".into()], ..hardened() };
    setup(&mut connection, &options).await.unwrap();
    let definitions = "SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conname) FROM pg_constraint
                        WHERE conrelid = 'own'::regclass AND contype = 'u'";
    assert_eq!(db.sql(definitions), "UNIQUE (tenant_id, email); UNIQUE (tenant_id, name)");
    db.sql(
        "SET session_replication_role = replica;
         INSERT INTO own SELECT n, gen_random_uuid(), 'same', n FROM generate_series(1, 2) n",
    );
    let planned: Vec<String> = sqlx::query_scalar(
        "SELECT note FROM tenancy.removal('own') WHERE note LIKE '%cannot see all rows yet%'",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert_eq!(planned.len(), 1);
    let told: Vec<String> =
        sqlx::query_scalar("SELECT note FROM tenancy.dismantle('own') WHERE note LIKE 'unique key%'")
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with(
            "unique key own_email_key goes on carrying the tenant: tenants have a value in common"
        ),
        "{told:?}"
    );
    assert_eq!(db.sql(definitions), "UNIQUE (tenant_id, email); UNIQUE (name)");
    drop(connection);
    pool.close().await;
    db.sql(&format!("DROP OWNED BY {role} CASCADE; DROP TABLE IF EXISTS own; DROP ROLE {role}"));
}
