//! Hardening makes unique keys carry the tenant, with what refers to them, and a teardown gives the old ones back.

use tenancy::rls::{Options, Severity};

use super::*;
use crate::common::{Database, verify};

/// Every sort of unique key, on plain tables, on partitioned ones and on those whose names are a nuisance.
const KEYS: &str = r#"
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

#[tokio::test]
async fn keys_of_every_sort_carry_the_tenant() {
    let db = Database::with_acme("free").await;
    let pool = db.pool();
    exec(&pool, KEYS).await;
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
    for (name, definition) in [
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
    ] {
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
