//! `--pgtap`: the proof as a test file that passes where nothing gets through, and fails where something does.

use std::path::Path;

use super::{HELPER, SCHEMA};
use crate::common::{self, Database};

/// As much of pgTAP as the file uses, for where the extension is not installed.
const STAND_IN: &str = "
CREATE SEQUENCE tap;
CREATE FUNCTION plan(n integer) RETURNS text LANGUAGE sql AS $$ SELECT '1..' || n $$;
CREATE FUNCTION ok(passed boolean, words text) RETURNS text LANGUAGE sql AS
    $$ SELECT concat(CASE WHEN passed THEN 'ok ' ELSE 'not ok ' END, nextval('public.tap'), ' - ', words) $$;
CREATE FUNCTION is(have text, want text, words text) RETURNS text LANGUAGE sql AS
    $$ SELECT public.ok(have IS NOT DISTINCT FROM want, words) $$;
CREATE FUNCTION isnt(have text, want text, words text) RETURNS text LANGUAGE sql AS
    $$ SELECT public.ok(have IS DISTINCT FROM want, words) $$;
CREATE FUNCTION matches(have text, pattern text, words text) RETURNS text LANGUAGE sql AS
    $$ SELECT public.ok(coalesce(have ~ pattern, false), words) $$;
CREATE FUNCTION skip(why text, how_many integer) RETURNS text LANGUAGE sql AS
    $$ SELECT public.ok(true, why) || ' # SKIP' $$;
CREATE FUNCTION finish() RETURNS SETOF text LANGUAGE sql AS $$ SELECT 'done' WHERE false $$;";

/// Runs the file; gives the descriptions of the tests that passed, and of those that failed.
fn prove(db: &Database, file: &Path) -> [Vec<String>; 2] {
    let file = file.display().to_string();
    let run = db.psql(&["--no-align", "--tuples-only", "--file", &file]).expect(0);
    let of = |start: &str| -> Vec<String> {
        let lines = run.stdout.lines().filter(|line| line.starts_with(start));
        lines.map(|line| line.split_once(" - ").map_or(line, |(_, words)| words).to_owned()).collect()
    };
    let results = [of("ok "), of("not ok ")];
    let planned = run.stdout.lines().find_map(|line| line.strip_prefix("1..")).expect("a plan");
    assert_eq!(planned, (results[0].len() + results[1].len()).to_string(), "{run:?}");
    results
}

#[tokio::test]
async fn the_test_file_passes_until_something_gets_through() {
    let db = Database::migrated().await;
    let odd = "CREATE TABLE public.\"o'dd é\" (\"it's\" uuid DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, PRIMARY KEY (tenant_id, \"it's\"));
               SELECT tenancy.test_protect('public.\"o''dd é\"')";
    for statements in [HELPER, SCHEMA, odd] {
        common::execute(&db.options, statements).await;
    }
    if db.sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgtap'") == "1" {
        db.sql("CREATE EXTENSION pgtap");
    } else {
        common::execute(&db.options, STAND_IN).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("isolation.sql");
    let argument = file.display().to_string();
    db.tenantctl(&["rls", "verify", "--pgtap", &argument]).expect(0);

    let [passed, failed] = prove(&db, &file);
    assert!(failed.is_empty(), "{failed:#?}");
    for table in ["public.events", "public.tickets", "public.\"o'dd é\""] {
        for what in ["SELECT", "INSERT of another tenant's row", "DELETE"] {
            let words = format!("{table}: {what} as tenancy_app in the context of tenant A");
            assert!(passed.contains(&words), "{words}: {passed:#?}");
        }
        // The control, without which silence would prove nothing.
        assert!(passed.contains(&format!("{table}: SELECT as tenancy_app in the context of tenant B")));
    }

    common::execute(
        &db.options,
        "DROP POLICY tenant_floor ON public.events; CREATE POLICY leak ON public.events FOR DELETE USING (true);
         ALTER TABLE public.tickets DISABLE ROW LEVEL SECURITY",
    )
    .await;
    let [passed, failed] = prove(&db, &file);
    for words in [
        "public.events: DELETE as tenancy_app in the context of tenant A",
        "public.tickets: SELECT as tenancy_app in the context of tenant A",
        "public.tickets: SELECT as tenancy_app without a context",
        "public.tickets: INSERT of another tenant's row as tenancy_app in the context of tenant A",
    ] {
        assert!(failed.iter().any(|line| line == words), "{words}: {failed:#?}");
    }
    assert!(passed.contains(&"public.events: SELECT as tenancy_app in the context of tenant A".to_owned()));
    assert!(failed.iter().all(|line| !line.contains("o'dd")), "{failed:#?}");
    assert_eq!(db.sql("SELECT count(*) FROM public.events"), "0");
}
