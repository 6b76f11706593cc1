//! The state of isolation with every name in it, to be compared.

use crate::common::Database;

/// What isolation is made of, with every name, and what was written down of it.
pub(super) fn state(db: &Database) -> String {
    db.sql(
        "SELECT format('%s %s %s %s %s', c.oid::regclass, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity,
                (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) a)) AS line
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('tenancy', 'information_schema')
         UNION ALL
         SELECT format('%s.%s %s %s', a.attrelid::regclass, a.attname, a.attnotnull,
                       (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(a.attacl) x))
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('tenancy', 'information_schema') AND c.relkind IN ('r', 'p')
            AND a.attnum > 0
         UNION ALL
         SELECT format('policy %s on %s %s', polname, polrelid::regclass, pg_get_expr(polqual, polrelid)) FROM pg_policy
          WHERE polrelid::regclass::text !~ '^tenancy[.]'
         UNION ALL
         SELECT format('constraint %s %s %s %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid), conislocal,
                       coninhcount, conparentid <> 0)
           FROM pg_constraint
          WHERE conrelid >= 16384 AND conrelid::regclass::text !~ '^tenancy[.]'
         UNION ALL
         SELECT format('index %s %s %s', pg_get_indexdef(i.indexrelid), i.indisvalid, c.relispartition)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          WHERE i.indrelid >= 16384 AND i.indrelid::regclass::text !~ '^(tenancy|pg_toast)[.]'
         UNION ALL
         SELECT format('schema %s %s', nspname, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(nspacl) a))
           FROM pg_namespace WHERE nspname !~ '^pg_'
         UNION ALL
         SELECT format('registered %s %s %s', relation, kind, tenant_column) FROM tenancy.protected_tables
         UNION ALL
         SELECT format('changed %s %s %s %s %s %s %s', relation, schema, kind, object, role, taken, detail)
           FROM tenancy.isolation_changes
         ORDER BY 1",
    )
}

/// Fails with the lines that only one of two states has.
#[track_caller]
pub(super) fn assert_same(found: &str, wanted: &str) {
    let only = |these: &str, those: &str| -> Vec<String> {
        these.lines().filter(|line| those.lines().all(|other| other != *line)).map(str::to_owned).collect()
    };
    assert_eq!(only(found, wanted), only(wanted, found));
    assert_eq!(found, wanted);
}
