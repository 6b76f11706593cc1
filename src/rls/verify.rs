//! stand-in until merge
use crate::rls::report::{Report, Severity};
use sqlx::postgres::PgConnectOptions;
/// x
#[derive(Debug, Clone)]
pub struct Options {
    /// x
    pub roles: Vec<String>,
    /// x
    pub tables: Vec<String>,
    /// x
    pub checks: Vec<String>,
    /// x
    pub probes: bool,
    /// x
    pub strict: bool,
    /// x
    pub fail_on: Severity,
    /// x
    pub lock_timeout: std::time::Duration,
    /// x
    pub statement_timeout: std::time::Duration,
}
impl Default for Options {
    fn default() -> Self {
        Self {
            roles: vec![],
            tables: vec![],
            checks: vec![],
            probes: true,
            strict: false,
            fail_on: Severity::Warning,
            lock_timeout: std::time::Duration::ZERO,
            statement_timeout: std::time::Duration::ZERO,
        }
    }
}
/// x
pub async fn verify(_c: &PgConnectOptions, _o: &Options, _p: &dyn Fn(usize, usize)) -> crate::Result<Report> {
    Err(crate::Error::NoDatabase)
}
