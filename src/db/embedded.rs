//! A private PostgreSQL server run from the binaries on this machine.

/// What can go wrong with an embedded server.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct Error;
impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> crate::ErrorKind {
        crate::ErrorKind::Unexpected
    }
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
/// Stand-in.
#[derive(Default)]
pub struct Request { 
/// a
pub bin_dir: Option<std::path::PathBuf>, 
/// b
pub major: Option<u16> }
