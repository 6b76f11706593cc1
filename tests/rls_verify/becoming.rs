//! What the application role does as the roles that it can become.

use tenancy::rls::Severity::Error;
use tenancy::rls::report::Source;

use super::roles::Roles;
use super::{assert_found, assert_quiet, assert_silent};

#[tokio::test]
async fn roles_that_bypass_are_climbed_to() {
    let roles = Roles::new("ALTER ROLE $app NOINHERIT; GRANT $other TO $app; ALTER ROLE $other BYPASSRLS; GRANT SELECT ON public.events TO $other").await;
    let report = roles.verify().await;
    let finding = assert_found(&report, Error, "role-bypassrls", &roles.other);
    assert_eq!(finding.source, Source::Probe, "{finding:#?}");
    assert!(finding.evidence.contains("SET ROLE"), "{finding:#?}");
    assert!(finding.fix.starts_with("REVOKE"), "{finding:#?}");
    let roles = Roles::new("GRANT $other TO $app; ALTER ROLE $other SUPERUSER").await;
    let report = roles.verify().await;
    assert_eq!(assert_found(&report, Error, "role-superuser", &roles.other).source, Source::Probe);
    // It bypasses what it has no right to: the attribute is amiss, and nothing gets through.
    let roles = Roles::new("GRANT $other TO $app; ALTER ROLE $other BYPASSRLS").await;
    let report = roles.verify().await;
    assert_eq!(assert_found(&report, Error, "role-bypassrls", &roles.other).source, Source::Catalog);
}

/// A function that only `$other` may call.
const FUNCTIONS: &str = "
    CREATE FUNCTION public.all_titles() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT title FROM public.events';
    CREATE PROCEDURE public.wipe() LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM public.tickets';
    REVOKE EXECUTE ON ROUTINE public.all_titles, public.wipe FROM PUBLIC;
    GRANT EXECUTE ON ROUTINE public.all_titles, public.wipe TO $other;";

#[tokio::test]
async fn functions_are_called_as_the_roles_that_may() {
    let roles = Roles::new(&format!("ALTER ROLE $app NOINHERIT; GRANT $other TO $app; {FUNCTIONS}")).await;
    let report = roles.verify().await;
    for name in ["public.all_titles()", "public.wipe()"] {
        let finding = assert_found(&report, Error, "function-definer", name);
        assert_eq!(finding.source, Source::Probe, "{finding:#?}");
        assert!(finding.evidence.contains(&format!("as {}", roles.other)), "{finding:#?}");
    }
    let report = Roles::new(FUNCTIONS).await.verify().await;
    assert_quiet(&report);
    assert_silent(&report, "function-definer");
}
